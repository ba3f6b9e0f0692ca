"""Keep rates: at most N in *any* half-open window of the period, the burst included. Pure.

A strict GCRA (``shared.protocol.spacing``) in whole nanoseconds. With interval = period / (N - burst + 1), rounded up, any
``burst + k`` tokens span at least ``k`` intervals, so N + 1 never fit into one period. After a change of the rate every window that
begins with or after the last token keeps the new one; with a burst, a window that straddles the change may hold one burst more.

**At the wire.** A token is for t0, the mail starts later. One address has one owner, so the owner spends the same rate again with
``spacing.WireLimiter`` when it writes RCPT: whatever the delays before, the receiver sees at most N in any window.

**Over several addresses** nobody sees all starts, and delays bunch them: A's mails late, B's in time. Two rules are sound:

- ``widened``: the grant is void ``w`` after its t0, and the total is decided for N per (period + w). The starts of any window of one
  period had their tokens in a window of period + w, so there are at most N. For ``w`` count the grant's start window and, since t0 is
  the scheduler's time and the start the sender's, the skew of each: ``spread_ns``. It costs w / (period + w) of the rate: cheap for
  hours and minutes, dear for seconds.
- ``share``: each of k addresses keeps N/k at its own wire. No delay can break it, it costs nothing while all k send, and the rate of
  those that do not send is lost. For periods of seconds.
"""

from typing import Final

from shared.protocol import spacing
from shared.runtime.settings import Rate

#: State of a limiter that never spent a token.
UNUSED: Final = 0
DAY_NS: Final = 86_400_000_000_000
#: How the limit keys of smart hosts begin: each is one lane and one source, so nothing that counts over all is divided there.
SMARTHOST: Final = "smarthost:"


def interval_ns(rate: Rate) -> int:
    """Give the time between two tokens once the burst is used."""
    return -(-rate.period_ns // (rate.count - rate.burst + 1))


def earliest(state: int, rate: Rate, now_ns: int) -> int:
    """Give the time, ``now_ns`` or later, when the next token may be spent."""
    return spacing.earliest(state, interval_ns(rate), rate.burst, now_ns)


def spend(state: int, rate: Rate, at_ns: int) -> int:
    """Spend a token at ``at_ns``, which is not before ``earliest``; it is never given back."""
    return spacing.spend(state, interval_ns(rate), at_ns)


def used_up(rate: Rate, at_ns: int) -> int:
    """Give the state after a whole burst at ``at_ns``: another owner may have sent until then."""
    return spacing.used_up(interval_ns(rate), rate.burst, at_ns)


def daily(rate: Rate) -> int:
    """Give the rate as messages a day, at least one; what a burst adds once is left out."""
    return max(1, DAY_NS // interval_ns(rate))


def of_daily(level: int) -> Rate:
    """Give the rate of ``level`` messages a day, one at a time."""
    return Rate(count=1, period_ns=-(-DAY_NS // level), burst=1)


def widened(rate: Rate, window_ns: int) -> Rate:
    """Give the tokens' rate if all starts, up to ``window_ns`` after them, are to keep ``rate``."""
    return Rate(count=rate.count, period_ns=rate.period_ns + window_ns, burst=rate.burst)


def spread_ns(start_window_ns: int, skew_ns: int) -> int:
    """Give how far starts may move against tokens: the start window, and a clock at each end."""
    return start_window_ns + 2 * skew_ns


def begun_anew(limiter: int, rate: Rate, now_ns: int) -> int:
    """Give the limiter that goes on at another ``rate`` and has nothing to spend at first."""
    return max(limiter, now_ns) + (rate.burst + 1) * interval_ns(rate)


def divided(rate: Rate, parts: int) -> Rate:
    """Give each of ``parts`` deciders what it may spend of a rate: together they never have more than all of it."""
    if parts == 1:
        return rate
    part = share(rate, parts)
    if part is None:
        return Rate(count=1, period_ns=rate.period_ns * parts, burst=1)
    return Rate(count=part.count, period_ns=part.period_ns, burst=max(1, rate.burst // parts))


def share(rate: Rate, addresses: int) -> Rate | None:
    """Give each of ``addresses`` its part of a rate over all; None: there are not enough tokens."""
    count = rate.count // addresses
    if count == 0:
        return None
    return Rate(count=count, period_ns=rate.period_ns, burst=min(rate.burst, count))
