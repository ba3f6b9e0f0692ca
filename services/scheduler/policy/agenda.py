"""Which ids are due when, for millions of them: nine bytes each beside the id itself. Pure.

A heap of (time, id) would hold a tuple and a number for each, twelve times as much, and would hold those of whom all is over until
their time came: of the deliveries of three days, nearly all. Here an id lies in the bucket of its time, some seventeen seconds wide,
which forgets those that leave. When a bucket is next, the exact time of each is asked for where it is known. So an id that was put in
twice costs nothing.
"""

import heapq
from collections.abc import Callable, Iterator
from typing import Final

from services.scheduler.policy.bucket import Bucket

_WIDTH_BITS: Final = 34


class Agenda:
    """Ids in the order of their times."""

    def __init__(
        self, time_of: Callable[[str], int | None], there: Callable[[list[str]], list[str]]
    ) -> None:
        """``time_of`` gives an id's time as it is now, ns, None: it has none any more; ``there`` gives, of some, those that have one."""
        self._time_of, self._there = time_of, there
        self._buckets: dict[int, Bucket] = {}
        self._starts: list[int] = []
        #: The ids of the buckets that have begun: those that were not looked at, and the others with their times.
        self._opened = -1
        self._unseen: list[str] = []
        self._near: list[tuple[int, str]] = []

    def add(self, at_ns: int, id_: str) -> None:
        """Note that ``id_`` is due at ``at_ns``."""
        number = at_ns >> _WIDTH_BITS
        if number <= self._opened:
            heapq.heappush(self._near, (at_ns, id_))
            return
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = Bucket()
            heapq.heappush(self._starts, number)
        bucket.ids.append(id_)

    def leave(self, at_ns: int) -> None:
        """Note that an id that is due at ``at_ns`` is not there any more."""
        bucket = self._buckets.get(at_ns >> _WIDTH_BITS)
        if bucket is not None:
            bucket.leave(self._there)

    def due(self, now_ns: int, most: int) -> Iterator[str]:
        """Give what is due, each once; it is forgotten here. At most ``most`` are looked at: a million may have the same time."""
        for _ in range(most):
            if self._near and self._near[0][0] <= now_ns:
                at, id_ = heapq.heappop(self._near)
                if self._time_of(id_) == at:
                    yield id_
            elif self._unseen or self._open(now_ns):
                id_ = self._unseen.pop()
                found = self._time_of(id_)
                if found is not None:
                    heapq.heappush(self._near, (found, id_))
            else:
                return

    def next_ns(self) -> int | None:
        """Say when to ask again: not after the next id's time, and not more than a bucket's width before it."""
        if self._unseen:
            return 0
        times = [self._near[0][0]] if self._near else []
        if self._starts:
            times.append(self._starts[0] << _WIDTH_BITS)
        return min(times, default=None)

    def _open(self, now_ns: int) -> bool:
        """Open the next bucket that has begun and is not empty; False: there is none."""
        while not self._unseen and self._starts and self._starts[0] << _WIDTH_BITS <= now_ns:
            self._opened = heapq.heappop(self._starts)
            self._unseen = self._buckets.pop(self._opened).ids
        return bool(self._unseen)
