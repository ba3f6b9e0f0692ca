"""One slot's grants on their way to the wire: queues by (limit key, site), and a courier for each connection.

    dispatch -> offer -> queue -> courier: connect -> turn of the pair -> `started`, MAIL -> turn at RCPT ... dot -> outcome

A courier takes a grant only when it is connected, so `started` is never written for mail that waits for a connection. A pair has at most
``connections`` couriers, of which a site gets more as it takes mail; one that finds nothing for a while ends with QUIT. Signing goes on
beside MAIL, and the gate lets the dot through.

Whose fault is the first question. A connection that fails, or a peer that refuses before RCPT, is the pair's: that grant ends
as ``pair_failed``. After any no that is not about the one delivery (``Outcome.warns``) what waits at the pair is handed back, using no
attempt, and what was granted before the scheduler heard of it does not begin (``protocol.warned``). Lost before the dot is a deferral,
after it ``unknown``. A crash here loses nothing: what had `started` and no outcome becomes ``unknown`` by the scheduler's judgement,
the rest is granted again.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace
from structlog.typing import FilteringBoundLogger

from services.sender.attempt import AttemptGate
from services.sender.courier import Courier
from services.sender.journal import Journal
from services.sender.messages import Messages
from services.sender.ownership import Now, SlotOwner
from services.sender.pair import Job, Pair
from services.sender.reach import Reach
from shared.records.control import Unanswered
from shared.records.grant import Grant
from shared.records.outcome import Handback, Outcome
from shared.runtime.clock import Clock
from shared.runtime.settings import Settings


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
        #: Those that have a transaction under way.
        self.sending: set[Courier] = set()
        #: limit key -> site -> connections that an older epoch left there.
        self._elsewhere: dict[str, Counter[str]] = {}
        #: Its epoch is over: nothing begins, and no connection waits for more.
        self.over = False
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

    def unanswered(self, epoch: int) -> tuple[Unanswered, ...] | None:
        """Give what of ``epoch`` only waits for the reply to its final dot; None: something else is under way, or not acknowledged."""
        behind = [grant for each in self.sending if (grant := each.behind_dot) is not None]
        if len(behind) < len(self._tasks) or not self._tools.journal.has_said(epoch):
            return None
        left = [Unanswered(id=g.id, n=g.n, key=g.limit_key, site=g.site) for g in behind]
        return tuple(sorted(left, key=lambda each: (each.id, each.n)))

    def successor(self) -> "Line":
        """Give the line of the slot's next epoch here; this one begins nothing more, and only ends."""
        self.over = True
        self._stop_waiting()
        return Line(self._owner, self._reach, self._tools)

    def elsewhere(self, left: Iterable[Unanswered]) -> None:
        """Count the connections that older epochs have left as this one's."""
        found: dict[str, Counter[str]] = {}
        for each in left:
            found.setdefault(each.key, Counter())[each.site] += 1
        if found == self._elsewhere:
            return
        self._elsewhere = found
        for key, pair in self._pairs.items():
            pair.count_elsewhere(found.get(key, {}))
            for site, queue in list(pair.sites.items()):
                if queue:
                    self.staff(pair, site)

    def left(self) -> int:
        """Count the connections that older epochs have left."""
        return sum(map(Counter.total, self._elsewhere.values()))

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
        if self._owner.stopping:
            # Where every place is taken by a peer that sits on its reply, no connection would come to hand it back.
            self.hand_back(grant, "drain")
            return
        gate = AttemptGate(
            grant,
            self._owner,
            fresh_ns=self._tools.settings.timing.fresh_ns,
            attempt_max_ns=self._tools.settings.timing.attempt_max_ns,
        )
        pair = self._pair(grant)
        if not pair.warning.lets(grant, self._tools.clock.mono_ns()):
            self.hand_back(grant, "pair")
            return
        pair.change(grant)
        pair.sites.setdefault(grant.site, deque()).append(Job(grant, body, gate))
        pair.wake(grant.site)
        self.staff(pair, grant.site)

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
            if grant.limit_key in self._elsewhere:
                pair.count_elsewhere(self._elsewhere[grant.limit_key])
            self._pairs[grant.limit_key] = pair
        return pair

    def staff(self, pair: Pair, site: str) -> None:
        """Open another connection for ``site`` where its mail waits and the pair may have one more."""
        if self.over or not pair.may_have_another(site):
            return
        pair.tasks[site] = pair.tasks.get(site, 0) + 1
        courier = Courier(self, self._owner, self._reach, self._tools, pair, site)
        task = asyncio.create_task(courier.run(), name=f"{self._owner.source} {site}")
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, site))

    def _ended(self, site: str, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._tools.log.error(
                "courier_failed", source=self._owner.source, site=site, exc_info=error
            )

    def stop(self) -> None:
        """Begin nothing more: hand back what no connection has taken or what waits for one to be made, and end idle ones."""
        self.hand_back_all("drain")
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        for pair in self._pairs.values():
            pair.wake_all()
        for limit in self._connecting:
            # A host that does not answer would keep the slot from its next owner for minutes.
            if not limit.expired():
                limit.reschedule(0)

    def give_up(self, *, after_dot: bool) -> bool:
        """End what is under way: before its dot it goes back; after it, where ``after_dot`` says so, it is unknown. True: some is."""
        why = "its slot goes to another sender"
        # A list: every one of them is to be ended.
        given_up = [each.give_up(why, after_dot=after_dot) for each in list(self.sending)]
        return any(given_up)

    def hand_back_all(self, reason: str) -> None:
        """Hand back every grant that no connection has taken."""
        for pair in self._pairs.values():
            for queue in pair.sites.values():
                self._hand_back_queue(queue, reason)
            pair.wake_all()

    def _hand_back_queue(self, queue: deque[Job], reason: str) -> None:
        while queue:
            self.hand_back(queue.popleft().grant, reason)

    def hand_back(self, grant: Grant, reason: str, site: str | None = None) -> None:
        """Hand a grant back, using no attempt; ``site``: what was found instead of the one it names."""
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

    # -- what connections say

    def say(self, pair: Pair, grant: Grant, outcome: Outcome | Handback) -> None:
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

    def late(self, pair: Pair, grant: Grant) -> str:
        """Say why a grant missed its turn."""
        if self._owner.stopping:
            return "drain"
        return "late" if pair.warning.lets(grant, self._tools.clock.mono_ns()) else "pair"

    @contextlib.asynccontextmanager
    async def until_stopped(self) -> AsyncIterator[None]:
        """Raise TimeoutError out of what is done here when ``stop`` is called."""
        async with asyncio.timeout(None) as limit:
            self._connecting.add(limit)
            try:
                yield
            finally:
                self._connecting.discard(limit)

    def _now(self) -> Now:
        return Now(self._tools.clock.mono_ns(), self._tools.clock.now_ns())
