"""Choose the slot for a delivery, by weight over the slots that may take it now. Pure.

Start-time fair queueing: every grant moves its slot on by 1/weight of a turn, and the slot that is furthest back is next. A slot that
could not take any (its rate, a pause) comes back at the present turn: what it missed went to others and is not caught up in a wave.
A rotation may be thrown away whenever nothing waits: the first slot of a new one is drawn by weight, so that a trickle is shared as a
flood is.
"""

import random
from collections.abc import Sequence
from typing import Final

# Divisible by every weight up to 16; others are rounded by less than a millionth.
_TURN: Final = 720_720 << 10

#: (slot, weight).
Weighted = tuple[int, int]


class Rotation:
    """Whose turn it is among some slots."""

    __slots__ = ("_next", "_turn")

    def __init__(self) -> None:
        """Begin anew."""
        self._turn = 0
        #: slot -> when its next turn is; one that is not here, or is further back, has its turn now.
        self._next: dict[int, int] = {}

    def first(self, candidates: Sequence[Weighted], rng: random.Random) -> Weighted:
        """Name whose turn it is of (slot, weight), at least one: furthest back, then heaviest, then first by number."""
        if len(candidates) == 1:
            return candidates[0]
        if not self._next:
            drawn = rng.random() * sum([weight for _, weight in candidates])
            for each in candidates:
                drawn -= each[1]
                if drawn < 0:
                    return each
            return candidates[-1]
        turn, of = self._turn, self._next
        first, least = candidates[0], (1 << 200, 0, 0)
        for each in candidates:
            slot, weight = each
            at = of.get(slot, turn)
            mine = (max(turn, at)), -weight, slot
            if mine < least:
                first, least = each, mine
        return first

    def took(self, slot: int, weight: int) -> None:
        """Let a slot have had its turn, one of those that were candidates for it."""
        # None of them is further back.
        self._turn = max(self._turn, self._next.get(slot, 0))
        self._next[slot] = self._turn + _TURN // weight
