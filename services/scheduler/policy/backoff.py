"""What a pair does after a warning: stops, slows down, uses fewer connections, is suspended; and how it comes back. Pure.

    too fast              nothing for a while, then a part of the rate that hurt, raised again step by step (``allowance``)
    too many connections  a part of them, one more with each step
    refused               suspended, longer each time, then a few probes, then as after "too fast" with one connection (``suspensions``)

**One reaction a burst.** When the first warning is read here, other attempts are under way; their answers say nothing new. An attempt
granted before now has its t0 within the horizon, and nothing is granted before that is over: so answers up to ``mark_ns`` are of the
burst. They can still make a wait longer, or the reaction graver; never cut a rate twice, never raise one.

A pair that was warned no more for ``forget_ns`` is as any other, unless its probes are still awaited. The state is a record (see
``shared.records.backoff``), kept in mail.state as it is; no clock, no memory beside it.
"""

import random
from dataclasses import dataclass
from typing import Final, Literal

from msgspec.structs import replace

from services.scheduler.policy import allowance, hearsay, limits, suspensions
from services.scheduler.policy.pauses import Allowed, Deferred
from services.scheduler.policy.reaction import Caution, Fewer, Slow, Suspend
from shared.records.backoff import Allowance, Backoff
from shared.runtime.settings import Backoff as Rules

#: Each stop is up to this share longer, so that the pairs of a provider do not begin together.
_JITTER: Final = 0.1
_SLOWED: Final = 1
_SUSPENDED: Final = 2
#: What was counted over the whole wait may be less than the rate of the last seconds by this at most: if it was a short window that hurt
#: after all, the rate is not cut to nothing.
_SHORT: Final = 8
#: Times the least rate.
_LITTLE: Final = 2
#: Plateaus (``allowance``) where what hurt was counted, which is exact, and where it is a matter of reputation: that has become less by
#: the warning itself, and so has what the destination takes.
_COUNTED: Final = 970
_LASTING: Final = 725

News = Literal["", "slowed", "suspended"]


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of the pair when an answer is read; rates are messages a day."""

    now_ns: int
    #: Of the attempt that is answered.
    t0_ns: int
    #: What it did lately, and whether enough answers say so.
    did: int
    measured: bool
    #: What it did in as long as the destination asks to wait: that is what it counts over, where it is any long time. None: too few.
    counted: int | None
    #: What is in force; None: no rate.
    rate: int | None
    #: What the operator allows; None: any.
    limit: int | None
    connections: int
    #: Attempts that were open, this one included.
    open: int
    #: No t0 of a grant lies further ahead of its decision.
    horizon_ns: int


def on_warning(
    back: Backoff, warning: Caution, heard: Heard, rules: Rules, rng: random.Random
) -> tuple[Backoff, News]:
    """Take a warning; says what changed that an operator should know."""
    burst = heard.t0_ns <= back.mark_ns
    gravity = _SUSPENDED if isinstance(warning, Suspend) else _SLOWED
    back = replace(back, warned_ns=heard.now_ns)
    if burst and gravity <= back.gravity:
        return _longer(back, warning, heard, rules, rng), ""
    after = replace(back, mark_ns=heard.now_ns + heard.horizon_ns, gravity=gravity, taken=False)
    match warning:
        case Slow(hold_ns=hold, connections=connections, lasts=lasts):
            after = replace(
                _held(after, back, rules.hold_ns if hold is None else hold, heard, rules, rng),
                pace=_cut(back, heard, rules, lasts=lasts),
                # What it is told itself counts more than what others were told.
                hearsay=None,
            )
            if connections is not None:
                after = replace(after, connections=_at_most(back, connections, heard, rules))
            return _from(after, after.hold_ns), "slowed"
        case Fewer():
            return replace(
                after,
                hold_ns=max(back.hold_ns, after.mark_ns),
                connections=allowance.cut(
                    back.connections,
                    min(heard.connections, max(1, heard.open)),
                    1,
                    heard.now_ns,
                    share=rules.cut,
                    memory_ns=rules.memory_ns,
                    memory_max_ns=rules.forget_ns,
                ),
            ), "slowed"
        case Suspend(slower=slower):
            if slower and not burst:
                after = replace(after, pace=_cut(back, heard, rules), hearsay=None)
            after = replace(after, connections=_at_most(back, 1, heard, rules))
            return _suspended(after, warning, heard, rules, rng), "suspended"


def on_good(back: Backoff, t0_ns: int, now_ns: int, step_ns: int, did: int) -> tuple[Backoff, bool]:
    """Take an answer that says that all is well, of a pair that does ``did`` messages a day; True: with it a suspension is over.

    A rate that is not used proves nothing: it rises while half of it is (RFC 7661 has the same of a TCP sender).
    """
    if t0_ns <= back.mark_ns:
        return back, False
    if back.suspension is not None and back.suspension.left:
        suspension = suspensions.probed(back.suspension, now_ns)
        after = replace(back, taken=True, suspension=suspension)
        resumed = suspension.left == 0
        return (_from(after, now_ns) if resumed else after), resumed
    rate = _risen(back.pace, now_ns, step_ns, did)
    connections = back.connections and allowance.raised(back.connections, now_ns, step_ns)
    said = back.hearsay
    if said is not None:
        risen = _risen(said.pace, now_ns, step_ns, did)
        said = said if risen is said.pace else replace(said, pace=risen)
    same = rate is back.pace and connections is back.connections and said is back.hearsay
    if back.taken and same:
        # As most answers are: a step is taken once in a while.
        return back, False
    return replace(back, taken=True, pace=rate, connections=connections, hearsay=said), False


def _risen(rate: Allowance | None, now_ns: int, step_ns: int, did: int) -> Allowance | None:
    return rate if rate is None or 2 * did < rate.level else allowance.raised(rate, now_ns, step_ns)


def _from(back: Backoff, at_ns: int) -> Backoff:
    """Let the steps up begin at ``at_ns``, when something goes again."""
    return replace(
        back,
        pace=back.pace and replace(back.pace, raised_ns=at_ns),
        connections=back.connections and replace(back.connections, raised_ns=at_ns),
    )


def may_grant(back: Backoff, now_ns: int, open_grants: int) -> Allowed | Deferred:
    """Say whether one more grant may go to a pair that has ``open_grants``."""
    suspension = back.suspension
    probing = suspension is not None and suspension.left > 0
    until = max(back.hold_ns, suspension.until_ns if suspension is not None and probing else 0)
    if back.hearsay is not None:
        until = max(until, back.hearsay.until_ns)
    if now_ns < until:
        return Deferred(until)
    # What was open before the suspension must have ended too: its end is an answer as well.
    return Deferred(None) if probing and open_grants else Allowed()


def until_ns(back: Backoff, now_ns: int) -> int | None:
    """Say until when nothing is granted; None: something may be, if only a probe."""
    match may_grant(back, now_ns, 0):
        case Deferred(until_ns=until):
            return until
        case Allowed():
            return None


def stopped(back: Backoff, now_ns: int) -> bool:
    """Say whether nothing is granted, or nothing but probes."""
    return may_grant(back, now_ns, 1) != Allowed()


def forgotten(back: Backoff, now_ns: int, rules: Rules) -> bool:
    """Say whether nothing of it counts any more."""
    suspension = back.suspension
    if suspension is not None and suspension.left:
        return False
    ended = suspension.until_ns if suspension is not None else 0
    said = back.hearsay.heard_ns if back.hearsay is not None else 0
    return now_ns >= max(back.warned_ns, back.hold_ns, ended, said) + rules.forget_ns


def pace(back: Backoff) -> Allowance | None:
    """Give what warnings leave of the pair's rate: its own, else what it has heard of."""
    if back.pace is not None or back.hearsay is None:
        return back.pace
    return back.hearsay.pace


def stricter(one: Backoff, other: Backoff) -> Backoff:
    """Join what two deciders know of a pair: field by field the more careful."""
    return Backoff(
        mark_ns=max(one.mark_ns, other.mark_ns),
        gravity=max((each.mark_ns, each.gravity) for each in (one, other))[1],
        warned_ns=max(one.warned_ns, other.warned_ns),
        taken=one.taken and other.taken,
        hold_ns=max(one.hold_ns, other.hold_ns),
        held_ns=max(one.held_ns, other.held_ns),
        pace=allowance.stricter(one.pace, other.pace),
        connections=allowance.stricter(one.connections, other.connections),
        suspension=suspensions.stricter(one.suspension, other.suspension),
        hearsay=hearsay.stricter(one, other),
    )


def _longer(
    back: Backoff, warning: Caution, heard: Heard, rules: Rules, rng: random.Random
) -> Backoff:
    """Let a warning of the same burst make the wait as long as it asks for."""
    match warning:
        case Slow(hold_ns=hold):
            asked = heard.now_ns + (rules.hold_ns if hold is None else hold)
            return replace(back, hold_ns=max(back.hold_ns, asked))
        case Suspend() if back.suspension is not None and heard.now_ns < back.suspension.until_ns:
            return _suspended(back, warning, heard, rules, rng)
        case _:
            return back


def _held(
    after: Backoff, back: Backoff, hold_ns: int, heard: Heard, rules: Rules, rng: random.Random
) -> Backoff:
    """Stop for a while: longer where the last stop was followed by this warning and nothing else."""
    length = hold_ns
    if back.held_ns and not back.taken:
        length = max(hold_ns, min(2 * back.held_ns, rules.hold_max_ns))
    until = heard.now_ns + length + rng.randint(0, int(length * _JITTER))
    # The horizon is the least: what is granted later is then known by its t0 to be no part of the burst.
    return replace(after, hold_ns=max(back.hold_ns, until, after.mark_ns), held_ns=length)


def _suspended(
    back: Backoff, warning: Suspend, heard: Heard, rules: Rules, rng: random.Random
) -> Backoff:
    first = rules.suspend_first_ns if warning.first_ns is None else warning.first_ns
    suspension = suspensions.suspended(
        back.suspension,
        heard.now_ns,
        rng,
        first_ns=max(first, heard.horizon_ns),
        max_ns=rules.suspend_max_ns,
        probes=rules.probes,
    )
    return replace(back, suspension=suspension)


def _cut(back: Backoff, heard: Heard, rules: Rules, *, lasts: bool = False) -> Allowance:
    """Cut the rate: by what the pair did where that is known, else by what was allowed."""
    in_force, plateau = heard.rate, allowance.PLATEAU
    measured = heard.did if heard.measured else None
    if heard.counted is not None:
        least = 0 if measured is None else measured // _SHORT
        if back.hearsay is not None and hearsay.alike(back.hearsay.hurt, heard.counted):
            # Another was warned at as many in that time: it is not the last seconds that hurt.
            least = 0
        measured = min(
            max(heard.counted, least), heard.did if measured is not None else heard.counted
        )
        plateau = _COUNTED
    if lasts:
        plateau = _LASTING
    if measured is None and back.pace is not None and in_force is not None and not back.taken:
        # Nothing went well since the last cut, so nothing is learnt about the level. Where something did, the level in force is what hurt.
        return allowance.cut_again(
            replace(back.pace, level=min(back.pace.level, in_force)),
            _floor(heard, rules),
            heard.now_ns,
            share=rules.cut,
        )
    hurt = measured if measured is not None else in_force
    if hurt is None:
        # Nothing is known but that it was too much: whatever it did, no more than a part of that.
        hurt = max(heard.did, limits.daily(rules.floor))
    if in_force is not None:
        hurt = min(hurt, in_force)
    floor = _floor(heard, rules)
    longest = rules.forget_ns
    if not lasts and hurt <= _LITTLE * floor:
        # So little is no level that was too much, but what was left when it was: nothing worth remembering for longer than one waits.
        longest = min(longest, rules.hold_max_ns)
    return allowance.cut(
        back.pace,
        hurt,
        floor,
        heard.now_ns,
        share=rules.cut,
        memory_ns=rules.forget_ns if lasts else rules.memory_ns,
        memory_max_ns=longest,
        plateau=plateau,
    )


def _floor(heard: Heard, rules: Rules) -> int:
    """Give the least rate to cut to; one that the operator allows little may be cut to a sixteenth of it."""
    floor = limits.daily(rules.floor)
    return floor if heard.limit is None else min(floor, max(1, heard.limit // 16))


def _at_most(back: Backoff, level: int, heard: Heard, rules: Rules) -> Allowance:
    """Come back with ``level`` connections and add one by one: their number was not what hurt."""
    was = back.connections
    return Allowance(
        level=min(level, was.level) if was is not None else level,
        hurt=was.hurt if was is not None else 2 * max(heard.connections, level),
        careful_ns=was.careful_ns if was is not None else heard.now_ns,
        memory_ns=was.memory_ns if was is not None else rules.memory_ns,
        raised_ns=heard.now_ns,
    )
