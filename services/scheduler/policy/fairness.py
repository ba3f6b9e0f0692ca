"""Order what waits under the same limits: due time, class by share, tenants in turn. Pure.

A delivery that is not due lies in one heap; once due it joins its tenant's line in its class. Each
``pop_ready`` serves a class by its share (start-time fair: a class that had nothing is owed
nothing), and in it the next tenant, one delivery a turn. Deficit round robin is this where every
delivery costs the same, and here it does: one token of the limit that all of them wait for.

**The bound.** A ready delivery with p before it in its tenant's line, in a class of T tenants whose
share is s of S, is given after at most ceil((p + 1) * T * S / s) + (number of classes) pops: no
tenant and no class can make it wait longer, whatever they push.

Memory: one tuple and one dictionary entry for a delivery. Removal is lazy: an item counts while
``_items`` holds that very item; garbage is swept when it outweighs what lives.
"""

import heapq
from collections import deque
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Final

SHARES: Final[Mapping[str, int]] = {"transactional": 16, "bulk": 1}
_TURN: Final = 720_720
# Less garbage than this is not worth a sweep.
_SWEEP: Final = 1_024


@dataclass(slots=True)
class _Line:
    """One tenant's deliveries of one class: those that are due, and the count of all."""

    class_: str
    tenant: str
    ready: "deque[_Item]" = field(default_factory=deque)
    count: int = 0


_Item = tuple[int, int, str, _Line]


@dataclass(slots=True)
class _Class:
    """The lines of a class that have something ready, in their turn."""

    share: int
    turns: deque[_Line] = field(default_factory=deque)
    #: When it is served next, in the queue's own time.
    start: int = 0


class DueQueue:
    """Hold deliveries until they are due, then give them fairly."""

    def __init__(self, shares: Mapping[str, int] = SHARES) -> None:
        """Begin empty; ``shares``: class -> its part of the turns while all wait (unnamed: 1)."""
        self._shares = shares
        self._later: list[_Item] = []
        self._lines: dict[tuple[str, str], _Line] = {}
        self._classes: dict[str, _Class] = {}
        self._items: dict[str, _Item] = {}
        self._serial = 0
        self._now_ns = 0
        self._turn = 0
        self._garbage = 0

    def __len__(self) -> int:
        """Count the deliveries."""
        return len(self._items)

    def __contains__(self, delivery_id: object) -> bool:
        """Say whether a delivery waits here."""
        return delivery_id in self._items

    def __repr__(self) -> str:
        """Show the counts."""
        ready = sum(len(line.ready) for line in self._lines.values())
        return f"<DueQueue [{ready} ready of {len(self)} | {len(self._lines)} lines]>"

    def push(self, delivery_id: str, due_ns: int, class_: str, tenant: str) -> None:
        """Let a delivery wait until ``due_ns``; one that waits here already gets the new time."""
        self.remove(delivery_id)
        line = self._lines.get((class_, tenant))
        if line is None:
            line = self._lines[class_, tenant] = _Line(class_, tenant)
        self._serial += 1
        item = (due_ns, self._serial, delivery_id, line)
        self._items[delivery_id] = item
        line.count += 1
        if due_ns <= self._now_ns:
            self._ready(item)
        else:
            heapq.heappush(self._later, item)

    def pop_ready(self, now_ns: int, blocked: Container[str] = ()) -> str | None:
        """Take the next delivery that is due, of a tenant not ``blocked``; None: there is none."""
        self._promote(now_ns)
        able = [each for each in self._classes.values() if self._head(each, blocked)]
        if not able:
            return None
        best = min(able, key=lambda each: (max(each.start, self._turn), -each.share))
        self._turn = max(best.start, self._turn)
        best.start = self._turn + _TURN // best.share
        line = best.turns.popleft()
        item = line.ready.popleft()
        if line.ready:
            best.turns.append(line)
        self._forget(item)
        return item[2]

    def remove(self, delivery_id: str) -> bool:
        """Forget a delivery; False: it does not wait here."""
        item = self._items.get(delivery_id)
        if item is None:
            return False
        self._forget(item)
        self._garbage += 1
        if self._garbage > max(_SWEEP, len(self._items)):
            self._sweep()
        return True

    def next_due(self) -> int | None:
        """Say when the next delivery that was not due at the last ``pop_ready`` will be."""
        while self._later and not self._alive(self._later[0]):
            heapq.heappop(self._later)
            self._garbage -= 1
        return self._later[0][0] if self._later else None

    def counts(self) -> dict[str, int]:
        """Count the deliveries of each class."""
        found: dict[str, int] = {}
        for line in self._lines.values():
            found[line.class_] = found.get(line.class_, 0) + line.count
        return found

    def waiting(self, class_: str, tenant: str) -> int:
        """Count a tenant's deliveries of a class."""
        line = self._lines.get((class_, tenant))
        return 0 if line is None else line.count

    def oldest_due(self) -> int | None:
        """Give the due time of the delivery that has been ready longest; None: none is ready."""
        heads = (
            next((item for item in line.ready if self._alive(item)), None)
            for line in self._lines.values()
        )
        return min((item[0] for item in heads if item is not None), default=None)

    def _alive(self, item: _Item) -> bool:
        return self._items.get(item[2]) is item

    def _promote(self, now_ns: int) -> None:
        self._now_ns = max(self._now_ns, now_ns)
        while self._later and self._later[0][0] <= self._now_ns:
            item = heapq.heappop(self._later)
            if self._alive(item):
                self._ready(item)
            else:
                self._garbage -= 1

    def _ready(self, item: _Item) -> None:
        line = item[3]
        if not line.ready:
            group = self._classes.get(line.class_)
            if group is None:
                group = self._classes[line.class_] = _Class(self._shares.get(line.class_, 1))
            group.turns.append(line)
        line.ready.append(item)

    def _head(self, group: _Class, blocked: Container[str]) -> bool:
        """Bring a line that may be served to the front of ``group``; False: there is none."""
        for _ in range(len(group.turns)):
            line = group.turns[0]
            while line.ready and not self._alive(line.ready[0]):
                line.ready.popleft()
                self._garbage -= 1
            if not line.ready:
                group.turns.popleft()
            elif line.tenant in blocked:
                group.turns.rotate(-1)
            else:
                return True
        return False

    def _forget(self, item: _Item) -> None:
        line = item[3]
        del self._items[item[2]]
        line.count -= 1
        if line.count == 0:
            # Its garbage goes with its last turn; a later push of the tenant begins a new line.
            self._lines.pop((line.class_, line.tenant))

    def _sweep(self) -> None:
        self._later = [item for item in self._later if self._alive(item)]
        heapq.heapify(self._later)
        for group in self._classes.values():
            for line in group.turns:
                line.ready = deque(item for item in line.ready if self._alive(item))
            group.turns = deque(line for line in group.turns if line.ready)
        self._garbage = 0
