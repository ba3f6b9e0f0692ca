"""Whose turn it is: tenants and their lines in rings, outside of them until a time, and what waits in a line. Pure."""

import heapq
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from services.scheduler.policy.lines import FOREVER, Line, Shut

# A run is cut when so much of it has gone, and that is half of it.
_CUT: Final = 512
# Less of what is out of date than this is not worth a sweep.
SWEEP: Final = 1_024

#: (due ns, serial, delivery id, its line).
Item = tuple[int, int, str, "Waiting"]
#: (expires ns, serial, item).
Hurrying = tuple[int, int, Item]


class Turn:
    """What stands in a ring of turns, or waits outside until ``wake_ns`` (FOREVER: for something that comes, or for the gates)."""

    __slots__ = ("left", "next", "shut", "wake_ns", "weight")

    def __init__(self, weight: int) -> None:
        """Begin outside."""
        self.weight = weight
        #: Its place in the ring; None: it stands outside.
        self.next: Turn | None = None
        #: What is left of the turn that it has begun.
        self.left = 0
        self.shut: Shut | None = None
        self.wake_ns = FOREVER


class Tenant(Turn):
    """One tenant's lines of one class."""

    __slots__ = ("ahead", "class_", "count", "lines", "name", "owed", "parked", "paying")

    def __init__(self, class_: str, name: str, weight: int) -> None:
        """Begin with nothing."""
        super().__init__(weight)
        self.class_, self.name = class_, name
        self.lines: Ring[Waiting] = Ring()
        self.count = 0
        #: Urgent ones given before its turn, which it has yet to pay for; ``paying``: this turn is shorter by them; ``owed``: it has
        #: paid or does, and a whole turn is for the rest.
        self.ahead, self.paying, self.owed = 0, False, False
        #: Lines with urgent ones that may not go ahead now.
        self.parked: dict[Waiting, None] | None = None

    def begin(self) -> bool:
        """Begin a turn, shorter by what went ahead; False: nothing is left of it."""
        self.left = self.weight - self.ahead
        if self.ahead:
            self.ahead, self.paying, self.owed = 0, self.left > 0, True
        return self.left > 0


class Pace:
    """How a line is released."""

    __slots__ = ("gap_ns", "next_ns", "until_ns", "why")

    def __init__(self, gap_ns: int, next_ns: int, until_ns: int, why: str) -> None:
        """Let one go every ``gap_ns``, the next not before ``next_ns``, until it is over; ``why`` had held them."""
        self.gap_ns, self.next_ns, self.until_ns, self.why = gap_ns, next_ns, until_ns, why


class Waiting(Turn):
    """The deliveries of one line.

    What comes in its order, already due, is a sorted run; the rest lies in a heap. Nothing is done for a delivery when its time comes:
    a million that become due at once are found one by one, as they go.
    """

    __slots__ = ("count", "hurry", "key", "later", "pace", "run", "start", "tenant", "urgent")

    def __init__(self, key: Line, tenant: Tenant, weight: int) -> None:
        """Begin with nothing."""
        super().__init__(weight)
        self.key, self.tenant = key, tenant
        self.count = 0
        #: The run begins at ``start``: what lies before has gone. A list is made when something comes: most lines need one of the three.
        self.run: list[Item] | tuple[()] = ()
        self.start = 0
        self.later: list[Item] | tuple[()] = ()
        #: Those near their deadline, earliest expiry first: (expires ns, serial, item). Each has its place in the run or heap as well.
        self.urgent: list[Hurrying] | tuple[()] = ()
        #: (expires ns, serial) by which it stands among those that may go ahead.
        self.hurry: tuple[int, int] | None = None
        #: While it is released.
        self.pace: Pace | None = None

    def put(self, item: Item, now_ns: int) -> None:
        """Add a delivery."""
        if item[0] <= now_ns and (not self.run or self.run[-1] < item):
            self.run = self.run or []
            self.run.append(item)
        else:
            self.later = self.later or []
            heapq.heappush(self.later, item)

    def hasten(self, item: Item, expires_ns: int) -> None:
        """Let a delivery that lies here go before the others."""
        self.urgent = self.urgent or []
        heapq.heappush(self.urgent, (expires_ns, item[1], item))

    def head(self) -> Item | None:
        """Give the one with the earliest due time, whether it is due or not; what has ended is given as well."""
        later = self.later
        if not self.run:
            return later[0] if later else None
        first = self.run[self.start]
        return later[0] if later and later[0] < first else first

    def cut(self) -> None:
        """Take out what ``head`` gave."""
        if self.later and (not self.run or self.later[0] < self.run[self.start]):
            heapq.heappop(self.later)
            return
        start = self.start = self.start + 1
        if start >= len(self.run):
            self.run, self.start = (), 0
        elif start >= _CUT and 2 * start >= len(self.run):
            self.run, self.start = list(self.run[start:]), 0

    def hastened(self) -> None:
        """Take the most urgent out of those that go before the others."""
        if self.urgent:
            heapq.heappop(self.urgent)

    def places(self) -> int:
        """Count the places that deliveries take, with those that have ended."""
        return len(self.run) - self.start + len(self.later) + len(self.urgent)

    def clear(self) -> None:
        """Throw out everything."""
        self.run, self.start, self.later, self.urgent = (), 0, (), ()

    def keep(self, alive: Callable[[Item], bool]) -> None:
        """Throw out what is not ``alive``."""
        self.run, self.start = [item for item in self.run[self.start :] if alive(item)], 0
        self.later = [item for item in self.later if alive(item)]
        heapq.heapify(self.later)
        self.urgent = [each for each in self.urgent if alive(each[2])]
        heapq.heapify(self.urgent)


T = TypeVar("T", bound=Turn)


class Ring(Generic[T]):
    """Take turns: what stands first, next round, or outside; each step costs the same, however many there are."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        """Begin empty."""
        self._last: T | None = None

    def __bool__(self) -> bool:
        """Say whether anything stands in it."""
        return self._last is not None

    def first(self) -> T | None:
        """Give whose turn it is."""
        last = self._last
        return None if last is None else last.next  # type: ignore[return-value]

    def __iter__(self) -> Iterator[T]:
        """Give all in their order."""
        one = self.first()
        while one is not None:
            yield one
            one = None if one is self._last else one.next  # type: ignore[assignment]

    def join(self, one: T) -> None:
        """Let ``one``, which stands outside, have its turn after all others."""
        last = self._last
        if last is None:
            one.next = one
        else:
            one.next, last.next = last.next, one
        self._last = one

    def rotate(self) -> None:
        """Let the first be the last."""
        if self._last is not None:
            self._last = self._last.next  # type: ignore[assignment]

    def leave(self) -> None:
        """Take the first out."""
        last = self._last
        if last is None:
            return
        first = last.next
        if first is last or first is None:
            self._last = None
        else:
            last.next = first.next
        if first is not None:
            first.next, first.left = None, 0


class Wakes:
    """When what stands outside looks again."""

    __slots__ = ("_heap", "_serial")

    def __init__(self) -> None:
        """Begin empty."""
        #: (ns, serial, who), some of them out of date: who looks at another time, or not at all.
        self._heap: list[tuple[int, int, Turn]] = []
        self._serial = 0

    def __len__(self) -> int:
        """Count them, with those that are out of date."""
        return len(self._heap)

    def set(self, one: Turn, at_ns: int, others: int) -> None:
        """Let ``one`` look at ``at_ns`` and at no other time; ``others``: how many there may be."""
        one.wake_ns = at_ns
        self._serial += 1
        heapq.heappush(self._heap, (at_ns, self._serial, one))
        if len(self._heap) > 4 * others + SWEEP:
            current = {who: (at, number) for at, number, who in self._heap if who.wake_ns == at}
            self._heap = [(at, number, who) for who, (at, number) in current.items()]
            heapq.heapify(self._heap)

    def next_ns(self) -> int:
        """Say when the next one looks; FOREVER: none does."""
        while self._heap and self._heap[0][2].wake_ns != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else FOREVER

    def due(self, now_ns: int) -> Iterator[Turn]:
        """Give each whose time has come, once."""
        while self._heap and self._heap[0][0] <= now_ns:
            at, _, one = heapq.heappop(self._heap)
            if one.wake_ns == at:
                one.wake_ns = FOREVER
                yield one
