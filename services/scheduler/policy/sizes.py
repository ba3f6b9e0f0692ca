"""Keep bytes: at most N in *any* half-open window of the period, of messages of any size. Pure.

    each message      the next one not before  size / (N - large)  of the period after it, and never later than the whole period
    one above large   and nothing for so long before it that with it no window has more than N
    one above N       alone: nothing in the period before it, nor after it

The state is one int, the time from which on a message without a size may start. ``large`` is a sixteenth of N: smaller messages, which are
nearly all, wait for what was sent before them alone, and cost a sixteenth of the rate. Of messages that are all a large part of N, up to
half of it is lost.

Why it holds. Let B = N - large, P the period, and i .. j messages within less than P. What was sent before j, i included, spans at least
its sum times P / B; so without j they are less than B. Where j is not above ``large``, all are less than N. Else nothing was sent for w =
P (s - large) / B before j beyond that span, so the rest is less than B (1 - w / P) = B + large - s, and with j less than N.

What counts is what the sender says as SIZE (RFC 1870 3): the message, the headers that are put before it, and the most that its
signatures add. The mail starts later than its token: as for a total (``limits``), N is decided for the period and all that a start may
move, and the grant is void after that.
"""

from dataclasses import dataclass
from typing import Final

from services.scheduler.policy import limits
from shared.runtime.settings import ByteRate

_LARGE: Final = 16


@dataclass(frozen=True, slots=True)
class Volume:
    """At most ``count`` bytes, two at least, in any window of ``period_ns``."""

    count: int
    period_ns: int
    #: On top of what each message's size says.
    added: int = 0

    @property
    def large(self) -> int:
        """Give the size up to which a message is kept back by what was sent before it alone, bytes."""
        return self.count // _LARGE


def decided(rate: ByteRate, spread_ns: int, added: int) -> Volume:
    """Give what is decided for, so that starts up to ``spread_ns`` from their tokens keep ``rate``."""
    return Volume(rate.count, limits.widened(rate, spread_ns).period_ns, added)


def earliest(state: int, volume: Volume, size_bytes: int, now_ns: int) -> int:
    """Give the time, ``now_ns`` or later, when a message of ``size_bytes`` may start."""
    above = size_bytes + volume.added - volume.large
    return max(now_ns, state + (_span(volume, above) if above > 0 else 0))


def spend(volume: Volume, size_bytes: int, at_ns: int) -> int:
    """Count a message that starts at ``at_ns``, which is not before ``earliest``; gives the state after it."""
    return at_ns + _span(volume, size_bytes + volume.added)


def interval_ns(volume: Volume, size_bytes: int) -> int:
    """Give the time between two starts where all messages are of ``size_bytes``."""
    return earliest(spend(volume, size_bytes, 0), volume, size_bytes, 0)


def _span(volume: Volume, size_bytes: int) -> int:
    span = -(-size_bytes * volume.period_ns // (volume.count - volume.large))
    return min(volume.period_ns, span)
