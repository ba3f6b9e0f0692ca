"""Suspend for a time, longer each time, then let a few probe before more follows. Pure.

    warned -> until its time -> probes, one at a time -> enough of them taken -> over, its length remembered
                ^                   |                                                   |
                +--- twice as long -+------------------- warned again ------------------+

Warnings that come before its time are of what was under way: they can make it longer (another wait is published for them), never begin
it anew. What waits uses no attempt and no retry step.
"""

import random
from typing import Final

from shared.records.backoff import Suspension

#: Each ends up to this share later, so that what was suspended together does not come back together.
_JITTER: Final = 0.1


def suspended(
    was: Suspension | None,
    now_ns: int,
    rng: random.Random,
    *,
    first_ns: int,
    max_ns: int,
    probes: int,
) -> Suspension:
    """Take a warning that is answered by a suspension of at least ``first_ns``."""
    if was is None:
        length = first_ns
    elif now_ns < was.until_ns:
        until = max(was.until_ns, now_ns + first_ns)
        length = max(was.length_ns, first_ns)
        return Suspension(until_ns=until, length_ns=length, left=probes)
    else:
        # A published wait may be longer than our longest; it is not made longer still.
        length = max(first_ns, min(2 * was.length_ns, max_ns))
    until = now_ns + length + rng.randint(0, int(length * _JITTER))
    return Suspension(until_ns=until, length_ns=length, left=probes)


def probed(was: Suspension, now_ns: int) -> Suspension:
    """Take a good answer; those that come before its time are of what was under way, and change nothing."""
    if now_ns < was.until_ns or was.left == 0:
        return was
    return Suspension(until_ns=was.until_ns, length_ns=was.length_ns, left=was.left - 1)


def stricter(one: Suspension | None, other: Suspension | None) -> Suspension | None:
    """Join what two deciders know."""
    if one is None or other is None:
        return one or other
    return Suspension(
        until_ns=max(one.until_ns, other.until_ns),
        length_ns=max(one.length_ns, other.length_ns),
        left=max(one.left, other.left),
    )
