"""Let less through where a destination said that it was too much, and more again while it takes what comes. Pure.

    a cut:   level = share of what hurt; never under the floor, never more than before
    a step:  + 1/20 of what hurt (1/10 if that is known exactly), until its plateau (9/10 of it); there it stays for as long as the level
             that hurt is remembered
             then + 1/100 of it up to half as much again: if it hurts at the same place once more, it does so slowly
             then + 1/20 of itself, for the memory was wrong

A step follows a good answer, at most one in ``step_ns``: without answers nothing is known and nothing rises, and a rate of which little is
used proves nothing (``backoff.on_good``). The memory doubles with each cut at a level that hurt before, so that a destination with a fixed
limit is tried at it ever more seldom; at another level, from half as much again on, it is another limit, of which nothing is known yet. The
same arithmetic serves rates and connections: whole numbers, where the least step is 1.
"""

from typing import Final

from shared.records.backoff import Allowance

_BELOW: Final = 20
_BELOW_EXACT: Final = 10
_NEAR: Final = 100
#: Of what hurt, in tenths: where it is disproved.
_DISPROVED: Final = 15
#: Of what hurt, of a thousand: where the rise stops while it is remembered. What was measured over seconds is right to a tenth.
PLATEAU: Final = 900
#: Nothing is held back by so much: it rises no more.
_MOST: Final = 1 << 40


def cut(
    was: Allowance | None,
    hurt: int,
    floor: int,
    now_ns: int,
    *,
    share: float,
    memory_ns: int,
    memory_max_ns: int,
    plateau: int = PLATEAU,
) -> Allowance:
    """Cut to ``share`` of ``hurt``, the level that was too much; it is no more than what was allowed before."""
    memory = memory_ns
    if was is not None and 10 * max(hurt, was.hurt) <= _DISPROVED * min(hurt, was.hurt):
        memory = max(memory, 2 * was.memory_ns)
    memory = min(memory, memory_max_ns)
    return Allowance(
        level=max(1, min(hurt, max(floor, int(hurt * share)))),
        hurt=max(1, hurt),
        careful_ns=now_ns + memory,
        memory_ns=memory,
        raised_ns=now_ns,
        plateau=plateau,
    )


def cut_again(was: Allowance, floor: int, now_ns: int, *, share: float) -> Allowance:
    """Cut once more before anything was learnt about the level: what hurt is what hurt before."""
    return Allowance(
        level=max(1, min(was.level, max(floor, int(was.level * share)))),
        hurt=was.hurt,
        careful_ns=max(was.careful_ns, now_ns + was.memory_ns),
        memory_ns=was.memory_ns,
        raised_ns=now_ns,
        plateau=was.plateau,
    )


def raised(was: Allowance, now_ns: int, step_ns: int) -> Allowance:
    """Take a good answer."""
    if now_ns < was.raised_ns + step_ns or was.level >= _MOST:
        return was
    plateau, disproved = was.hurt * was.plateau // 1000, was.hurt * _DISPROVED // 10
    if was.level < plateau:
        part = _BELOW if was.plateau == PLATEAU else _BELOW_EXACT
        level = min(was.level + max(1, was.hurt // part), plateau)
    elif now_ns < was.careful_ns:
        return was
    elif was.level < disproved:
        level = was.level + max(1, was.hurt // _NEAR)
    else:
        level = was.level + max(1, was.level // _BELOW)
    return Allowance(
        level=level,
        hurt=was.hurt,
        careful_ns=was.careful_ns,
        memory_ns=was.memory_ns,
        raised_ns=now_ns,
        plateau=was.plateau,
    )


def stricter(one: Allowance | None, other: Allowance | None) -> Allowance | None:
    """Join what two deciders know: field by field the more careful."""
    if one is None or other is None:
        return one or other
    return Allowance(
        level=min(one.level, other.level),
        hurt=min(one.hurt, other.hurt),
        careful_ns=max(one.careful_ns, other.careful_ns),
        memory_ns=max(one.memory_ns, other.memory_ns),
        raised_ns=max(one.raised_ns, other.raised_ns),
        plateau=min(one.plateau, other.plateau),
    )
