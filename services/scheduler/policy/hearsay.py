"""What a destination told one source, and what the other sources of its pool make of it until they know better. Pure.

    a source's first warning, for too much in a time that is known
      -> one of the others, the one that did most in that time, goes on as before: the scout
      -> the rest stay a little below what hurt, and wait until what they have sent in that time leaves room for it
    the scout, or another, is warned at about the same level: it is so for all of them, and nobody has to try it again
    the scout does a fifth more than what hurt, and is not warned: it was the one source's own trouble, and the rest are free
    a source that goes up again when its memory is over is warned at about the same level: all the others remember it anew

Sources that share a pool, and are not being warmed up, have sent the same mail; a provider that counts mail by source mostly grants them
the same. But reputation is each source's own: so what another was told slows only one that has no warning of its own, while none of them
has done more, and it slows all of them only when two were told it. It fades as a warning of its own does: while it is remembered nobody is
let above it, then a little at a time (``allowance``). The memories of a pool end one after the other, so that one source tries for all.

Sources of a pool that lie in different slot groups have different deciders, and do not hear of each other.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from services.scheduler.policy import allowance, limits
from services.scheduler.policy.pair import Pair
from shared.records.backoff import NO_BACKOFF, Allowance, Backoff, Hearsay
from shared.records.lanemap import group_of
from shared.runtime.settings import Backoff as Rules
from shared.runtime.settings import Settings

#: Of what hurt, of a thousand, what others stay at: it was counted, so it is exact.
_BELOW: Final = 970
#: Of what hurt, in tenths: who did as much without a warning is granted more.
_BORNE: Final = 12
#: Of the lower of two levels, in tenths: up to there they are the same.
_ALIKE: Final = 15


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


class Change(NamedTuple):
    """The pairs of which something else is known now, and those of them that may send less, or more, than before."""

    pairs: list[Pair]
    concerned: list[Pair]


def tell(hurt: int, window_ns: int, siblings: Sequence[Pair], now_ns: int, rules: Rules) -> Change:
    """Tell the siblings of a source that was warned at ``hurt`` messages a day, counted over ``window_ns``."""
    if any(_bears(each, hurt, window_ns, now_ns) for each in siblings):
        return Change([], [])
    warned = [
        each for each in siblings if (pace := _own(each)) is not None and alike(pace.hurt, hurt)
    ]
    rest = [each for each in siblings if _own(each) is None]
    scout = None if warned else _scout(rest, window_ns, now_ns)
    slowed = [each for each in siblings if each in warned or (each in rest and each is not scout)]
    anew = [each for each in slowed if each in rest and _heard(each) is None]
    for rank, each in enumerate(slowed, 1):
        # One goes up again after the other, within as long as the first remembers.
        later = rank * rules.memory_ns // (len(slowed) + 1)
        back = each.backoff or NO_BACKOFF
        if back.pace is not None:
            each.backoff = replace(back, pace=_renewed(back.pace, now_ns, later, rules))
        else:
            said = _believed(each, hurt, window_ns, now_ns, rules, later)
            each.backoff = replace(back, hearsay=said)
    if scout is None:
        return Change(slowed, anew)
    said = Hearsay(hurt=hurt, window_ns=window_ns, heard_ns=now_ns)
    scout.backoff = replace(scout.backoff or NO_BACKOFF, hearsay=said)
    return Change([*slowed, scout], anew)


def disproved(pair: Pair, now_ns: int) -> bool:
    """Say whether a scout has done, without a warning, what is too much by hearsay."""
    said = _said(pair)
    if said is None or said.pace is not None:
        return False
    return _bears(pair, said.hurt, said.window_ns, now_ns)


def free(pairs: Iterable[Pair]) -> Change:
    """Let pairs forget what they heard."""
    change = Change([], [])
    for pair in pairs:
        back = pair.backoff
        if back is not None and back.hearsay is not None:
            change.pairs.append(pair)
            if back.hearsay.pace is not None:
                change.concerned.append(pair)
            after = replace(back, hearsay=None)
            pair.backoff = None if after == NO_BACKOFF else after
    return change


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


def alike(one: int, other: int) -> bool:
    """Say whether two levels that hurt are one limit."""
    return 10 * max(one, other) <= _ALIKE * min(one, other)


def _own(pair: Pair) -> Allowance | None:
    return None if pair.backoff is None else pair.backoff.pace


def _said(pair: Pair) -> Hearsay | None:
    return None if pair.backoff is None else pair.backoff.hearsay


def _heard(pair: Pair) -> Allowance | None:
    said = _said(pair)
    return None if said is None else said.pace


def _bears(pair: Pair, hurt: int, window_ns: int, now_ns: int) -> bool:
    counted = pair.meter.counted(now_ns, window_ns)
    return counted is not None and 10 * counted >= _BORNE * hurt


def _scout(pairs: Sequence[Pair], window_ns: int, now_ns: int) -> Pair | None:
    """Choose who goes on: who does so already, else who is next to know; None: all have believed it before."""
    unslowed = [each for each in pairs if _heard(each) is None]

    def next_to_know(pair: Pair) -> tuple[bool, int, int]:
        return _said(pair) is not None, pair.meter.counted(now_ns, window_ns) or 0, -pair.slot

    return max(unslowed, key=next_to_know, default=None)


def _renewed(was: Allowance, now_ns: int, later_ns: int, rules: Rules) -> Allowance:
    """Remember for longer, twice as long where the memory was over, and come back below what hurt."""
    memory = was.memory_ns
    if now_ns >= was.careful_ns:
        memory = min(2 * memory, rules.forget_ns)
    return replace(
        was,
        level=min(was.level, max(1, was.hurt * was.plateau // 1000)),
        careful_ns=max(was.careful_ns, now_ns + memory + later_ns),
        memory_ns=memory,
    )


def _believed(
    pair: Pair, hurt: int, window_ns: int, now_ns: int, rules: Rules, later_ns: int
) -> Hearsay:
    said, was = _said(pair), _heard(pair)
    if was is None:
        floor = min(hurt, limits.daily(rules.floor))
        pace = Allowance(
            level=max(1, floor, hurt * _BELOW // 1000),
            hurt=hurt,
            careful_ns=now_ns + rules.memory_ns + later_ns,
            memory_ns=rules.memory_ns,
            raised_ns=now_ns,
            plateau=_BELOW,
        )
    else:
        pace = _renewed(replace(was, hurt=min(hurt, was.hurt)), now_ns, later_ns, rules)
    most = max(1, pace.level * window_ns // limits.DAY_NS)
    until = pair.meter.room_ns(now_ns, window_ns, most, pair.open)
    return Hearsay(
        hurt=pace.hurt,
        window_ns=window_ns,
        heard_ns=now_ns,
        pace=pace,
        until_ns=until if said is None else max(until, said.until_ns),
    )
