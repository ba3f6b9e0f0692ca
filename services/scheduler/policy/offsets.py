"""Which offsets of one log are still needed, and by whom: nine bytes each, and a bit. Pure.

The log is cut in stretches of 1,024 offsets. A stretch has a bit for each offset that is needed, which says exactly what the lowest is, and
the ids that were put there; who of them is still there is asked for by the few who want to know.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from services.scheduler.policy.bucket import Bucket

_BITS: Final = 10
_MASK: Final = (1 << _BITS) - 1


@dataclass(slots=True)
class _Stretch:
    needed: int = 0
    bucket: Bucket = field(default_factory=Bucket)


class Offsets:
    """The needed offsets of one log."""

    def __init__(self, there: Callable[[list[str]], list[str]]) -> None:
        """Begin empty; ``there`` gives, of some ids, those that still need anything."""
        self._there = there
        self._stretches: dict[int, _Stretch] = {}
        self._numbers: list[int] = []

    def add(self, offset: int, id_: str) -> None:
        """Note that ``id_`` needs ``offset``, which nobody else does."""
        number = offset >> _BITS
        stretch = self._stretches.get(number)
        if stretch is None:
            stretch = self._stretches[number] = _Stretch()
            heapq.heappush(self._numbers, number)
        stretch.needed |= 1 << (offset & _MASK)
        stretch.bucket.ids.append(id_)

    def leave(self, offset: int) -> None:
        """Note that ``offset`` is not needed any more."""
        number = offset >> _BITS
        stretch = self._stretches.get(number)
        if stretch is None:
            return
        stretch.needed ^= stretch.needed & (1 << (offset & _MASK))
        if stretch.needed:
            stretch.bucket.leave(self._there)
        else:
            del self._stretches[number]

    def oldest(self) -> int | None:
        """Give the lowest."""
        while self._numbers:
            number = self._numbers[0]
            stretch = self._stretches.get(number)
            if stretch is not None:
                lowest = (stretch.needed & -stretch.needed).bit_length() - 1
                return (number << _BITS) + lowest
            heapq.heappop(self._numbers)
        return None

    def ids(self) -> Iterator[list[str]]:
        """Give the ids stretch by stretch, lowest first; some may have left."""
        for number in sorted(self._stretches):
            yield self._stretches[number].bucket.ids
