"""The deliveries of one partition that have no final event yet: their states, where their records lie, when their time is over. Pure.

Every change of a state is marked here (``touch``), so that ``take`` gives the changelog all of it, and nothing twice.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator

from shared.records.state import DeliveryState


class Deliveries:
    """Keep what must survive of each delivery."""

    def __init__(self) -> None:
        """Begin empty."""
        self.entries: dict[str, DeliveryState] = {}
        #: class -> heap of (offset, id), some of them out of date.
        self._offsets: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        self._counts: Counter[str] = Counter()
        self._expiries: list[tuple[int, str]] = []
        self._dirty: set[str] = set()

    def restore(self, entry: DeliveryState) -> None:
        """Take one that is in the changelog already."""
        self.entries[entry.id] = entry
        self._counts[entry.class_] += 1
        heapq.heappush(self._offsets[entry.class_], (entry.offset, entry.id))
        heapq.heappush(self._expiries, (entry.expires_ns, entry.id))

    def add(self, entry: DeliveryState) -> None:
        """Take a new one."""
        self.restore(entry)
        self._dirty.add(entry.id)

    def drop(self, entry: DeliveryState) -> None:
        """Forget one that ended here."""
        del self.entries[entry.id]
        self._counts[entry.class_] -= 1
        self._dirty.add(entry.id)

    def touch(self, entry: DeliveryState) -> None:
        """Mark a changed state for the changelog."""
        self._dirty.add(entry.id)

    def lies_at(self, entry: DeliveryState, offset: int) -> None:
        """Let the record's copy at ``offset`` be the one that is needed from now on."""
        entry.offset = offset
        heapq.heappush(self._offsets[entry.class_], (offset, entry.id))
        self._dirty.add(entry.id)

    def take(self) -> dict[str, DeliveryState | None]:
        """Give what changed since the last call; None: it ended."""
        changed = {id_: self.entries.get(id_) for id_ in self._dirty}
        self._dirty = set()
        return changed

    # -- time

    def over(self, now_ns: int) -> Iterator[DeliveryState]:
        """Give each whose time is over, once."""
        while self._expiries and self._expiries[0][0] <= now_ns:
            _, id_ = heapq.heappop(self._expiries)
            entry = self.entries.get(id_)
            if entry is not None:
                yield entry

    def next_over_ns(self) -> int | None:
        """Say when the next one's time is over."""
        return self._expiries[0][0] if self._expiries else None

    # -- the log

    def oldest_offset(self, class_: str) -> int | None:
        """Give the lowest offset in mail.deliveries.``class_`` that is still needed."""
        heap = self._offsets[class_]
        while heap:
            offset, id_ = heap[0]
            entry = self.entries.get(id_)
            if entry is not None and entry.offset == offset:
                return offset
            heapq.heappop(heap)
        return None

    def oldest(self, class_: str, count: int) -> list[DeliveryState]:
        """Give those that hold the log of a class, those with the lowest offsets."""
        held = (
            self.entries[id_]
            for offset, id_ in heapq.nsmallest(2 * count, self._offsets[class_])
            if id_ in self.entries
        )
        return sorted(held, key=lambda entry: entry.offset)[:count]

    def count(self, class_: str) -> int:
        """Count those of a class."""
        return self._counts[class_]
