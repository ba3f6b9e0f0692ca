"""One place for a connection of a pair: it takes what waits for its site, one grant after the other.

    wait for mail -> may it be taken? -> connect -> turn of the pair -> attempt -> attempt -> ... -> wait for mail

What may have to be waited for is a coroutine's, ``run``. What need not be is done in one breath: when an attempt ends and the next grant
may begin at once on the same connection, it begins before control goes back to the loop, with no task and no future (``_carry_on``). As
soon as anything is not as it should be (no mail, a turn to wait for, a connection that is used up) the coroutine goes on and finds out.
"""

import asyncio
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from services.sender.attempt import Go, Hold, Stop
from services.sender.attempting import Attempt, Ended
from services.sender.messages import MessageFailed
from services.sender.outcomes import failed_connection, lost_body, of_report
from services.sender.ownership import Now
from services.sender.pair import Job, May, Pair
from services.sender.reach import Moved, Reach, TurnMissed, Unreachable
from services.sender.smtp.connection import Connection
from services.sender.smtp.report import Report
from services.sender.smtp.session import Accepted, Dropped
from services.sender.sources.paths import SourceUnavailable
from shared.records.grant import Grant
from shared.records.outcome import NOBODY

if TYPE_CHECKING:
    from services.sender.line import Line, Tools
    from services.sender.ownership import SlotOwner

_S: Final = 1_000_000_000
#: How often a grant that may not begin yet is looked at again.
_LOOK_S: Final = 0.02
_LOOK_LONG_S: Final = 0.2
#: Who took mail so long ago, or later, works.
_MEANWHILE_NS: Final = 10 * _S


class Courier:
    """One connection of ``pair`` for ``site``, or none."""

    def __init__(
        self, line: "Line", owner: "SlotOwner", reach: Reach, tools: "Tools", pair: Pair, site: str
    ) -> None:
        """``line`` hears what becomes of the grants."""
        self._line, self._owner, self._reach, self._tools = line, owner, reach, tools
        self._pair, self._site = pair, site
        self._connection: Connection | None = None
        #: What is under way, and who waits for the end of all that follows it in one breath.
        self._attempt: Attempt | None = None
        self._job: Job | None = None
        self._over: asyncio.Future[None] | None = None
        self._carrying = False

    def __repr__(self) -> str:
        """Show what it does."""
        return f"<Courier {self._site} [{self._connection}]>"

    @property
    def behind_dot(self) -> Grant | None:
        """Give the grant whose message has gone out whole; None: nothing is under way, or it is not so far."""
        if self._connection is None or self._job is None or not self._connection.behind_dot:
            return None
        return self._job.grant

    def give_up(self, why: str, *, after_dot: bool) -> bool:
        """End what is under way, as ``Connection.give_up``."""
        return self._connection is not None and self._connection.give_up(why, after_dot=after_dot)

    async def run(self) -> None:
        """Take what comes until nothing does for a while, or the place is needed for another site."""
        try:
            while (job := await self._next()) is not None:
                self._line.busy += 1
                try:
                    await self._serve(job)
                finally:
                    self._line.busy -= 1
                if self._connection is None and not self._pair.sites.get(self._site):
                    return
        finally:
            if self._connection is not None:
                self._connection.close()
            self._pair.leave(self._site)
            for other, queue in list(self._pair.sites.items()):
                if queue:
                    # Whoever was woken for it may have been this one.
                    self._pair.wake(other)
                self._line.staff(self._pair, other)

    async def _next(self) -> Job | None:
        """Give the next grant; None: nothing came for a while, or the place is needed for another site."""
        pair, site = self._pair, self._site
        if self._line.over or pair.too_many(site):
            return None
        queue = pair.sites.setdefault(site, deque())
        if queue:
            return queue.popleft()
        until = self._tools.clock.mono_ns() + self._tools.settings.sender.idle_ns
        pair.idle[site] = pair.idle.get(site, 0) + 1
        try:
            while not queue:
                left = (until - self._tools.clock.mono_ns()) / _S
                needed = pair.waiting() > 0 and pair.full()
                done = left <= 0 or needed or self._owner.stopping
                if done or self._connection is None or not self._connection.usable:
                    return None
                await pair.sleep(site, min(left, 1.0))
            return queue.popleft()
        finally:
            pair.idle[site] -= 1

    async def _serve(self, job: Job) -> None:
        """Bring one grant to its end, and those that follow it without a pause."""
        if not await self._may_take(job):
            return
        if self._connection is not None and not self._reusable(self._connection, job.grant):
            self._connection.close()
            self._connection = None
        if self._connection is None:
            self._connection = await self._connect(job)
        if self._connection is None:
            return
        if not await self._pair.begins.next(lambda now: self._begin(job, now), self._may_wait(job)):
            self._line.hand_back(job.grant, self._line.late(self._pair, job.grant))
            return
        # From here to MAIL nothing is awaited, or the turn at RCPT asks once more.
        self._over = asyncio.get_running_loop().create_future()
        self._line.sending.add(self)
        try:
            self._carry_on(job, self._connection)
            await self._over
        finally:
            self._line.sending.discard(self)
            if self._attempt is not None:
                self._attempt.abandon()
                self._attempt = self._job = None
            self._over = None
            if not self._connection.usable:
                self._connection = None

    def _reusable(self, connection: Connection, grant: Grant) -> bool:
        # Of a suspended source nobody knows when its address became another.
        right = self._reach.usable and connection.usable and self._reach.serves(connection, grant)
        return right and connection.count < grant.messages_per_connection

    async def _may_take(self, job: Job) -> bool:
        """Wait until the grant may be taken; False: it never may."""
        while True:
            if not self._pair.warning.lets(job.grant, self._tools.clock.mono_ns()):
                self._line.hand_back(job.grant, "pair")
                return False
            match job.gate.may_take(self._now()):
                case Go() if self._tools.journal.prompt(job.grant.part):
                    return True
                case Go() | Hold():
                    if self._owner.stopping:
                        self._line.hand_back(job.grant, "drain")
                        return False
                    ahead = (job.grant.t0_ns - self._tools.clock.now_ns()) / _S
                    await self._tools.clock.sleep(min(max(ahead, _LOOK_S), _LOOK_LONG_S))
                case Stop(reason=reason, hand_back=hand_back):
                    if hand_back:
                        self._line.hand_back(job.grant, reason)
                    return False

    async def _connect(self, job: Job) -> Connection | None:
        grant, pair = job.grant, self._pair
        begun_ns = self._tools.clock.now_ns()
        try:
            async with self._line.until_stopped():
                return await self._reach.connect(
                    grant,
                    lambda: pair.may_connect(
                        self._site, lambda now: self._may_take_now(job, now), self._may_wait(job)
                    ),
                )
        except (TurnMissed, TimeoutError):
            self._line.hand_back(grant, self._line.late(pair, grant))
        except Moved as moved:
            self._line.hand_back(grant, "moved", moved.site)
        except SourceUnavailable:
            self._line.hand_back(grant, "source")
            self._line.hand_back_all("source")
        except Unreachable as error:
            pair.start(self._site).bad()
            if self._is_the_domains(error, begun_ns):
                error = replace(error, scope="recipient")
            self._line.say(pair, grant, failed_connection(grant, error))
        return None

    def _is_the_domains(self, error: Unreachable, begun_ns: int) -> bool:
        """Say whether it is this domain's own trouble: the rest of the pair has taken mail meanwhile.

        A provider's mail is that of thousands of domains. One whose name servers are dead, or whose MX names a host of the provider's
        that takes no mail, must not pause them all.
        """
        if error.scope != "pair" or error.reply is not None or error.stage not in NOBODY:
            return False
        since_ns = min(begun_ns, self._tools.clock.now_ns() - _MEANWHILE_NS)
        but = "" if error.stage == "dns" else self._site
        return self._pair.worked.since(since_ns, but=but)

    # -- in one breath

    def _carry_on(self, job: Job | None, connection: Connection) -> None:
        """Begin ``job``, whose turn has come, and whatever may follow at once; the rest is the coroutine's."""
        if self._carrying:
            return  # An attempt ended as soon as it had begun: the loop below goes on.
        self._carrying = True
        try:
            while job is not None:
                self._job = job
                self._attempt = Attempt(
                    self._tools, self._pair, job, connection, self._may_wait(job), self._ended
                )
                self._attempt.begin()
                if self._attempt is not None:
                    return
                job = self._next_at_once(connection)
        finally:
            self._carrying = False
        self._finish()

    def _ended(self, attempt: Attempt, ended: Ended) -> None:
        """Say how the attempt ended, and go on."""
        job, connection = self._job, self._connection
        if attempt is not self._attempt or job is None or connection is None:
            # A bug behind its end: what followed it knows its own.
            self._finish(ended if isinstance(ended, Exception) else None)
            return
        self._attempt = self._job = None
        if isinstance(ended, Report):
            self._settle(job.grant, ended, connection)
        elif isinstance(ended, MessageFailed):
            self._line.say(
                self._pair, job.grant, lost_body(job.grant, ended, connection.peer.wire())
            )
        else:
            self._finish(ended)
            return
        if not self._carrying:
            self._carry_on(self._next_at_once(connection), connection)

    def _finish(self, error: Exception | None = None) -> None:
        if self._over is not None and not self._over.done():
            if error is None:
                self._over.set_result(None)
            else:
                self._over.set_exception(error)

    def _settle(self, grant: Grant, report: Report, connection: Connection) -> None:
        if report.stale:
            # The peer had ended an idle connection: nothing is learnt about the pair, but this grant has been taken, so it goes back.
            self._line.hand_back(grant, "stale_connection")
            return
        self._line.say(self._pair, grant, of_report(grant, report))
        start = self._pair.start(grant.site)
        if isinstance(report.result, Accepted):
            # The site may have more connections as it takes mail, and fewer where it ends them.
            start.good(self._pair.connections)
            self._pair.worked.good(grant.site, report.wire.end_ns)
            self._line.staff(self._pair, grant.site)
        else:
            if not connection.usable and not isinstance(report.result, Dropped):
                start.bad()
            self._reach.learn(connection, report)

    def _next_at_once(self, connection: Connection) -> Job | None:
        """Take the next grant and its turn, if it may begin in this breath; whatever else is to be done about it, the coroutine does."""
        queue = self._pair.sites.get(self._site)
        if not queue or self._owner.stopping or self._line.over:
            return None
        if self._pair.too_many(self._site):
            return None
        job = queue[0]
        if not self._reusable(connection, job.grant):
            return None
        if not self._pair.begins.now(lambda now: self._begin(job, now)):
            return None
        return queue.popleft()

    def _may_wait(self, job: Job) -> May:
        """A drain waits for no turn, nor does a grant whose time is over, or one that was made before a warning was heard."""
        return lambda now: (
            not self._owner.stopping
            and self._pair.warning.lets(job.grant, now.mono_ns)
            and not isinstance(job.gate.may_take(now), Stop)
        )

    def _may_take_now(self, job: Job, now: Now) -> bool:
        return (
            self._pair.warning.lets(job.grant, now.mono_ns)
            and isinstance(job.gate.may_take(now), Go)
            and self._tools.journal.prompt(job.grant.part)
        )

    def _begin(self, job: Job, now: Now) -> bool:
        if not self._may_take_now(job, now) or not isinstance(job.gate.may_mail(now), Go):
            return False
        job.gate.taken(now)
        return True

    def _now(self) -> Now:
        return Now(self._tools.clock.mono_ns(), self._tools.clock.now_ns())
