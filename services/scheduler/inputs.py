"""What one partition reads: mail.outcomes, mail.deliveries of each class, and of those again what was parked in the log.

Positions are the truth of mail.state: where each input is read to, as of the records that were given out. Intake of a class pauses when it
fills its share of the memory; Kafka keeps the backlog. Before that, what would fill it is parked, and read again by the scan beside the
input when it has room (``policy.parking``): a portion a round, never past the position of the input.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from structlog.typing import FilteringBoundLogger

from services.scheduler.policy.ledger import Ledger
from shared.kafka.cluster import SEEK_FETCH_WAIT_MS, Cluster
from shared.kafka.reader import Reader, Received
from shared.records.topics import CLASSES, Topics
from shared.runtime.clock import Clock

#: Directives, settings and slots are looked at so often although nothing comes; and answers that were asked for, more often.
_IDLE_MS: Final = 250
_ASKED_MS: Final = 50
_MS: Final = 1_000_000
_GATHER_NS: Final = 100 * _MS
#: Records of one portion of a scan, and how long it is waited for beside the input.
_PORTION: Final = 1000
_PORTION_MS: Final = 20
_TELL_NS: Final = 10_000 * _MS


@dataclass(slots=True)
class Inputs:
    """One partition's inputs."""

    partition: int
    ledger: Ledger
    topics: Topics
    cluster: Cluster
    clock: Clock
    log: FilteringBoundLogger
    #: Topic name without prefix -> next offset.
    positions: dict[str, int] = field(default_factory=dict)
    _reader: Reader | None = None
    _scanner: Reader | None = None
    _paused: set[str] = field(default_factory=set)
    #: Units that were parked when it was said last, and when that was.
    _told: int = 0
    _told_ns: int = -_TELL_NS

    # -- life

    async def open(self, positions: Mapping[str, int]) -> None:
        """Read on from ``positions``, and from its start where there is none."""
        self.positions = dict(positions)
        names = self.names()
        starts = await self.cluster.start_offsets(
            [(topic, self.partition) for topic in names.values()]
        )
        self._reader = await self.cluster.reader(
            {
                (topic, self.partition): self.positions.get(name, starts[topic, self.partition])
                for name, topic in names.items()
            }
        )

    async def close(self) -> None:
        """Close the readers."""
        for reader in (self._reader, self._scanner):
            if reader is not None:
                await reader.stop()

    def names(self) -> dict[str, str]:
        """Name the inputs without the prefix, as mail.state does, and with it."""
        return {"outcomes": self.topics.outcomes} | {
            f"deliveries.{c}": self.topics.deliveries(c) for c in CLASSES
        }

    def read(self) -> dict[str, int]:
        """Say how far each class's input is read."""
        return {class_: self.positions.get(f"deliveries.{class_}", 0) for class_ in CLASSES}

    def passed(self, record: Received) -> str | None:
        """Note that a record was given out; gives its class, None for mail.outcomes."""
        if record.topic == self.topics.outcomes:
            self.positions["outcomes"] = record.offset + 1
            return None
        class_ = self.topics.class_of(record.topic)
        self.positions[f"deliveries.{class_}"] = record.offset + 1
        return class_

    # -- the input

    async def gather(self, most: int, *, asked: bool = False) -> list[Received]:
        """Wait for something to decide about; where it is only outcomes, a little longer for more of them.

        ``asked``: domains are being resolved, and their answers should not wait long.

        A transaction costs the same whatever is in it, and outcomes trickle in as the senders finish. Nobody waits for them: the senders
        have seconds of grants in hand. New mail, or a delivery that falls due, ends the waiting at once.
        """
        reader, idle_ms = self._running(), _ASKED_MS if asked else _IDLE_MS
        batch = await reader.poll(max_records=most, wait_ms=self._patience(idle_ms))
        until = self.clock.mono_ns() + _GATHER_NS
        came = batch
        while batch and len(batch) < most and self.only_outcomes(came):
            left_ms = min((until - self.clock.mono_ns()) // _MS, self._patience(idle_ms))
            if left_ms <= 1:
                break
            came = await reader.poll(max_records=most - len(batch), wait_ms=left_ms)
            batch += came
        return batch

    def only_outcomes(self, records: Iterable[Received]) -> bool:
        """Say whether nothing but mail.outcomes was read."""
        return all(record.topic == self.topics.outcomes for record in records)

    def _patience(self, idle_ms: int) -> int:
        if any(self.ledger.intake.parking.scanning(class_) for class_ in CLASSES):
            return 1
        due_ms = (self.ledger.next_ns() - self.clock.now_ns()) // _MS
        return int(max(1, min(idle_ms, due_ms)))

    def throttle(self) -> None:
        """Pause the intake of a class that fills its share of the memory.

        Not while a lane is awaited: the hand-over record may lie behind deliveries that can only go when it is read.
        """
        awaiting, intake = bool(self.ledger.awaited()), self.ledger.intake
        for class_ in CLASSES:
            here = self.topics.deliveries(class_), self.partition
            said = {
                "partition": self.partition,
                "mail_class": class_,
                "deliveries": self.ledger.count(class_),
            }
            if class_ not in self._paused and intake.full(class_) and not awaiting:
                self._running().pause(here)
                self._paused.add(class_)
                self.log.warning("intake_paused", **said)
            elif class_ in self._paused and (intake.easy(class_) or awaiting):
                self._running().resume(here)
                self._paused.discard(class_)
                self.log.info("intake_resumed", **said)

    # -- the scan

    async def scan(self, most: int) -> list[Received]:
        """Give a portion of what a scan has come by, none where nothing is parked or nothing has room."""
        for class_ in CLASSES:
            first = self.ledger.intake.scan_from(class_)
            if first is not None:
                await self._seek(class_, first)
        if self._scanner is None or not any(map(self.ledger.intake.parking.scanning, CLASSES)):
            return []
        return await self._scanner.poll(max_records=min(most, _PORTION), wait_ms=_PORTION_MS)

    def scanned(self) -> None:
        """End the scans that have come to where the input is read, or can take no more; after their records were digested."""
        parking = self.ledger.intake.parking
        for class_ in CLASSES:
            if self._scanner is None or not parking.scanning(class_):
                continue
            here = self.topics.deliveries(class_), self.partition
            reached = self._scanner.position(here) >= self.read()[class_]
            if reached or parking.hopeless(class_):
                self._scanner.pause(here)
                parking.end(class_, reached=reached)
        self._tell()

    def _tell(self) -> None:
        """Log what is parked when it has changed, now and then: with many small destinations it changes all the time."""
        now, units = self.clock.mono_ns(), len(self.ledger.intake.parking)
        if units == self._told or now < self._told_ns + _TELL_NS:
            return
        self._told, self._told_ns = units, now
        if not units:
            self.log.info("unparked", partition=self.partition)
            return
        unit, _ = most = max(self.ledger.intake.parking.counts(), key=lambda each: each[1])
        self.log.warning(
            "parked",
            partition=self.partition,
            units=units,
            mail_class=unit.class_,
            pool=unit.pool,
            destination=unit.destination,
            tenant=unit.tenant,
            deliveries=most[1],
        )

    def before(self, record: Received) -> bool:
        """Say whether the input is past a record that a scan has come by: what lies behind is the input's."""
        return record.offset < self.read()[self.topics.class_of(record.topic)]

    async def _seek(self, class_: str, offset: int) -> None:
        here = self.topics.deliveries(class_), self.partition
        if self._scanner is None:
            places = [(self.topics.deliveries(each), self.partition) for each in CLASSES]
            self._scanner = await self.cluster.reader(
                dict.fromkeys(places, offset), fetch_wait_ms=SEEK_FETCH_WAIT_MS
            )
            for place in places:
                self._scanner.pause(place)
        self._scanner.seek(here, offset)
        self._scanner.resume(here)

    def _running(self) -> Reader:
        if self._reader is None:
            raise RuntimeError("open() comes first")
        return self._reader
