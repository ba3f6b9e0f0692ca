"""One ingest partition: fence -> committed offsets -> rounds, each round one transaction.

    take -> read (pure) -> resolve, for at most 1 s -> encode (pure) -> begin, write, commit

It owns its index of both submission topics. What a crash does: before the commit nothing happened, and the next owner reads the same
records again; after it everything did, the offsets with it. Between begin and commit nothing is awaited but Kafka. A failed commit ends the
worker; the next one fences anew and begins at what was committed.

No record stops the partition: what cannot be read or accepted goes to mail.rejected in the same transaction, and so does a record that a
bug of ours cannot digest. A record that breaks the transaction itself is found by ever smaller rounds (``suspicion``).

Kafka forgets the offset of a topic in which nothing was committed for ``offsets.retention.minutes`` (7 days), whoever reads it, and
mail.submissions keeps its records for longer: the next worker would begin at the log's start and accept a second time what was sent, or has
expired by now (``lifetime``). So offsets are committed anew now and then, also where nothing comes.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from structlog.typing import FilteringBoundLogger

from services.ingest.doors.kafka import Door, open_door
from services.ingest.intake import (
    Draft,
    Duplicate,
    Home,
    Outcome,
    Refusal,
    Source,
    Stray,
    key_of,
    read,
)
from services.ingest.keys import Keys, Taken, fingerprint
from services.ingest.meters import Meters
from services.ingest.problem import Problem
from services.ingest.resolving import Resolving
from services.ingest.restoring import restore
from services.ingest.route import Resolved
from services.ingest.writes import STRAYED, Writer, Writes
from shared.kafka.cluster import Cluster, Position
from shared.kafka.partitioner import partition_of
from shared.kafka.reader import Place, Received
from shared.kafka.suspicion import Suspicion
from shared.kafka.transactor import Round, Transactor
from shared.protocol.control import ControlView
from shared.records.access import group
from shared.records.lanemap import LaneMap
from shared.records.submission import SUBMISSION, Submission
from shared.records.topics import CLASSES, Topics
from shared.runtime.clock import Clock
from shared.runtime.settings import Settings

GROUP: Final = group("ingest")
#: What a round may write: it must be committed within the transaction's time-out.
_WRITE_BYTES: Final = 32 << 20
_S: Final = 1_000_000_000
_MS: Final = 1_000_000
#: No stamp in milliseconds has more.
_MS_DIGITS: Final = 15
#: No offset is committed longer ago than this, or a little more.
RENEW_NS: Final = 3_600 * _S

Read = Callable[[Source, bytes | None, Settings, int, Home], Draft | Refusal | Stray]


@dataclass(slots=True)
class Shell:
    """What a worker needs of its process."""

    settings: Settings
    topics: Topics
    cluster: Cluster
    view: ControlView
    resolving: Resolving
    clock: Clock
    log: FilteringBoundLogger
    meters: Meters
    #: The pure steps.
    read: Read = read

    @property
    def group(self) -> str:
        """Name the group whose offsets these are."""
        return f"{self.topics.prefix}{GROUP}"


class _Step(NamedTuple):
    record: Received
    source: Source
    outcome: Draft | Refusal | Stray


class Worker:
    """Run one partition until it is cancelled or fails."""

    def __init__(self, partition: int, shell: Shell, suspicion: Suspicion) -> None:
        """``suspicion`` outlives the worker; everything else begins anew."""
        self.partition, self._shell, self._suspicion = partition, shell, suspicion
        self._settings = shell.settings
        self._writer = Writer(shell.settings, shell.topics, partition)
        self.door: Door | None = None
        self.committed_ns: int | None = None
        #: As they are after the last round; ahead of the log when that one fails, and with it this worker.
        self.keys = Keys()
        #: Where each input goes on, as far as anything was ever committed of it; and when all of them were committed last.
        self._positions: dict[Place, int] = {}
        self._renewed_ns: int | None = None

    def __repr__(self) -> str:
        """Name the partition."""
        return f"<Worker {self.partition}>"

    async def run(self) -> None:
        """Fence the older owner, go to what it committed, then accept round after round."""
        shell = self._shell
        transactor = await shell.cluster.transactor(f"{shell.group}-{self.partition}")
        try:
            places = [(shell.topics.submissions(class_), self.partition) for class_ in CLASSES]
            committed = await shell.cluster.committed(shell.group, places)
            self._positions = {place: at for place, at in committed.items() if at is not None}
            positions: dict[Place, Position] = {
                place: "start" if (at := committed[place]) is None else at for place in places
            }
            here = (shell.topics.keys, self.partition)
            await restore(self.keys, shell.cluster, here, shell.clock)
            door = self.door = await open_door(
                shell.cluster, shell.topics, self.partition, positions
            )
            try:
                shell.log.info("partition_running", partition=self.partition, keys=len(self.keys))
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(door.pump())
                    tasks.create_task(self._rounds(door, transactor))
            finally:
                self.door = None
                await door.close()
        finally:
            try:
                await transactor.stop()
            finally:
                # At last: metrics ask for them as long as the worker is there.
                self.keys.close()

    async def _rounds(self, door: Door, transactor: Transactor) -> None:
        while True:
            batch = await self._take(door)
            if not batch:
                await self._renew(transactor)
                continue
            self._adopt()
            steps = self._read(batch, door)
            marks = [(step.record.topic, step.record.offset) for step in steps]
            try:
                await self._round(steps, transactor)
            except BaseException as error:
                self._suspicion.learn(marks, error)
                raise
            self._suspicion.passed(marks)

    async def _take(self, door: Door) -> list[Received]:
        """Wait for the records of a round; none, where nothing has come until the offsets must be committed anew."""
        try:
            async with asyncio.timeout(self._renewal_ns() / _S):
                return await door.take(self._suspicion.limit)
        except TimeoutError:
            return []

    def _renewal_ns(self) -> int:
        """Say in how long the offsets of all inputs must be committed anew: a new worker does not know how old they are."""
        if self._renewed_ns is None:
            return 0
        return max(0, self._renewed_ns + RENEW_NS - self._shell.clock.mono_ns())

    async def _renew(self, transactor: Transactor) -> None:
        """Commit the offsets of all inputs once more."""
        if self._positions:
            async with transactor.round() as round_:
                round_.commit_offsets(self._shell.group, self._positions)
        self._renewed_ns = self._shell.clock.mono_ns()

    def _adopt(self) -> None:
        """Take changed settings over: between rounds, so that a round is all under one of them."""
        if self._settings is not self._shell.settings:
            self._settings = self._shell.settings
            self._writer = Writer(self._settings, self._shell.topics, self.partition)

    # -- before the transaction

    def _read(self, batch: list[Received], door: Door) -> list[_Step]:
        """Read as many records as one round may write; the others go back."""
        now, inline_max = self._shell.clock.now_ns(), self._settings.ingest.inline_max
        steps: list[_Step] = []
        cost = 0
        for at, record in enumerate(batch):
            step = self._step(record, now)
            match step.outcome:
                case Draft() as draft:
                    cost += draft.cost_bytes(inline_max)
                case Stray():
                    cost += len(record.value or b"")
                case Refusal():
                    pass
            if steps and cost > _WRITE_BYTES:
                door.put_back(batch[at:])
                break
            steps.append(step)
        return steps

    def _step(self, record: Received, now_ns: int) -> _Step:
        class_ = self._shell.topics.class_of(record.topic)
        source = Source(
            record.topic,
            record.partition,
            record.offset,
            record.timestamp,
            class_,
            _strayed_ms(record),
        )
        if (record.topic, record.offset) in self._suspicion.bad:
            refusal = _internal(source, record.value, "this record alone breaks the round")
            return _Step(record, source, refusal)
        try:
            outcome = self._shell.read(source, record.value, self._settings, now_ns, self._home)
        except Exception as error:  # noqa: BLE001 - a bug of ours on one record must not stop all others behind it
            outcome = self._bug(source, record.value, error)
        return _Step(record, source, outcome)

    def _home(self, key: bytes) -> int:
        """Give the partition that a key belongs to."""
        return partition_of(key, self._settings.kafka.partitions)

    def _bug(self, source: Source, value: bytes | None, error: Exception) -> Refusal:
        self._shell.log.error(
            "record_not_digested",
            exc_info=error,
            topic=source.topic,
            partition=source.partition,
            offset=source.offset,
        )
        return _internal(source, value, type(error).__name__)

    async def _round(self, steps: list[_Step], transactor: Transactor) -> None:
        shell = self._shell
        resolved = await shell.resolving.resolve(self._domains(steps))
        lanes = shell.view.lane_map
        if lanes is None:
            raise RuntimeError("a worker runs only where there is a lane map")
        now = shell.clock.now_ns()
        self.keys.forget(now // _MS)
        encoded = [self._encode(step, lanes, resolved, now) for step in steps]
        passed = _next(steps)
        after, renews = self._positions | passed, self._renewal_ns() == 0
        async with transactor.round() as round_:
            for _, writes in encoded:
                await self._send(round_, writes)
            round_.commit_offsets(shell.group, after if renews else passed)
        self._positions, self.committed_ns = after, shell.clock.now_ns()
        if renews:
            self._renewed_ns = shell.clock.mono_ns()
        shell.meters.count(outcome for outcome, _ in encoded)

    def _domains(self, steps: list[_Step]) -> set[str]:
        smarthost = self._settings.smarthost
        return {
            recipient.address.domain
            for step in steps
            if isinstance(step.outcome, Draft) and smarthost(step.outcome.envelope.pool) is None
            for recipient in step.outcome.envelope.recipients
        }

    def _encode(
        self, step: _Step, lanes: LaneMap, resolved: Mapping[str, Resolved], now_ns: int
    ) -> tuple[Outcome, Writes]:
        """Encode what becomes of a record; a draft that cannot be written becomes a refusal."""
        outcome, record = step.outcome, step.record
        if isinstance(outcome, Stray):
            return outcome, self._writer.forwarded(outcome, record.value or b"", record.key)
        value = record.value or b""
        try:
            decided = self._decide(outcome, value, lanes, resolved, now_ns)
        except Exception as error:  # noqa: BLE001 - as in _step
            decided = self._bug(step.source, record.value, error)
        if isinstance(decided, Refusal):
            return self._rejected(decided, record.value, now_ns)
        return decided

    def _decide(
        self,
        outcome: Draft | Refusal,
        value: bytes,
        lanes: LaneMap,
        resolved: Mapping[str, Resolved],
        now_ns: int,
    ) -> tuple[Draft | Duplicate, Writes] | Refusal:
        """Encode a draft, and take its key. One whose key was taken has ended as what it was then, whatever it would be by now."""
        key, submission = key_of(outcome), outcome.submission
        if key is not None and submission is not None:
            earlier = self.keys.find(key)
            if earlier is not None:
                return self._again(outcome.source, submission, value, earlier, now_ns)
        if isinstance(outcome, Refusal):
            return outcome
        writes = self._writer.accepted(outcome, lanes, resolved, now_ns)
        if isinstance(writes, Problem):
            return Refusal(outcome.source, "too_large", (writes,), outcome.submission)
        if key is not None:
            taken = Taken(outcome.source.class_, outcome.source.offset, fingerprint(value))
            writes.records.append(self._writer.taken(key, taken))
            self.keys.take(key, taken, now_ns // _MS)
        return outcome, writes

    def _again(
        self, source: Source, submission: Submission, value: bytes, earlier: Taken, now_ns: int
    ) -> tuple[Duplicate, Writes] | Refusal:
        """Say of a record whose key was taken that it came before, or that the key is another submission's."""
        topic = self._shell.topics.submissions(earlier.class_)
        place = f"{topic}-{self.partition}-{earlier.offset}"
        if earlier.fingerprint != fingerprint(value):
            rule = f"was given within a day to another submission, {place}"
            return Refusal(source, "conflict", (Problem("id", rule),), submission)
        duplicate = Duplicate(source, submission, place)
        return duplicate, self._writer.duplicate(duplicate, now_ns)

    def _rejected(
        self, refusal: Refusal, value: bytes | None, now_ns: int
    ) -> tuple[Refusal, Writes]:
        """Encode a refusal; what of the record itself cannot be told is left out, for nothing may keep it from being rejected."""
        try:
            writes = self._writer.rejected(refusal, value, now_ns)
        except Exception as error:  # noqa: BLE001 - as in _step
            self._bug(refusal.source, None, error)
            # Of the place and our own words alone.
            bare = Problem("record", type(error).__name__)
            refusal = Refusal(refusal.source, "internal", (bare,))
            writes = self._writer.rejected(refusal, value, now_ns)
        self._shell.log.info(
            "record_rejected",
            topic=refusal.source.topic,
            partition=refusal.source.partition,
            offset=refusal.source.offset,
            reason=refusal.reason,
            field=refusal.problems[0].field if refusal.problems else "",
        )
        return refusal, writes

    # -- inside the transaction

    async def _send(self, round_: Round, writes: Writes) -> None:
        if writes.stored is not None:
            body = writes.stored.body
            offset = await round_.send_and_place(body.topic, body.partition, body.value, body.key)
            for write in writes.stored.referring(offset):
                await round_.send(*write)
        for write in writes.records:
            await round_.send(*write)


def _internal(source: Source, value: bytes | None, detail: str) -> Refusal:
    # Its sender should hear of it, where the line at least can be read.
    try:
        line = SUBMISSION.decode(value)
    except Exception:  # noqa: BLE001 - what breaks the record may be what breaks this, and then it would come back for ever
        line = None
    submission = line if isinstance(line, Submission) else None
    return Refusal(source, "internal", (Problem("record", detail),), submission)


def _strayed_ms(record: Received) -> int | None:
    """Say when Kafka took what another worker forwarded; None: nobody did."""
    for name, value in record.headers:
        if name == STRAYED and value and value.isdigit() and len(value) <= _MS_DIGITS:
            return int(value)
    return None


def _next(steps: list[_Step]) -> dict[Place, int]:
    """Give the offsets to go on from: the steps are in each topic's order."""
    return {(step.record.topic, step.record.partition): step.record.offset + 1 for step in steps}
