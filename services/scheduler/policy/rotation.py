"""Choose the slot for a delivery, by weight over the slots that may take it now. Pure.

Start-time fair queueing: every grant moves its slot on by 1/weight of a turn, and the slot that is furthest back is next. A slot that
could not take any (its rate, a pause) comes back at the present turn: what it missed went to others and is not caught up in a wave.
The state holds how far each slot is ahead of the turn: bounded by the pool, and small numbers for ever. It may be thrown away whenever
nothing waits: the first slot of a new state is drawn by weight, so that a trickle is shared as a flood is.
"""

import random
from collections.abc import Sequence
from typing import Final

#: (slot, how far it is ahead of the turn), only what is ahead, by slot.
State = tuple[tuple[int, int], ...]
START: Final[State] = ()

# Divisible by every weight up to 16; others are rounded by less than a millionth.
_TURN: Final = 720_720 << 10


def choose(
    candidates: Sequence[tuple[int, int]], state: State, rng: random.Random
) -> tuple[int, State]:
    """Choose among (slot, weight), at least one, and give the state after it."""
    ahead = dict(state)
    if ahead:
        _, minus, slot = min([(ahead.get(each, 0), -weight, each) for each, weight in candidates])
        weight = -minus
    else:
        (slot, weight), *_ = rng.choices(candidates, [weight for _, weight in candidates])
    # None of them is further back.
    turn = ahead.get(slot, 0)
    ahead[slot] = turn + _TURN // weight
    return slot, tuple(sorted((each, far - turn) for each, far in ahead.items() if far > turn))
