"""How much a source can send from now on: runs of grants, one in each interval. Pure.

    Supply(first, interval, most)    what a source that is slowed, grows or is warmed up can send is several of them, one after the other

What comes is taken from the rules themselves: a rate after a warning rises as ``allowance`` raises it, a destination that nobody knows has
more as ``growth`` says, a warm-up day follows the other as ``warmup`` judges it if its budget is used. ``drained_ns`` puts sources side by
side. It is a forecast: no further warning comes in it, and every day's budget is used.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from services.scheduler.policy import allowance, growth, limits, warmup
from services.scheduler.policy.warmup import DAY_NS, Plan, Token
from shared.records.backoff import Allowance
from shared.records.state import WarmupState
from shared.runtime.settings import Limit

ENDLESS: Final = 1 << 62
_S: Final = 1_000_000_000
#: Of a rise; what comes later is taken as the last of them.
_STEPS: Final = 30
#: So many grants are listed rather than sought.
_FEW: Final = 64
#: A delivery expires at most five days after it may go first.
_DAYS: Final = 6


class Supply(NamedTuple):
    """At most ``most`` grants, the first at ``first_ns``, one in each interval."""

    first_ns: int
    interval_ns: int
    most: int = ENDLESS


def drained_ns(supplies: Sequence[Supply], before: int) -> int | None:
    """Say when the one goes before which ``before`` go; None: so many are never sent."""
    if sum(supply.most for supply in supplies) <= before:
        return None

    def sent(by_ns: int) -> int:
        return sum(
            [
                min(most, (by_ns - first) // interval + 1)
                for first, interval, most in supplies
                if by_ns >= first
            ]
        )

    low = min(supply.first_ns for supply in supplies)
    high = max(first + min(most - 1, before) * interval for first, interval, most in supplies)
    # So many are sent before ``low``, and up to ``high``; the one asked for is among those between.
    below, above, halve = 0, sent(high), False
    while above - below > _FEW and low < high:
        # The supplies are runs of even steps: what lies between is found by its share, and by halves where that errs.
        part = (high - low) * (before + 1 - below) // (above - below)
        middle = (low + high) // 2 if halve else min(low + part, high - 1)
        count, halve = sent(middle), not halve
        if count > before:
            high, above = middle, count
        else:
            low, below = middle + 1, count
    between = (
        first + turn * interval
        for first, interval, most in supplies
        if first <= high
        for turn in range(
            max(0, -((first - low) // interval)), min(most, (high - first) // interval + 1)
        )
    )
    return sorted(between)[before - below]


def rising(pace: Allowance, fastest_ns: int, from_ns: int, step_ns: int) -> Iterator[Supply]:
    """Give what a pair sends whose rate a warning has cut, from ``from_ns`` on, if no other warning comes."""
    at = from_ns
    for _ in range(_STEPS):
        interval = max(fastest_ns, limits.interval_ns(limits.of_daily(pace.level)))
        if interval <= fastest_ns:
            break
        # A step follows an answer.
        next_ns = max(pace.raised_ns + step_ns, at) + interval
        raised = allowance.raised(pace, next_ns, step_ns)
        if raised.level == pace.level:
            next_ns = max(next_ns, pace.careful_ns)
            raised = allowance.raised(pace, next_ns, step_ns)
        yield Supply(at, interval, max(1, (next_ns - at) // interval))
        at, pace = max(next_ns, at + interval), raised
    yield Supply(at, max(fastest_ns, limits.interval_ns(limits.of_daily(pace.level))))


def growing(whole: Limit, good: int, fastest_ns: int, from_ns: int) -> Iterator[Supply]:
    """Give what a destination takes that nobody knows and that took ``good`` messages, if it takes all that comes."""
    start, at = whole.start_rate, from_ns
    if start is not None:
        while good < growth.enough(start, whole.rate):
            interval = max(fastest_ns, limits.interval_ns(growth.rate(start, good)))
            count = max(1, growth.DOUBLING_NS // interval)
            yield Supply(at, interval, count)
            at, good = at + count * interval, good + count
    yield Supply(at, fastest_ns)


def budgeted(
    state: WarmupState, plan: Plan, fastest_ns: int, from_ns: int, skew_ns: int
) -> Iterator[Supply]:
    """Give what a source sends that is being warmed up, from ``from_ns`` on, if it uses each day's budget."""
    for _ in range(_DAYS):
        begins = state.day * DAY_NS
        if state.warm:
            yield Supply(max(from_ns, begins), fastest_ns)
            return
        match warmup.token(state, plan, max(from_ns, begins), skew_ns):
            case Token(t0_ns=first, end_ns=end):
                interval = max(fastest_ns, warmup.interval_ns(state, plan))
                left = min(plan.budget(state) - state.used, (end - first) // interval + 1)
                yield Supply(first, interval, left)
                used = state.used + left
                state = replace(state, used=used, sent=max(state.sent, used), last=state.day)
            case _:
                # It is used up, or over: what was granted today is answered by then.
                state = replace(state, sent=max(state.sent, state.used))
        state, _ = warmup.passed(state, plan, (state.day + 1) * DAY_NS)
