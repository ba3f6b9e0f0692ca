"""How many there are of each kind, and since when the oldest of them: kept as they come and go, a count or two for each step. Pure.

Who wants to know must not look at a million deliveries. When they were accepted is counted in stretches of half a minute, so the oldest is
known to within one, and days of waiting are some thousand numbers a kind.
"""

from collections.abc import Hashable, Iterator
from typing import Final, Generic, TypeVar

_BITS: Final = 35

K = TypeVar("K", bound=Hashable)


class Ages(Generic[K]):
    """Counts by kind and age."""

    def __init__(self) -> None:
        """Begin empty."""
        self._kinds: dict[K, dict[int, int]] = {}

    def add(self, kind: K, at_ns: int) -> None:
        """Count one of ``kind``, of the time ``at_ns``."""
        ages = self._kinds.get(kind)
        if ages is None:
            ages = self._kinds[kind] = {}
        at = at_ns >> _BITS
        ages[at] = ages.get(at, 0) + 1

    def remove(self, kind: K, at_ns: int) -> None:
        """Count one less, which was added like this."""
        ages, at = self._kinds[kind], at_ns >> _BITS
        left = ages[at] - 1
        if left:
            ages[at] = left
            return
        del ages[at]
        if not ages:
            del self._kinds[kind]

    def __iter__(self) -> Iterator[tuple[K, int, int]]:
        """Give each kind that there is, how many, and the oldest's time, ns: at most half a minute before what it is."""
        for kind, ages in self._kinds.items():
            yield kind, sum(ages.values()), min(ages) << _BITS
