"""One (limit key, slot) pair on the wire: what waits for each site, its connections, and the turns that keep its limits.

A turn is a ``WireLimiter`` and the order of asking: what is spaced is spaced by the sender's own clock, and a stall is never caught up.
There are three. ``connects`` is for TCP connections. What a provider counts as a message is RCPT, which a peer without PIPELINING gets
only after its answer to MAIL: so ``begins`` is for MAIL, which keeps connections from waiting with an open envelope, and ``rcpts`` for the
write that holds RCPT, which makes the limit exact however long the peer thought.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from services.sender.attempt import AttemptGate
from services.sender.ownership import Now
from shared.protocol.slowstart import SlowStart
from shared.protocol.spacing import WireLimiter
from shared.protocol.warned import Warned
from shared.records.grant import Grant
from shared.runtime.clock import Clock

_S: Final = 1_000_000_000
#: How often whoever waits for a turn looks whether it still may: a drain does not wait for a slow rate.
_LOOK_S: Final = 0.2
#: A pair that did nothing for so long is forgotten, once its limiters are rested.
_FORGET_NS: Final = 600 * _S
_LONG_AGO_NS: Final = -(1 << 63)

#: Says of this very moment whether something may be done now, or still waited for.
May = Callable[[Now], bool]


@dataclass(slots=True)
class Job:
    """One grant, its message and its gate."""

    grant: Grant
    body: bytes
    gate: AttemptGate


@dataclass(slots=True)
class Turns:
    """Let one after the other go on, in the order of asking, and none before the limiter allows it."""

    limiter: WireLimiter
    clock: Clock
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def next(self, may_go: May, may_wait: May) -> bool:
        """Wait for the turn; True: ``may_go`` said so of this very moment, and the token is spent."""
        if (answer := self.now(may_go)) is not None:
            return answer
        async with self.lock:
            while (wait := self.limiter.earliest(mono := self.clock.mono_ns()) - mono) > 0:
                if not may_wait(Now(mono, self.clock.now_ns())):
                    return False
                await self.clock.sleep(min(wait / _S, _LOOK_S))
            return self._go(may_go, mono)

    def now(self, may_go: May) -> bool | None:
        """Take the turn where it need not be waited for, as ``next`` does; None: it must be."""
        mono = self.clock.mono_ns()
        if self.lock.locked() or self.limiter.earliest(mono) > mono:
            return None
        return self._go(may_go, mono)

    def _go(self, may_go: May, mono_ns: int) -> bool:
        if not may_go(Now(mono_ns, self.clock.now_ns())):
            return False
        self.limiter.spend(mono_ns)
        return True

    def rested(self, mono_ns: int) -> bool:
        """Say whether nothing was spent for long, and a whole burst could be."""
        return not self.lock.locked() and self.limiter.rested_ns + _FORGET_NS <= mono_ns


@dataclass(slots=True)
class Worked:
    """Which two sites of a pair have taken mail last, and when: wall clock, ns."""

    site: str = ""
    at_ns: int = _LONG_AGO_NS
    other_ns: int = _LONG_AGO_NS

    def good(self, site: str, now_ns: int) -> None:
        """Take that ``site`` has taken a message."""
        if site != self.site:
            self.site, self.other_ns = site, self.at_ns
        self.at_ns = now_ns

    def since(self, then_ns: int, *, but: str = "") -> bool:
        """Say whether any site has since ``then_ns``, other than ``but``."""
        return (self.other_ns if self.site == but else self.at_ns) >= then_ns


@dataclass(slots=True)
class Pair:
    """One limit key on this slot."""

    connects: Turns
    begins: Turns
    rcpts: Turns
    connections: int = 1
    #: Counted as used until then.
    since_ns: int = 0
    #: site -> connections that it may have of these, and the turns of its own for them, where it has any
    bounds: dict[str, int] = field(default_factory=dict)
    site_connects: dict[str, Turns] = field(default_factory=dict)
    #: site -> what waits for it
    sites: dict[str, deque[Job]] = field(default_factory=dict)
    #: site -> connection tasks, those of them that wait for mail, and how many there may be
    tasks: dict[str, int] = field(default_factory=dict)
    idle: dict[str, int] = field(default_factory=dict)
    starts: dict[str, SlowStart] = field(default_factory=dict)
    #: site -> those of its connections that wait for mail, the last to have come first
    sleepers: dict[str, list[asyncio.Future[None]]] = field(default_factory=dict)
    warning: Warned = field(default_factory=Warned)
    worked: Worked = field(default_factory=Worked)
    #: site -> connections that an older epoch of the slot has left there, and their number.
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    elsewhere_count: int = 0

    @classmethod
    def of(cls, grant: Grant, since_ns: int, clock: Clock) -> "Pair":
        """Begin as if everything had just been used at ``since_ns``: the owner before may have."""

        def turns(spacing_ns: int, burst: int) -> Turns:
            return Turns(WireLimiter(spacing_ns, burst, since_ns), clock)

        return cls(
            turns(grant.connect_spacing_ns, grant.connect_burst),
            turns(grant.spacing_ns, grant.burst),
            turns(grant.spacing_ns, grant.burst),
            grant.connections,
            since_ns,
        )

    def change(self, grant: Grant) -> None:
        """Take the limits as the latest grant carries them."""
        self.connects.limiter.change(grant.connect_spacing_ns, grant.connect_burst)
        self.begins.limiter.change(grant.spacing_ns, grant.burst)
        self.rcpts.limiter.change(grant.spacing_ns, grant.burst)
        self.connections = grant.connections
        if grant.site_connections:
            self.bounds[grant.site] = grant.site_connections
        elif self.bounds:
            self.bounds.pop(grant.site, None)
        if grant.site_connect_spacing_ns or grant.site in self.site_connects:
            self._change_site(grant)

    def _change_site(self, grant: Grant) -> None:
        spacing, burst = grant.site_connect_spacing_ns, grant.site_connect_burst
        turns = self.site_connects.get(grant.site)
        if turns is None:
            limiter = WireLimiter(spacing, burst, self.since_ns)
            self.site_connects[grant.site] = Turns(limiter, self.connects.clock)
        else:
            turns.limiter.change(spacing, burst)

    async def may_connect(self, site: str, may_go: May, may_wait: May) -> bool:
        """Wait for the turn of one more connection to ``site``: its own, where it has such a limit, then the pair's."""
        own = self.site_connects.get(site)
        if own is not None and not await own.next(may_go, may_wait):
            return False
        return await self.connects.next(may_go, may_wait)

    def too_many(self, site: str) -> bool:
        """Say whether there are more connections than may be, in all or to ``site``: the limit has become less."""
        if sum(self.tasks.values()) + self.elsewhere_count > self.connections:
            return True
        bound = self.bounds.get(site)
        if bound is None:
            return False
        return self.tasks.get(site, 0) + self.elsewhere.get(site, 0) > bound

    def full(self) -> bool:
        """Say whether there are as many connections as may be."""
        return sum(self.tasks.values()) + self.elsewhere_count >= self.connections

    def count_elsewhere(self, found: Mapping[str, int]) -> None:
        """Count connections of an older epoch of the slot, by site, as the pair's own."""
        self.elsewhere, self.elsewhere_count = found, sum(found.values())

    def waiting(self) -> int:
        """Count what waits."""
        return sum(map(len, self.sites.values()))

    def may_have_another(self, site: str) -> bool:
        """Say whether ``site`` has mail that waits for a connection, and may have one more."""
        queue = self.sites.get(site)
        if not queue or len(queue) <= self.idle.get(site, 0):
            return False
        own = self.site_connects.get(site)
        if own is not None and own.lock.locked():
            return False  # One waits for the site's turn already: the rest of the pair's places are for others.
        bound = self.bounds.get(site, self.connections) - self.elsewhere.get(site, 0)
        if self.tasks.get(site, 0) >= min(self.start(site).allowed, bound):
            return False
        return not self.full()

    def start(self, site: str) -> SlowStart:
        """Give the slow start of ``site``."""
        return self.starts.setdefault(site, SlowStart())

    def leave(self, site: str) -> None:
        """Count a connection task less."""
        self.tasks[site] -= 1
        if not self.tasks[site]:
            del self.tasks[site]
            self.starts.pop(site, None)
            self.idle.pop(site, None)
            self.sleepers.pop(site, None)
            if not self.sites.get(site):
                self.sites.pop(site, None)

    async def sleep(self, site: str, seconds: float) -> None:
        """Wait for mail for ``site``, or for a place to be needed, ``seconds`` at most."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        sleepers = self.sleepers.setdefault(site, [])
        sleepers.append(waiter)
        timer = loop.call_later(seconds, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            if waiter in sleepers:
                sleepers.remove(waiter)

    def wake(self, site: str) -> None:
        """Let one connection take the mail that has come for ``site``; where none waits for it, the others may have to make room."""
        sleepers = self.sleepers.get(site)
        if sleepers:
            # The one that was used last: the rest grow old and end.
            _wake(sleepers.pop())
        else:
            self.wake_all()

    def wake_all(self) -> None:
        """Let every connection that waits look again."""
        for sleepers in self.sleepers.values():
            while sleepers:
                _wake(sleepers.pop())

    def forgettable(self, mono_ns: int) -> bool:
        """Say whether a pair that begins anew would be no other than this one."""
        turns = (self.connects, self.begins, self.rcpts, *self.site_connects.values())
        return not (self.tasks or self.waiting()) and all(turn.rested(mono_ns) for turn in turns)


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
