"""Choose the slot for a delivery, by weight over the slots that may take it now. Pure.

Start-time fair queueing: every grant moves its slot on by 1/weight of a turn, and the slot that is furthest back is next. A slot that
could not take any (its rate, a pause) comes back at the present turn: what it missed went to others and is not caught up in a wave.
A rotation may be thrown away whenever nothing waits: the first slot of a new one is drawn by weight, so that a trickle is shared as a
flood is.
"""

import heapq
import random
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final, Self

# Divisible by every weight up to 16; others are rounded by less than a millionth.
_TURN: Final = 720_720 << 10

#: (slot, weight).
Weighted = tuple[int, int]


class Candidates(tuple[Weighted, ...]):  # noqa: SLOT001 - a tuple may have none but an empty one
    """Those of a pool, which most groups of small sites draw once from: their weights are added up once."""

    sums: list[int]

    @classmethod
    def of(cls, candidates: Iterable[Weighted]) -> Self:
        """Add them up."""
        made = cls(candidates)
        made.sums = list(accumulate(weight for _, weight in made))
        return made


def drawn(candidates: Sequence[Weighted], rng: random.Random) -> Weighted:
    """Draw one of (slot, weight), at least one, by weight: whose turn it is first."""
    if len(candidates) == 1:
        return candidates[0]
    sums = (
        candidates.sums
        if type(candidates) is Candidates
        else list(accumulate(weight for _, weight in candidates))
    )
    return candidates[bisect_right(sums, int(rng.random() * sums[-1]))]


class Rotation:
    """Whose turn it is among some slots."""

    __slots__ = ("_heap", "_next", "_of", "_turn")

    def __init__(self) -> None:
        """Begin anew."""
        self._turn = 0
        #: slot -> when its next turn is; one that is not here, or is further back, has its turn now.
        self._next: dict[int, int] = {}
        #: The candidates that were asked about last, and the same by (their next turn, -weight, slot).
        self._of: Sequence[Weighted] | None = None
        self._heap: list[tuple[int, int, int, Weighted]] | None = None

    def first(self, candidates: Sequence[Weighted], rng: random.Random) -> Weighted:
        """Name whose turn it is of (slot, weight), at least one: furthest back, then heaviest, then first by number."""
        if len(candidates) == 1:
            return candidates[0]
        if not self._next:
            return drawn(candidates, rng)
        heap = self._heap
        if heap is None or self._of is not candidates:
            # Nearly always they are those of the last time, the very same tuple: then their order is known.
            turn, of = self._turn, self._next
            self._of = candidates
            heap = [
                (max(turn, of.get(each[0], turn)), -each[1], each[0], each) for each in candidates
            ]
            heapq.heapify(heap)
            self._heap = heap
        return heap[0][3]

    def took(self, slot: int, weight: int) -> None:
        """Let a slot have had its turn, one of those that were candidates for it."""
        # None of them is further back.
        at = self._next.get(slot, 0)
        if at < self._turn:
            at = self._turn
        else:
            self._turn = at
        self._next[slot] = at = at + _TURN // weight
        if self._of is None or self._heap is None:
            return
        first = self._heap[0]
        if first[2] == slot and first[1] == -weight:
            # The others stand where they stood: none of them is behind the turn, for this one was first.
            heapq.heapreplace(self._heap, (at, first[1], slot, first[3]))
        else:
            self._of = None
