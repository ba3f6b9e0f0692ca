"""One slot's grants on their way to the wire: queues by (limit key, site), and one task for each connection.

    dispatch -> offer -> queue -> a connection's task: connect -> turn of the pair -> `started`, MAIL -> turn at RCPT ... dot -> outcome

A connection's task takes a grant only when it is connected, so `started` is never written for mail that waits for a connection. A pair
has at most ``connections`` tasks, of which a site gets more as it takes mail; one that finds nothing for a while ends with QUIT. Signing
goes on beside MAIL, and the gate lets the dot through.

Whose fault is the first question. A connection that fails, or a peer that refuses before RCPT, is the pair's: that grant ends
as ``pair_failed``. After any no that is not about the one delivery (``Outcome.warns``) what waits at the pair is handed back, using no
attempt, and what was granted before the scheduler heard of it does not begin (``protocol.warned``). Lost before the dot is a deferral,
after it ``unknown``. A crash here loses nothing: what had `started` and no outcome becomes ``unknown`` by the scheduler's judgement,
the rest is granted again.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace
from structlog.typing import FilteringBoundLogger

from services.sender.attempt import AttemptGate, Go, Hold, Stop
from services.sender.journal import Journal
from services.sender.messages import MessageFailed, Messages
from services.sender.outcomes import failed_connection, lost_body, of_report
from services.sender.ownership import Now, SlotOwner
from services.sender.pair import Job, May, Pair
from services.sender.reach import Moved, Reach, TurnMissed, Unreachable
from services.sender.smtp.connection import Connection, Report
from services.sender.smtp.session import Accepted, Dropped, Transaction
from services.sender.sources.paths import SourceUnavailable
from shared.kafka.errors import KafkaTrouble
from shared.records.grant import Grant
from shared.records.outcome import Handback, Outcome
from shared.runtime.clock import Clock
from shared.runtime.settings import Settings

_S: Final = 1_000_000_000
#: How often a grant that may not begin yet, or a dot that may not be sent yet, is looked at again.
_LOOK_S: Final = 0.02
_LOOK_LONG_S: Final = 0.2


@dataclass(slots=True)
class Tools:
    """What a line works with, the same for all slots of the process."""

    settings: Settings
    clock: Clock
    journal: Journal
    messages: Messages
    log: FilteringBoundLogger


class Line:
    """The wire side of one slot."""

    def __init__(self, owner: SlotOwner, reach: Reach, tools: Tools) -> None:
        """``reach`` connects from the slot's source."""
        self._owner, self._reach, self._tools = owner, reach, tools
        self._pairs: dict[str, Pair] = {}
        self._seen: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        #: The limits of what connects now: without any, until nothing more is to begin.
        self._connecting: set[asyncio.Timeout] = set()
        #: What has a transaction under way.
        self._sending: set[Connection] = set()
        self._wire_from_ns = 0
        self.busy = 0

    def __repr__(self) -> str:
        """Show the counts."""
        waiting = sum(pair.waiting() for pair in self._pairs.values())
        return f"<Line {self._owner.source} [{self.busy} busy, {waiting} waiting, {len(self._tasks)} connections]>"

    @property
    def idle(self) -> bool:
        """Say whether no connection is left (the next owner counts only its own) and every outcome is acknowledged."""
        return not self._tasks and self._tools.journal.unacknowledged[self._owner.slot] == 0

    def waiting(self) -> int:
        """Count the grants that no connection has taken."""
        return sum(pair.waiting() for pair in self._pairs.values())

    def new_epoch(self) -> None:
        """Forget what the pairs did: a new epoch counts every one of them as just used."""
        self._pairs = {}
        self._wire_from_ns = self._tools.clock.mono_ns()

    # -- grants come in

    def offer(self, grant: Grant, body: bytes) -> None:
        """Take a grant from dispatch; one of another epoch is skipped, one that was seen is not done twice."""
        if grant.epoch != self._owner.epoch or grant.attempt in self._seen:
            return
        self._remember(grant)
        gate = AttemptGate(
            grant,
            self._owner,
            fresh_ns=self._tools.settings.timing.fresh_ns,
            attempt_max_ns=self._tools.settings.timing.attempt_max_ns,
        )
        pair = self._pair(grant)
        if not pair.warning.lets(grant, self._tools.clock.mono_ns()):
            self._hand_back(grant, "pair")
            return
        pair.change(grant)
        pair.sites.setdefault(grant.site, deque()).append(Job(grant, body, gate))
        pair.arrived.set()
        self._staff(grant.limit_key, pair, grant.site)

    def _remember(self, grant: Grant) -> None:
        self._seen[grant.attempt] = grant.t1_ns
        if len(self._seen) % 4096 == 0:
            now = self._tools.clock.now_ns() - self._tools.settings.timing.skew_ns
            self._seen = {attempt: t1 for attempt, t1 in self._seen.items() if t1 > now}
            mono = self._tools.clock.mono_ns()
            self._pairs = {
                key: pair for key, pair in self._pairs.items() if not pair.forgettable(mono)
            }

    def _pair(self, grant: Grant) -> Pair:
        pair = self._pairs.get(grant.limit_key)
        if pair is None:
            pair = Pair.of(grant, self._wire_from_ns, self._tools.clock)
            self._pairs[grant.limit_key] = pair
        return pair

    def _staff(self, key: str, pair: Pair, site: str) -> None:
        """Open another connection for ``site`` where its mail waits and the pair may have one more."""
        if not pair.may_have_another(site):
            return
        pair.tasks[site] = pair.tasks.get(site, 0) + 1
        task = asyncio.create_task(
            self._connection(key, pair, site), name=f"{self._owner.source} {site}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Begin nothing more: hand back what no connection has taken or what waits for one to be made, and end idle ones."""
        self.hand_back_all("drain")
        for limit in self._connecting:
            # A host that does not answer would keep the slot from its next owner for minutes.
            if not limit.expired():
                limit.reschedule(0)

    def give_up(self, *, after_dot: bool) -> bool:
        """End what is under way: before its dot it goes back; after it, where ``after_dot`` says so, it is unknown. True: some is."""
        why = "its slot goes to another sender"
        # A list: every one of them is to be ended.
        given_up = [each.give_up(why, after_dot=after_dot) for each in self._sending]
        return any(given_up)

    def hand_back_all(self, reason: str) -> None:
        """Hand back every grant that no connection has taken."""
        for pair in self._pairs.values():
            for queue in pair.sites.values():
                self._hand_back_queue(queue, reason)
            pair.arrived.set()

    def _hand_back_queue(self, queue: deque[Job], reason: str) -> None:
        while queue:
            self._hand_back(queue.popleft().grant, reason)

    def _hand_back(self, grant: Grant, reason: str, site: str | None = None) -> None:
        # Only the epoch that got a grant may hand it back; its lease settles any other.
        if grant.epoch == self._owner.epoch:
            record = Handback(
                id=grant.id, n=grant.n, slot=grant.slot, epoch=grant.epoch, reason=reason, site=site
            )
            self._tools.journal.say(grant, record)

    async def close(self) -> None:
        """End every connection; what is under way is dropped before its dot, or becomes unknown."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- one connection

    async def _connection(self, key: str, pair: Pair, site: str) -> None:
        connection: Connection | None = None
        try:
            while (job := await self._next(pair, site, connection)) is not None:
                self.busy += 1
                try:
                    connection = await self._serve(pair, site, job, connection)
                finally:
                    self.busy -= 1
                if connection is None and not pair.sites.get(site):
                    return
        finally:
            if connection is not None:
                connection.close()
            pair.leave(site)
            for other in list(pair.sites):
                self._staff(key, pair, other)

    async def _next(self, pair: Pair, site: str, connection: Connection | None) -> Job | None:
        """Give the next grant for ``site``; None: nothing came for a while, or the place is needed for another site."""
        if pair.too_many():
            return None
        queue = pair.sites.setdefault(site, deque())
        if queue:
            return queue.popleft()
        until = self._tools.clock.mono_ns() + self._tools.settings.sender.idle_ns
        pair.idle[site] = pair.idle.get(site, 0) + 1
        try:
            while not queue:
                left = (until - self._tools.clock.mono_ns()) / _S
                needed = pair.waiting() > 0 and sum(pair.tasks.values()) >= pair.connections
                done = left <= 0 or needed or self._owner.stopping
                if done or connection is None or not connection.usable:
                    return None
                pair.arrived.clear()
                try:
                    async with asyncio.timeout(min(left, 1.0)):
                        await pair.arrived.wait()
                except TimeoutError:
                    continue
            return queue.popleft()
        finally:
            pair.idle[site] -= 1

    async def _serve(
        self, pair: Pair, site: str, job: Job, connection: Connection | None
    ) -> Connection | None:
        """Bring one grant to its end; gives the connection where it can be used again."""
        if not await self._may_take(pair, job):
            return connection
        if connection is not None and not self._reusable(connection, job.grant):
            connection.close()
            connection = None
        if connection is None:
            connection = await self._connect(pair, site, job)
            if connection is None:
                return None
        report = await self._attempt(pair, job, connection)
        if report is not None and report.stale:
            # The peer had ended an idle connection: nothing is learnt about the pair, but this grant has been taken, so it goes back.
            self._hand_back(job.grant, "stale_connection")
        elif report is not None:
            self._say(pair, job.grant, of_report(job.grant, report))
            self._pace(pair, job.grant, report, connection)
            self._reach.learn(connection, report)
        return connection if connection.usable else None

    def _pace(self, pair: Pair, grant: Grant, report: Report, connection: Connection) -> None:
        """Let the site have more connections as it takes mail, and fewer where it ends them."""
        if isinstance(report.result, Accepted):
            pair.start(grant.site).good(pair.connections)
            self._staff(grant.limit_key, pair, grant.site)
        elif not connection.usable and not isinstance(report.result, Dropped):
            pair.start(grant.site).bad()

    def _reusable(self, connection: Connection, grant: Grant) -> bool:
        # Of a suspended source nobody knows when its address became another.
        right = self._reach.usable and connection.usable and self._reach.serves(connection, grant)
        return right and connection.count < grant.messages_per_connection

    async def _may_take(self, pair: Pair, job: Job) -> bool:
        """Wait until the grant may be taken; False: it never may."""
        while True:
            if not pair.warning.lets(job.grant, self._tools.clock.mono_ns()):
                self._hand_back(job.grant, "pair")
                return False
            match job.gate.may_take(self._now()):
                case Go():
                    return True
                case Hold():
                    if self._owner.stopping:
                        self._hand_back(job.grant, "drain")
                        return False
                    ahead = (job.grant.t0_ns - self._tools.clock.now_ns()) / _S
                    await self._tools.clock.sleep(min(max(ahead, _LOOK_S), _LOOK_LONG_S))
                case Stop(reason=reason, hand_back=hand_back):
                    if hand_back:
                        self._hand_back(job.grant, reason)
                    return False

    async def _connect(self, pair: Pair, site: str, job: Job) -> Connection | None:
        grant = job.grant
        try:
            async with self._until_stopped():
                return await self._reach.connect(
                    grant,
                    lambda: pair.connects.next(
                        self._may_take_now(pair, job), self._may_wait(pair, job)
                    ),
                )
        except (TurnMissed, TimeoutError):
            self._hand_back(grant, self._late(pair, grant))
        except Moved as moved:
            self._hand_back(grant, "moved", moved.site)
        except SourceUnavailable:
            self._hand_back(grant, "source")
            self.hand_back_all("source")
        except Unreachable as error:
            pair.start(site).bad()
            self._say(pair, grant, failed_connection(grant, error))
        return None

    def _say(self, pair: Pair, grant: Grant, outcome: Outcome | Handback) -> None:
        """Say how an attempt ended; after a no that was not about it, nothing more that was granted before begins at the pair."""
        if isinstance(outcome, Outcome) and outcome.warns:
            timing = self._tools.settings.timing
            now = self._now()
            longest = timing.lease_ns + 2 * timing.skew_ns
            name = pair.warning.take(now.wall_ns, now.mono_ns, longest)
            outcome = replace(outcome, warned_ns=name)
            for queue in pair.sites.values():
                self._hand_back_queue(queue, "pair")
        self._tools.journal.say(grant, outcome)

    @contextlib.asynccontextmanager
    async def _until_stopped(self) -> AsyncIterator[None]:
        """Raise TimeoutError out of what is done here when ``stop`` is called."""
        async with asyncio.timeout(None) as limit:
            self._connecting.add(limit)
            try:
                yield
            finally:
                self._connecting.discard(limit)

    async def _attempt(self, pair: Pair, job: Job, connection: Connection) -> Report | None:
        """Run the transaction in the pair's turn; None: it did not begin, and was settled here."""
        grant = job.grant
        if not await pair.begins.next(
            lambda now: self._begin(pair, job, now), self._may_wait(pair, job)
        ):
            self._hand_back(grant, self._late(pair, grant))
            return None
        # From here to MAIL nothing is awaited, or the turn at RCPT asks once more.
        signing = asyncio.create_task(self._tools.messages.make(grant, job.body))
        starting = asyncio.create_task(self._tools.journal.started(grant))
        self._sending.add(connection)
        try:
            return await connection.send(
                Transaction(
                    mail_from=grant.from_,
                    rcpt=grant.to,
                    size=grant.size_bytes
                    + len(grant.prepend)
                    + self._tools.messages.overhead_bytes,
                    eight_bit=grant.eight_bit,
                    smtputf8=grant.smtputf8,
                ),
                signing,
                lambda: pair.rcpts.next(self._may_mail(job), self._may_wait(pair, job)),
                lambda: self._may_dot(job, starting),
                within_ns=self._tools.settings.timing.attempt_max_ns,
            )
        except MessageFailed as error:
            self._tools.journal.say(grant, lost_body(grant, error, connection.peer.wire()))
            return None
        finally:
            self._sending.discard(connection)
            await _ended(signing, starting)

    def _late(self, pair: Pair, grant: Grant) -> str:
        """Say why a grant missed its turn."""
        if self._owner.stopping:
            return "drain"
        return "late" if pair.warning.lets(grant, self._tools.clock.mono_ns()) else "pair"

    def _may_wait(self, pair: Pair, job: Job) -> May:
        """A drain waits for no turn, nor does a grant whose time is over, or one that was made before a warning was heard."""
        return lambda now: (
            not self._owner.stopping
            and pair.warning.lets(job.grant, now.mono_ns)
            and not isinstance(job.gate.may_take(now), Stop)
        )

    def _may_take_now(self, pair: Pair, job: Job) -> May:
        return lambda now: (
            pair.warning.lets(job.grant, now.mono_ns) and isinstance(job.gate.may_take(now), Go)
        )

    def _may_mail(self, job: Job) -> May:
        return lambda now: isinstance(job.gate.may_mail(now), Go)

    def _begin(self, pair: Pair, job: Job, now: Now) -> bool:
        if not self._may_take_now(pair, job)(now) or not self._may_mail(job)(now):
            return False
        job.gate.taken(now)
        return True

    async def _may_dot(self, job: Job, starting: "asyncio.Future[int]") -> bool:
        """Wait for `started` and for the gate; True: the dot may be written, in the same breath."""
        try:
            job.gate.started(await starting)
        except KafkaTrouble as error:
            self._tools.log.warning("started_failed", attempt=job.grant.attempt, reason=str(error))
            return False
        while True:
            match job.gate.may_dot(self._now()):
                case Go():
                    return True
                case Hold():
                    await self._tools.clock.sleep(_LOOK_S)
                case Stop(reason=reason):
                    self._tools.log.warning(
                        "dot_withheld", attempt=job.grant.attempt, reason=reason
                    )
                    return False

    def _now(self) -> Now:
        return Now(self._tools.clock.mono_ns(), self._tools.clock.now_ns())


async def _ended(*tasks: "asyncio.Future[Any]") -> None:
    """Leave nothing behind: what still runs is cancelled, and every exception heard."""
    for task in tasks:
        task.cancel()
    if not all(task.done() for task in tasks):
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()
