"""One scheduler partition: fence -> restore -> rounds, each round one transaction.

    poll outcomes and deliveries, scan -> ledger (pure) -> bodies of what was granted -> begin, write, commit -> trim

What a crash does: before the commit nothing happened, and the next owner reads the same records again; after it everything did. A
failed commit ends the worker: memory may be ahead of the log, so it is thrown away and read back by the next one. Between begin and
commit nothing is awaited but Kafka; names are resolved beside the rounds, and their answers are an input of a later one.

While the process's clock is not known to fit (by the partition's own marks) there are no rounds at all: a clock that is ahead would
expire mail that has time left, and write a ``now`` into mail.state that no later owner may go behind.

No record stops the partition (``feeding``). One that breaks its round later on is found by ever smaller rounds (``suspicion``). The first
round has no records: where what was restored breaks a round by itself, none of those that come is to blame.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from structlog.typing import FilteringBoundLogger

from services.scheduler import changelog, collecting
from services.scheduler.bodies import Bodies, BodyLost, Place
from services.scheduler.feeding import Feeding
from services.scheduler.inputs import Inputs
from services.scheduler.marks import Marks
from services.scheduler.policy.announce import event_key
from services.scheduler.policy.decisions import Decisions
from services.scheduler.policy.ledger import Ledger
from services.scheduler.refusing import Undigested
from services.scheduler.reputation import tell_reputation
from services.scheduler.resolving import Resolving
from services.scheduler.rewriting import forwarded_value, grant_value, straggler_value
from services.scheduler.saying import Saying
from services.scheduler.trimming import Trimming
from services.scheduler.warming import tell_spilled, tell_warmups
from shared.kafka.cluster import Cluster
from shared.kafka.errors import KafkaTrouble
from shared.kafka.kept import Kept
from shared.kafka.reader import Received
from shared.kafka.suspicion import Mark, Suspicion
from shared.kafka.transactor import Round, Transactor
from shared.protocol.clockbound import HeldClock
from shared.protocol.control import ControlView
from shared.records.access import group
from shared.records.codec import NewerRecord, encode
from shared.records.event import Configured, Event
from shared.records.state import DeliveryState
from shared.records.topics import CLASSES, Topics
from shared.runtime.clock import Clock
from shared.runtime.settings import Settings

GROUP: Final = group("scheduler")
MAX_RECORDS: Final = 2000
_MAX_GRANTS: Final = 1000
_ROUND_BYTES: Final = 16 << 20
_UNFIT_S: Final = 0.1
_MS: Final = 1_000_000
_S: Final = 1_000_000_000
#: How often the group is told how far the partition is: for tools alone, since mail.state holds what counts.
_TELL_GROUP_NS: Final = 1 * _S
#: How long a partition may read what changes nothing, its own marks above all, before it commits how far it is.
_UNCOMMITTED_NS: Final = 10 * _S


@dataclass(slots=True)
class Shell:
    """What a worker needs of its process."""

    settings: Settings
    topics: Topics
    cluster: Cluster
    marks: Marks
    saying: Saying
    view: ControlView
    resolving: Resolving
    clock: Clock
    rng: random.Random
    log: FilteringBoundLogger
    #: Is told of every event that was committed.
    count: Callable[[Event], None]
    #: Where the settings are from.
    configured: Configured | None = None


class Worker:
    """Run one partition until it is cancelled or fails."""

    def __init__(self, partition: int, shell: Shell, suspicion: Suspicion) -> None:
        """``suspicion`` outlives the worker; everything else begins anew."""
        self.partition, self._shell, self._suspicion = partition, shell, suspicion
        self.ledger = Ledger(partition, shell.settings, shell.view, shell.rng, shell.configured)
        self.committed_ns: int | None = None
        self.clock = HeldClock()
        self._bodies = Bodies(
            shell.cluster, partition, Kept(shell.settings.scheduler.body_cache_bytes)
        )
        self._trimming = Trimming(
            partition,
            self.ledger,
            shell.topics,
            shell.cluster,
            shell.clock,
            shell.log,
            shell.settings.scheduler.straggler_span,
        )
        self._inputs = Inputs(
            partition, self.ledger, shell.topics, shell.cluster, shell.clock, shell.log
        )
        self._feeding = Feeding(
            self.ledger, shell.topics, self._inputs, self._bodies.kept, suspicion, shell.log
        )
        self._told_group_ns = -_TELL_GROUP_NS
        self._committed_mono_ns = -_UNCOMMITTED_NS
        self._answers, self._asked = shell.resolving.subscribe(), 0
        self._leaving, self._left = False, asyncio.Event()

    def __repr__(self) -> str:
        """Show the ledger."""
        return f"<Worker {self.partition} {self.ledger!r}>"

    # -- life

    async def run(self) -> None:
        """Fence the older owner, read its memory back, then decide round after round, until told to leave."""
        try:
            await self._run()
        finally:
            self._left.set()

    async def leave(self) -> None:
        """End after the present round; returns when the worker has ended."""
        self._leaving = True
        await self._left.wait()

    async def _run(self) -> None:
        shell = self._shell
        transactor = await shell.cluster.transactor(
            f"{shell.topics.prefix}{GROUP}-{self.partition}"
        )
        try:
            meta = await changelog.restore(
                shell.cluster, shell.topics.state, self.partition, self.ledger
            )
            collecting.settle()
            self._trimming.begin(await self._bodies.open(map(shell.topics.deliveries, CLASSES)))
            await self._inputs.open(meta.positions)
            try:
                shell.log.info(
                    "partition_running",
                    partition=self.partition,
                    deliveries=len(self.ledger.entries),
                )
                async with asyncio.TaskGroup() as tasks:
                    marking = tasks.create_task(self._mark())
                    await self._rounds(transactor)
                    marking.cancel()
            finally:
                await self._inputs.close()
        finally:
            shell.resolving.unsubscribe(self._answers)
            await self._bodies.close()
            await transactor.stop()

    async def _mark(self) -> None:
        """Make log time pass, and hold the own clock to the broker's."""
        shell = self._shell
        while True:
            sent = shell.clock.now_ns()
            try:
                stamped = await shell.marks.append(self.partition, sent)
            except KafkaTrouble as error:
                shell.log.warning("mark_failed", partition=self.partition, reason=str(error))
            else:
                stamp = stamped.timestamp_ms * _MS
                self.clock.heard(sent, stamp, shell.clock.now_ns(), shell.clock.mono_ns())
            await shell.clock.sleep(shell.settings.timing.mark_ns / _S)

    @property
    def fits(self) -> bool:
        """Say whether the clock is known, and within the skew."""
        shell = self._shell
        return self.clock.fits(
            shell.clock.now_ns(), shell.clock.mono_ns(), shell.settings.timing.skew_ns
        )

    # -- rounds

    async def _rounds(self, transactor: Transactor) -> None:
        batch: list[Received] = []
        again: list[Received] = []
        while not self._leaving:
            while not self.fits and not self._leaving:
                await self._shell.clock.sleep(_UNFIT_S)
            marks = [(record.topic, record.offset) for record in batch + again]
            try:
                await self._round(batch, again, transactor)
            except BaseException as error:
                self._learn(marks, error)
                raise
            self._suspicion.passed(marks)
            self._inputs.scanned()
            self._inputs.throttle()
            await self._trimming.trim(self._inputs.read())
            batch = await self._inputs.gather(self._most(), asked=self._asked > 0)
            again = await self._inputs.scan(self._most())

    def _learn(self, marks: list[Mark], error: BaseException) -> None:
        match error:
            case Undigested(mark=mark):
                self._suspicion.condemn(marks, mark)
            case BodyLost() | NewerRecord():
                pass  # Of a delivery that waited already; and of a record that must be kept.
            case _:
                self._suspicion.learn(marks, error)

    def _most(self) -> int:
        """Give how many records a round may take: a small memory is not overshot by one large round."""
        return max(1, min(self._suspicion.limit, self._shell.settings.scheduler.max_waiting // 10))

    async def _round(
        self, batch: list[Received], again: list[Received], transactor: Transactor
    ) -> None:
        shell, ledger = self._shell, self.ledger
        ledger.begin(shell.clock.now_ns())
        self._trimming.end_lost()
        rejected = [self._feeding.take(record) for record in batch]
        rejected += [self._feeding.take_again(record) for record in again]
        for domain, resolution in shell.resolving.answers(self._answers):
            ledger.on_resolved(domain, resolution)
            self._asked -= 1
        for domain in ledger.asking():
            shell.resolving.ask(self._answers, domain, doubted=ledger.doubted(domain))
            self._asked += 1
        ledger.judge()
        ledger.plan(_MAX_GRANTS, _ROUND_BYTES)
        decided = ledger.take()
        if (want := ledger.want()) is not None:
            shell.saying.say(want)
        refused = [record for record in rejected if record is not None]
        if not (decided or refused or self._to_commit(batch)):
            return
        stragglers = self._trimming.stragglers(self._inputs.read())
        values = await self._values(decided, stragglers)
        async with transactor.round() as round_:
            await self._write(round_, decided, values)
            for state in stragglers:
                value = straggler_value(state, values[self._place(state)])
                await round_.send(
                    shell.topics.deliveries(state.class_),
                    self.partition,
                    value,
                    key=state.id.encode(),
                )
            for value in refused:
                await round_.send(shell.topics.rejected, self.partition, value)
            self._tell_group(round_)
        self.committed_ns, self._committed_mono_ns = shell.clock.now_ns(), shell.clock.mono_ns()
        if decided.shares is not None:
            # Only what is committed: the next owner must know that it was given.
            shell.saying.say(decided.shares)
        for event in decided.events:
            shell.count(event)
        self._tell(decided)
        self._forget(decided)

    def _to_commit(self, batch: list[Received]) -> bool:
        """Say whether a round that decided nothing is worth a transaction, for the place in the input alone.

        Outcomes that changed nothing, the partition's own marks above all, wait: whoever read them again would find the same.
        """
        long_ago = self._shell.clock.mono_ns() >= self._committed_mono_ns + _UNCOMMITTED_NS
        return bool(batch) and (long_ago or not self._inputs.only_outcomes(batch))

    def _tell_group(self, round_: Round) -> None:
        """Commit the group's offsets now and then: they cost a round two requests and a marker more."""
        now = self._shell.clock.mono_ns()
        if now < self._told_group_ns + _TELL_GROUP_NS:
            return
        self._told_group_ns = now
        names = self._inputs.names()
        round_.commit_offsets(
            self._shell.topics.prefix + GROUP,
            {
                (names[name], self.partition): offset
                for name, offset in self._inputs.positions.items()
            },
        )

    # -- what is written

    def _place(self, delivery: DeliveryState) -> Place:
        return self._shell.topics.deliveries(delivery.class_), delivery.offset

    async def _values(
        self, decided: Decisions, again: list[DeliveryState]
    ) -> Mapping[Place, bytes]:
        places = [self._place(granted.delivery) for granted in decided.granted]
        places += [self._place(state) for state in again]
        places += [self._place(forwarded.delivery) for forwarded in decided.forwarded]
        return await self._bodies.load(places)

    async def _write(
        self, round_: Round, decided: Decisions, values: Mapping[Place, bytes]
    ) -> None:
        topics, here = self._shell.topics, self.partition
        for granted in decided.granted:
            value = grant_value(granted, values[self._place(granted.delivery)])
            await round_.send(topics.dispatch, granted.grant.slot, value)
        for forwarded in decided.forwarded:
            state = forwarded.delivery
            value = forwarded_value(forwarded, values[self._place(state)])
            await round_.send(
                topics.deliveries(state.class_), forwarded.partition, value, key=state.id.encode()
            )
        for handed in decided.handed_over:
            # On either log: it need not come before or after the lane's deliveries.
            await round_.send(
                topics.deliveries(CLASSES[0]), handed.partition, encode(handed.record)
            )
        for passed in decided.passed:
            await round_.send(
                topics.deliveries(passed.class_), passed.partition, encode(passed.record)
            )
        for event in decided.events:
            await round_.send(
                topics.events,
                here,
                encode(event),
                key=event_key(event),
            )
        for key, value_or_none in changelog.writes(
            decided, self.ledger.now_ns, self._inputs.positions
        ):
            await round_.send(topics.state, here, value_or_none, key=key)

    def _tell(self, decided: Decisions) -> None:
        """Log the lanes that changed hands, and what became of warm-ups and reputations."""
        log, here = self._shell.log, self.partition
        for handed in decided.handed_over:
            lane = handed.record
            if lane.more:
                continue
            log.info(
                "lane_handed_over",
                partition=here,
                lane=lane.lane,
                map=lane.map,
                to_partition=handed.partition,
            )
        for state in decided.lanes:
            if state.held:
                log.info("lane_taken", partition=here, lane=state.lane, map=state.map)
        tell_warmups(log, self._shell.settings, decided.warmups)
        tell_spilled(log, decided.spilled)
        tell_reputation(log, here, decided.events)

    def _forget(self, decided: Decisions) -> None:
        for granted in decided.granted:
            self._bodies.kept.drop(self._place(granted.delivery))
        for forwarded in decided.forwarded:
            self._bodies.kept.drop(self._place(forwarded.delivery))
