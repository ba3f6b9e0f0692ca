"""How far a process's clock can be from the broker's: a record that it sent lies between its sending and its coming back.

offset of the clock against the broker's is at least ``sent - stamp`` (the record was stamped after it was sent) and at most
``back - stamp`` (it came back after it was stamped). A clock is bad only when the whole interval lies outside the skew: a slow round
trip alone never condemns it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClockBound:
    """The interval, ns; positive: the process's clock is ahead of the broker's."""

    low_ns: int
    high_ns: int

    def within(self, skew_ns: int) -> bool:
        """Say whether the clock may be no further off than ``skew_ns``."""
        return self.low_ns <= skew_ns and self.high_ns >= -skew_ns


def bound(sent_ns: int, stamp_ns: int, back_ns: int) -> ClockBound:
    """Bound the clock by one round trip: wall time of sending, the broker's stamp, wall time of the answer."""
    return ClockBound(sent_ns - stamp_ns, back_ns - stamp_ns)


@dataclass(slots=True)
class HeldClock:
    """Hold a process's wall clock to the broker's by round trips, and between them to the monotonic clock.

    Whoever decides by a wall clock asks before it reads the time: one that was set wrong would expire what is not due to, and since
    ``now`` never goes back, would stop the clock for everybody after it.
    """

    bound: ClockBound | None = None
    _wall_ns: int = 0
    _mono_ns: int = 0

    def heard(self, sent_ns: int, stamp_ns: int, back_ns: int, mono_ns: int) -> None:
        """Take a round trip; ``back_ns`` and ``mono_ns`` are the two clocks when its answer came."""
        self.bound = bound(sent_ns, stamp_ns, back_ns)
        self._wall_ns, self._mono_ns = back_ns, mono_ns

    def fits(self, wall_ns: int, mono_ns: int, skew_ns: int) -> bool:
        """Say whether the clock may be trusted now: within the skew at the last round trip, and not set since."""
        moved = abs((wall_ns - self._wall_ns) - (mono_ns - self._mono_ns))
        return self.bound is not None and self.bound.within(skew_ns) and moved <= skew_ns
