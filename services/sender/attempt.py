"""When an attempt may begin, and when its final dot may be sent: pure, one ``AttemptGate`` for each grant that a connection takes.

The order on the wire is: take the grant and send `started` -> MAIL, only before t1 and the delivery's own expiry -> the message -> the
final dot, only when `started` is acknowledged with a stamp before t1 and not later than ``fresh`` after the last heartbeat that was read
back, while the slot's heartbeat is fresh. A `started` stamped after t1 is void for both sides: the scheduler plans the delivery again, so
the dot must not be sent. What no rule can close: a process paused between the last answer here and the write of the dot; it ends as
``unknown``.
"""

from dataclasses import dataclass
from typing import Final, Literal, Protocol

from services.sender.ownership import Now
from shared.records.grant import Grant

#: So long the dot waits for the stamp of `started` and for a fresh heartbeat before the transaction is dropped.
WAIT_FOR_FRESH_NS: Final = 30_000_000_000


class Owner(Protocol):
    """What the gate asks of a slot's owner."""

    epoch: int
    beat_stamp_ns: int

    def acting(self, mono_ns: int) -> bool:
        """Say whether this process may act for the slot now."""
        ...

    def may_start(self, mono_ns: int) -> bool:
        """Say whether a new attempt may begin."""
        ...


@dataclass(frozen=True, slots=True)
class Go:
    """It may be done now: check and write in one go, with nothing awaited between."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Not yet: ask again."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Never: drop it; ``hand_back`` says whether the scheduler is told or the lease settles it."""

    reason: Literal["epoch", "expired", "over", "stale", "unheard", "void", "deadline", "drain"]
    hand_back: bool


Answer = Go | Hold | Stop


class AttemptGate:
    """Guard one attempt."""

    def __init__(self, grant: Grant, owner: Owner, *, fresh_ns: int, attempt_max_ns: int) -> None:
        """Guard ``grant`` for the process that owns its slot."""
        self._grant, self._owner = grant, owner
        self._fresh_ns, self._attempt_max_ns = fresh_ns, attempt_max_ns
        self._taken_ns: int | None = None
        self._stamp_ns: int | None = None
        self._ready_ns: int | None = None

    def may_take(self, now: Now) -> Answer:
        """Say whether a ready connection may take the grant (and send `started`)."""
        if self._grant.epoch != self._owner.epoch:
            return Stop(
                "epoch", hand_back=False
            )  # Another epoch's: without a word, its lease settles it.
        if now.wall_ns >= self._grant.t1_ns:
            return Stop("expired", hand_back=False)
        if self._is_over(now):
            return Stop("over", hand_back=True)
        if now.wall_ns < self._grant.t0_ns or not self._owner.may_start(now.mono_ns):
            return Hold()
        return Go()

    def _is_over(self, now: Now) -> bool:
        """Say whether the delivery's own time is over: a password for once is of no use any more."""
        return 0 < self._grant.expires_ns <= now.wall_ns

    def taken(self, now: Now) -> None:
        """Note that `started` is on its way."""
        self._taken_ns = now.mono_ns

    def may_mail(self, now: Now) -> Answer:
        """Say whether MAIL may be written; it must be, in the same breath, on ``Go``."""
        if self._grant.epoch != self._owner.epoch:
            return Stop("epoch", hand_back=False)
        if now.wall_ns >= self._grant.t1_ns:
            return Stop("expired", hand_back=True)
        if self._is_over(now):
            return Stop("over", hand_back=True)
        if not self._owner.acting(now.mono_ns):
            return Stop("stale", hand_back=True)
        return Go()

    def started(self, stamp_ns: int) -> None:
        """Take the stamp of `started`."""
        self._stamp_ns = stamp_ns

    def may_dot(self, now: Now) -> Answer:
        """Say whether the final dot may be written; it must be, in the same breath, on ``Go``."""
        if self._taken_ns is None or now.mono_ns - self._taken_ns > self._attempt_max_ns:
            return Stop("deadline", hand_back=True)
        if self._grant.epoch != self._owner.epoch:
            return Stop("epoch", hand_back=True)
        if self._ready_ns is None:
            self._ready_ns = now.mono_ns
        over = now.mono_ns - self._ready_ns > WAIT_FOR_FRESH_NS
        if self._stamp_ns is None:
            return Stop("unheard", hand_back=True) if over else Hold()
        if self._stamp_ns > self._grant.t1_ns:
            return Stop("void", hand_back=True)
        # A process whose clocks stood still cannot see it by them: the two stamps are the broker's.
        if (
            self._owner.acting(now.mono_ns)
            and self._stamp_ns <= self._owner.beat_stamp_ns + self._fresh_ns
        ):
            return Go()
        return Stop("stale", hand_back=True) if over else Hold()
