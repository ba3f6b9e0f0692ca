"""What one partition reads: mail.outcomes, mail.deliveries of each class, and of those again what was parked in the log.

Positions are the truth of mail.state: where each input is read to, as of the records that were given out. Intake of a class pauses when it
fills its share of the memory; Kafka keeps the backlog. Before that, what would fill it is parked, and read again by the scan beside the
input when it has room (``policy.parking``): a portion a round, never past the position of the input.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from structlog.typing import FilteringBoundLogger

from services.scheduler.policy.ledger import Ledger
from shared.kafka.cluster import PATIENT_FETCH_WAIT_MS, SEEK_FETCH_WAIT_MS, Cluster
from shared.kafka.reader import Reader, Received
from shared.records.topics import CLASSES, Topics
from shared.runtime.clock import Clock

_OUTCOMES: Final = "outcomes"
_MS: Final = 1_000_000
_S: Final = 1_000_000_000
#: Answers of name servers are looked for so often.
_ASKED_NS: Final = 50 * _MS
_POLL_MS: Final = 1_000
#: The answer of a broker that has more.
_REST_MS: Final = 3
#: Fewer records than there are inputs.
_FEW: Final = 1 + len(CLASSES)
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
    #: By name.
    _readers: dict[str, Reader] = field(default_factory=dict)
    #: Polls of mail that are under way, or done and not given out, by class.
    _polls: dict[str, asyncio.Task[list[Received]]] = field(default_factory=dict)
    #: More outcomes were there than a round took.
    _behind: bool = False
    #: Of small rounds, whether outcomes come first.
    _turn: bool = False
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
        try:
            for name, topic in names.items():
                here = topic, self.partition
                self._readers[name] = await self.cluster.reader(
                    {here: self.positions.get(name, starts[here])},
                    fetch_wait_ms=PATIENT_FETCH_WAIT_MS,
                )
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the readers."""
        polls = list(self._polls.values())
        for poll in polls:
            poll.cancel()
        await asyncio.gather(*polls, return_exceptions=True)
        for reader in (*self._readers.values(), self._scanner):
            if reader is not None:
                await reader.stop()

    def names(self) -> dict[str, str]:
        """Name the inputs without the prefix, as mail.state does, and with it."""
        return {_OUTCOMES: self.topics.outcomes} | {
            f"deliveries.{c}": self.topics.deliveries(c) for c in CLASSES
        }

    def read(self) -> dict[str, int]:
        """Say how far each class's input is read."""
        return {class_: self.positions.get(f"deliveries.{class_}", 0) for class_ in CLASSES}

    def passed(self, record: Received) -> str | None:
        """Note that a record was given out; gives its class, None for mail.outcomes."""
        if record.topic == self.topics.outcomes:
            self.positions[_OUTCOMES] = record.offset + 1
            return None
        class_ = self.topics.class_of(record.topic)
        self.positions[f"deliveries.{class_}"] = record.offset + 1
        return class_

    # -- the input

    async def gather(self, most: int, *, asked: bool = False) -> list[Received]:
        """Wait for something to decide about, then give at most so many records.

        New mail ends the waiting, and so does what the ledger has to do. Else outcomes are gathered: nobody waits for them while the
        senders have grants in hand (``policy.gathering``). ``asked``: domains are being resolved, and their answers should not wait long.
        """
        if most < _FEW:
            # One record is looked for that breaks its round: nothing stands before the others for ever.
            self._turn = not self._turn
            if self._turn and (found := await self._outcomes(most, rest=False)):
                return found
        found = await self._mail(most, 0.0 if self._behind else self._patience_s(asked=asked))
        return found + await self._outcomes(most - len(found), rest=not found)

    def only_outcomes(self, records: Iterable[Received]) -> bool:
        """Say whether nothing but mail.outcomes was read."""
        return all(record.topic == self.topics.outcomes for record in records)

    def _patience_s(self, *, asked: bool) -> float:
        if any(self.ledger.intake.parking.scanning(class_) for class_ in CLASSES):
            return _MS / _S
        begin_ns = self.ledger.begin_ns() - self.clock.now_ns()
        longest_ns = _ASKED_NS if asked else self.ledger.gather_ns()
        return max(_MS, min(begin_ns, longest_ns)) / _S

    async def _mail(self, most: int, wait_s: float) -> list[Received]:
        """Give what has come of the classes that are not paused, waiting for the first of it.

        Each class has a reader of its own: a client asks a broker for nothing else while it waits for an answer, so one class's backlog
        would stand still whenever another has no mail. A poll goes on when the round begins without it.
        """
        classes = [class_ for class_ in CLASSES if class_ not in self._paused]
        polls = {class_: self._poll(class_, max(1, 3 * most // 8)) for class_ in classes}
        if not polls:
            await self.clock.sleep(wait_s)
            return []
        done, _ = await asyncio.wait(
            polls.values(), timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
        )
        found: list[Received] = []
        for class_, poll in polls.items():
            if poll in done and len(found) < most:
                del self._polls[class_]
                found += poll.result()
        return found

    def _poll(self, class_: str, most: int) -> asyncio.Task[list[Received]]:
        if class_ not in self._polls:
            reader = self._running(f"deliveries.{class_}")
            self._polls[class_] = asyncio.create_task(
                reader.poll(max_records=most, wait_ms=_POLL_MS)
            )
        return self._polls[class_]

    async def _outcomes(self, most: int, *, rest: bool) -> list[Received]:
        """Give what has come of mail.outcomes; with ``rest`` all of it.

        What a client has at hand is what had come when the first of it did, for it asks for more only when that is taken; the rest is an
        answer away. So a round costs two fetches, however many outcomes trickled in before it.
        """
        found: list[Received] = []
        reader = self._running(_OUTCOMES)
        for wait_ms in (0, _REST_MS) if rest else (0,):
            if len(found) < most:
                came = await reader.poll(max_records=most - len(found), wait_ms=wait_ms)
                found += came
                if not came:
                    break
        self._behind = len(found) >= most
        return found

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
                self._running(f"deliveries.{class_}").pause(here)
                self._paused.add(class_)
                self.log.warning("intake_paused", **said)
            elif class_ in self._paused and (intake.easy(class_) or awaiting):
                self._running(f"deliveries.{class_}").resume(here)
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

    def _running(self, name: str) -> Reader:
        if name not in self._readers:
            raise RuntimeError("open() comes first")
        return self._readers[name]
