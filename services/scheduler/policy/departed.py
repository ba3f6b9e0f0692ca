"""Where the deliveries went that had been attempted here and moved: their late outcomes still come to this partition. Pure.

An outcome follows its delivery on the same log, so it is read after it. One that never was attempted here needs no memory, and none is
kept once a delivery's time is over, or when it has come back.
"""

import heapq

from shared.records.state import DeliveryState, MovedState


class Departed:
    """Remember them until their time is over."""

    def __init__(self) -> None:
        """Begin empty."""
        self._moved: dict[str, MovedState] = {}
        self._ends: list[tuple[int, str]] = []
        self._dirty: set[str] = set()

    def restore(self, record: MovedState) -> None:
        """Take one record of mail.state."""
        self._moved[record.id] = record
        heapq.heappush(self._ends, (record.until_ns, record.id))

    def take(self) -> dict[str, MovedState | None]:
        """Give what changed since the last call; None: nothing is remembered."""
        changed = {id_: self._moved.get(id_) for id_ in self._dirty}
        self._dirty = set()
        return changed

    def add(self, entry: DeliveryState, partition: int) -> None:
        """Remember that ``entry`` went to ``partition``, if anybody can still answer for an attempt of it."""
        if entry.n:
            self._dirty.add(entry.id)
            self.restore(
                MovedState(
                    id=entry.id,
                    class_=entry.class_,
                    partition=partition,
                    until_ns=entry.expires_ns,
                )
            )

    def returned(self, id_: str) -> None:
        """Forget a delivery that is here again."""
        if self._moved.pop(id_, None) is not None:
            self._dirty.add(id_)

    def where(self, id_: str) -> MovedState | None:
        """Say where a delivery went."""
        return self._moved.get(id_)

    def pass_time(self, now_ns: int) -> None:
        """Forget those whose time is over."""
        while self._ends and self._ends[0][0] <= now_ns:
            _, id_ = heapq.heappop(self._ends)
            known = self._moved.get(id_)
            if known is not None and known.until_ns <= now_ns:
                self.returned(id_)
