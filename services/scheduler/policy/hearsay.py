"""What a destination told one source, and what the other sources of its pool make of it until they know better. Pure.

    a source's first warning, for too much in a time that is known
      -> one of the others, the one that did most in that time, goes on as before: the scout
      -> the rest stay a little below what hurt, and wait until what they have sent in that time leaves room for it
    the scout, or another, is warned at about the same level: it is so for all of them, and nobody has to try it again
    the scout does a fifth more than what hurt, and is not warned: it was the one source's own trouble, and the rest are free

Sources that share a pool, and are not being warmed up, have sent the same mail; a provider that counts mail by source mostly grants them
the same. But reputation is each source's own: so what another was told is believed only where a source has no warning of its own and has
not itself done more, and it is believed for all only when two were told it. It fades as a warning of its own does: for as long as it is
remembered nobody is let above it, then a little at a time (``allowance``); the first to be warned again renews it for the others.

Sources of a pool that lie in different slot groups have different deciders, and do not hear of each other.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from services.scheduler.policy import allowance, limits
from services.scheduler.policy.pair import Pair
from shared.records.backoff import Allowance, Backoff, Hearsay
from shared.records.lanemap import group_of
from shared.runtime.settings import Backoff as Rules
from shared.runtime.settings import Settings

#: Of what hurt, of a thousand, what others stay at: it was counted, so it is exact.
_BELOW: Final = 970
#: Of what hurt, in tenths: who did as much without a warning is granted more.
_BORNE: Final = 12
#: Of the lower of two levels, in tenths: up to there they are the same.
_ALIKE: Final = 15
_NONE: Final = Backoff()


def mates(settings: Settings, slot: int) -> list[int]:
    """List the slots that share a pool, and the decider, with ``slot``."""
    source = settings.source_of(slot)
    if source is None:
        return []
    names = {
        name
        for pool in settings.pools.values()
        if source.name in pool.sources
        for name in pool.sources
    }
    slots = (settings.sources[name].slot for name in names - {source.name})
    return sorted(each for each in slots if group_of(each) == group_of(slot))


def tell(
    hurt: int, window_ns: int, siblings: Sequence[Pair], now_ns: int, rules: Rules
) -> list[Pair]:
    """Tell the siblings of a source that was warned at ``hurt`` messages a day, counted over ``window_ns``; gives those that it slows."""
    rest = [each for each in siblings if each.backoff is None or each.backoff.pace is None]
    if any(_bears(each, hurt, window_ns, now_ns) for each in rest):
        return []
    known = [each.backoff.pace for each in siblings if each.backoff and each.backoff.pace]
    scout = None
    if not any(_alike(pace.hurt, hurt) for pace in known):
        scout = _scout(rest, window_ns, now_ns)
    slowed = []
    for each in rest:
        back = each.backoff or _NONE
        if each is scout:
            after = Hearsay(hurt=hurt, window_ns=window_ns, heard_ns=now_ns)
        else:
            after = _believed(each, hurt, window_ns, now_ns, rules)
            slowed.append(each)
        each.backoff = replace(back, hearsay=after)
    return slowed


def disproved(pair: Pair, now_ns: int) -> bool:
    """Say whether a scout has done, without a warning, what is too much by hearsay."""
    said = pair.backoff and pair.backoff.hearsay
    return (
        said is not None
        and said.pace is None
        and _bears(pair, said.hurt, said.window_ns, now_ns)
    )


def free(pairs: Iterable[Pair]) -> list[Pair]:
    """Let pairs forget what they heard; gives those that it had slowed."""
    freed = []
    for pair in pairs:
        back = pair.backoff
        if back is not None and back.hearsay is not None:
            if back.hearsay.pace is not None:
                freed.append(pair)
            after = replace(back, hearsay=None)
            pair.backoff = None if after == _NONE else after
    return freed


def raised(said: Hearsay, now_ns: int, step_ns: int) -> Hearsay:
    """Take a good answer."""
    if said.pace is None:
        return said
    pace = allowance.raised(said.pace, now_ns, step_ns)
    return said if pace is said.pace else replace(said, pace=pace)


def stricter(one: Backoff, other: Backoff) -> Hearsay | None:
    """Join what two deciders know of a pair: what it was told itself counts more, else the more careful."""
    if one.pace is not None or other.pace is not None:
        return None
    if one.hearsay is None or other.hearsay is None:
        return one.hearsay or other.hearsay
    return Hearsay(
        hurt=min(one.hearsay.hurt, other.hearsay.hurt),
        window_ns=max(one.hearsay.window_ns, other.hearsay.window_ns),
        heard_ns=max(one.hearsay.heard_ns, other.hearsay.heard_ns),
        pace=allowance.stricter(one.hearsay.pace, other.hearsay.pace),
        until_ns=max(one.hearsay.until_ns, other.hearsay.until_ns),
    )


def _bears(pair: Pair, hurt: int, window_ns: int, now_ns: int) -> bool:
    counted = pair.meter.counted(now_ns, window_ns)
    return counted is not None and 10 * counted >= _BORNE * hurt


def _alike(one: int, other: int) -> bool:
    return 10 * max(one, other) <= _ALIKE * min(one, other)


def _scout(pairs: Sequence[Pair], window_ns: int, now_ns: int) -> Pair | None:
    """Choose who goes on: who does so already, else who is next to know; None: all have believed it before."""
    unslowed = [
        each
        for each in pairs
        if each.backoff is None or each.backoff.hearsay is None or each.backoff.hearsay.pace is None
    ]

    def next_to_know(pair: Pair) -> tuple[bool, int, int]:
        scouts = pair.backoff is not None and pair.backoff.hearsay is not None
        return scouts, pair.meter.counted(now_ns, window_ns) or 0, -pair.slot

    return max(unslowed, key=next_to_know, default=None)


def _believed(pair: Pair, hurt: int, window_ns: int, now_ns: int, rules: Rules) -> Hearsay:
    said = pair.backoff and pair.backoff.hearsay
    was = said and said.pace
    memory = rules.memory_ns
    if was is not None:
        hurt = min(hurt, was.hurt)
        again = now_ns >= was.careful_ns
        memory = min(2 * was.memory_ns, rules.forget_ns) if again else was.memory_ns
    level = min(hurt, max(limits.daily(rules.floor), hurt * _BELOW // 1000))
    pace = Allowance(
        level=max(1, level if was is None else min(level, was.level)),
        hurt=hurt,
        careful_ns=now_ns + memory,
        memory_ns=memory,
        raised_ns=now_ns,
        plateau=_BELOW,
    )
    most = max(1, pace.level * window_ns // limits.DAY_NS)
    until = pair.meter.room_ns(now_ns, window_ns, most, pair.open)
    return Hearsay(
        hurt=hurt,
        window_ns=window_ns,
        heard_ns=now_ns,
        pace=pace,
        until_ns=until if said is None else max(until, said.until_ns),
    )
