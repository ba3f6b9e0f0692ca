"""The pace of a sending domain that a destination has found to send too much, over all sources. Pure.

    warned  ->  nothing for as long as the destination asks  ->  a part of what the domain did  ->  up again, step by step

The steps are a pair's (``backoff``); what is spent is a token of the domain, one at a time, whichever source sends. Where several
partitions decide about a destination each learns of what it has granted itself, which is its part of the whole: ``parts`` says of how
many, and where there are more of them now, what is known is divided.

What hurt is counted by the domain's own meter. One that has not listened for as long as the destination counts says little: then what it
has seen is all there is, and where that is nothing the domain stops and is slowed by the next warning.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from services.scheduler.policy import backoff, limits
from services.scheduler.policy.learning import counted
from services.scheduler.policy.meter import LONGEST_NS, Meter
from services.scheduler.policy.reaction import Slow
from services.scheduler.policy.supply import Supply, rising
from shared.records.backoff import NO_BACKOFF, Allowance
from shared.records.state import DomainState
from shared.runtime.settings import Backoff as Rules
from shared.runtime.settings import Rate

_MIN_NS: Final = 60_000_000_000
#: A token may be spent so long after its time: rounds come when they come, and what was learnt is counted over a minute at least.
LATE_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning as it is read; ``t0_ns`` is of the attempt that it answers."""

    now_ns: int
    t0_ns: int
    hold_ns: int
    #: No t0 of a grant lies further ahead of its decision.
    horizon_ns: int
    #: The domain's grants are counted since then.
    since_ns: int


def warned(
    state: DomainState, warning: Warned, meter: Meter, rules: Rules, rng: random.Random
) -> tuple[DomainState, bool]:
    """Take a warning; True: it is a new one, and not of what was under way when the last was read."""
    back, now = state.backoff or NO_BACKOFF, warning.now_ns
    windows, again = [warning.hold_ns], back.held_ns > 0 and not back.taken
    if again:
        # The stop was not long enough, so mail is counted over longer: over this and the stops before at least, and what was sent
        # before them; or over so long that the stops are little of it.
        windows = [min(max(warning.hold_ns, 2 * back.held_ns), LONGEST_NS), LONGEST_NS]
    listened = max(now - warning.since_ns, _MIN_NS)
    counts = [
        each
        for window in windows
        if (each := counted(meter, min(window, listened), now, refused=True)) is not None
    ]
    measured = meter.measured(now)
    heard = backoff.Heard(
        now_ns=now,
        t0_ns=warning.t0_ns,
        did=meter.per_day(now) if measured is None else measured,
        measured=measured is not None,
        counted=max(counts, default=None),
        # Nothing went at the pace in force since the last warning: where mail was counted, that says what hurt.
        rate=None if back.pace is None or (again and counts) else back.pace.level,
        limit=None,
        connections=1,
        open=1,
        horizon_ns=warning.horizon_ns,
    )
    after, news = backoff.on_warning(back, Slow(warning.hold_ns), heard, rules, rng)
    if not news:
        return replace(state, backoff=after), False
    nothing = measured is None and heard.counted is None and back.pace is None
    if nothing and listened < windows[0]:
        after = replace(after, pace=None)
    meter.reset(now)
    return replace(state, backoff=after, limiter=max(state.limiter, after.mark_ns)), True


def took(state: DomainState, t0_ns: int, meter: Meter, now_ns: int, rules: Rules) -> DomainState:
    """Take a good answer; one that was warned no more for long is as any other."""
    back = state.backoff
    if back is None:
        return state
    if backoff.forgotten(back, now_ns, rules):
        return replace(state, backoff=None, limiter=0)
    after, _ = backoff.on_good(back, t0_ns, now_ns, rules.step_ns, meter.per_day(now_ns))
    return state if after is back else replace(state, backoff=after)


def held_ns(state: DomainState, now_ns: int) -> int | None:
    """Say until when nothing goes; None: something may."""
    return None if state.backoff is None else backoff.until_ns(state.backoff, now_ns)


def earliest(state: DomainState, now_ns: int) -> int:
    """Give the time of the next token; one of the past may be spent now, one that is long over is lost."""
    pace = _pace(state)
    if pace is None:
        return now_ns
    return limits.earliest(state.limiter, _rate(pace), now_ns - LATE_NS)


def spend(state: DomainState, at_ns: int) -> DomainState:
    """Spend the token of ``at_ns``, which is not before ``earliest``."""
    pace = _pace(state)
    if pace is None:
        return state
    return replace(state, limiter=limits.spend(state.limiter, _rate(pace), at_ns))


def per_day(state: DomainState) -> int | None:
    """Give what the domain may send, messages a day; None: it is not slowed."""
    pace = _pace(state)
    return None if pace is None else pace.level


def supply(state: DomainState, from_ns: int, rules: Rules) -> Iterator[Supply]:
    """Give what goes of the domain from ``from_ns`` on, if no other warning comes; nothing where it is not slowed."""
    pace = _pace(state)
    if pace is not None:
        first = max(from_ns, held_ns(state, from_ns) or 0)
        yield from rising(pace, 1, max(first, earliest(state, first)), rules.step_ns)


def among(state: DomainState, parts: int) -> DomainState:
    """Give each of ``parts`` deciders its part of what fewer of them have learnt; what one of more has learnt stays its part."""
    back = state.backoff
    if back is None or state.parts >= parts:
        return state
    pace = back.pace and replace(
        back.pace,
        level=max(1, back.pace.level * state.parts // parts),
        hurt=max(1, back.pace.hurt * state.parts // parts),
    )
    return replace(state, backoff=replace(back, pace=pace), parts=parts)


def joined(one: DomainState, other: DomainState) -> DomainState:
    """Give ``one`` with what two deciders know of the pace: field by field the more careful; both are of as many parts."""
    back = one.backoff or other.backoff
    if one.backoff is not None and other.backoff is not None:
        back = backoff.stricter(one.backoff, other.backoff)
    limiter = max(one.limiter, other.limiter)
    return replace(one, backoff=back, limiter=limiter, parts=max(one.parts, other.parts))


def _pace(state: DomainState) -> Allowance | None:
    return None if state.backoff is None else state.backoff.pace


def _rate(pace: Allowance) -> Rate:
    return limits.of_daily(pace.level)
