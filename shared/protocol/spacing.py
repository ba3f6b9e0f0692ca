"""The spacing of tokens, the same arithmetic for whoever decides and for whoever sends. Pure.

A strict GCRA in whole nanoseconds: with a burst of b, any b + k tokens span at least k intervals. The state is one int, the time at
which the last token would have been spent had none come in a burst; it is not the time of the next one, so that another interval
counts from the last token.
"""

from dataclasses import dataclass, field


def earliest(state: int, interval_ns: int, burst: int, now_ns: int) -> int:
    """Give the time, ``now_ns`` or later, when the next token may be spent."""
    return max(now_ns, state - (burst - 2) * interval_ns)


def spend(state: int, interval_ns: int, at_ns: int) -> int:
    """Spend a token at ``at_ns``, which is not before ``earliest``."""
    return max(at_ns, state + interval_ns)


def used_up(interval_ns: int, burst: int, at_ns: int) -> int:
    """Give the state after a whole burst at ``at_ns``: another owner may have sent until then."""
    return at_ns + (burst - 1) * interval_ns


@dataclass(slots=True)
class WireLimiter:
    """Space what one address starts, by the owner's monotonic clock; a stall is never caught up beyond the burst.

    It begins as if a whole burst had been used at ``since_ns``: the owner before may have sent until then.
    """

    interval_ns: int
    burst: int
    since_ns: int
    _state: int = field(init=False)

    def __post_init__(self) -> None:
        """Count the burst as used."""
        self._state = used_up(self.interval_ns, self.burst, self.since_ns)

    def change(self, interval_ns: int, burst: int) -> None:
        """Take another rate, as the latest grant carries it."""
        self.interval_ns, self.burst = interval_ns, burst

    @property
    def rested_ns(self) -> int:
        """Give the time from which on a whole burst may be spent, as if nothing had been before."""
        return self._state + self.interval_ns

    def earliest(self, now_ns: int) -> int:
        """Give the time, ``now_ns`` or later, when the next RCPT may be written."""
        return earliest(self._state, self.interval_ns, self.burst, now_ns)

    def spend(self, now_ns: int) -> None:
        """Count an RCPT written at ``now_ns``, in the breath in which ``earliest`` allowed it."""
        self._state = spend(self._state, self.interval_ns, now_ns)
