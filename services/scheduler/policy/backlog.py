"""What waits under the same limits, in its lines: what lies there, and what is asked of it. Pure.

Who goes next is decided beside it (``fairness``). Removal is lazy: a delivery counts while ``_items`` holds that very item, and garbage is
swept when it outweighs what lives.
"""

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from services.scheduler.policy.explain import Share, Standing
from services.scheduler.policy.lines import FOREVER, Line, Shut, Weights
from services.scheduler.policy.turns import SWEEP, Item, Ring, Tenant, Turn, Waiting, Wakes
from shared.records.topics import CLASSES
from shared.runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator chooses of the order."""

    weights: Weights = field(default_factory=Weights)
    #: One of so many deliveries goes to a class behind, while the classes before it wait as well.
    every: int = 20
    #: The longest time over which a release is spread.
    release_ns: int = 60_000_000_000

    @classmethod
    def of(cls, settings: Settings) -> "Order":
        """Read it out of the settings."""
        tenants = settings.tenants.values()
        weights = Weights(
            {tenant.name: tenant.weight for tenant in tenants},
            {
                (tenant.name, name): stream.weight
                for tenant in tenants
                for name, stream in tenant.streams.items()
            },
        )
        scheduler = settings.scheduler
        return cls(weights, math.ceil(1 / scheduler.bulk_share), scheduler.release_ns)


@dataclass(slots=True)
class Class:
    """The tenants of a class."""

    name: str
    turns: Ring[Tenant] = field(default_factory=Ring)
    tenants: dict[str, Tenant] = field(default_factory=dict)
    #: Lines by their most urgent: (expires ns, serial, line), some of them out of date.
    express: list[tuple[int, int, Waiting]] = field(default_factory=list)
    #: Deliveries of classes before it since its own last one, while it had something.
    passed: int = 0


class Backlog:
    """Deliveries of several lines; see ``DueQueue`` for what each method does."""

    def __init__(self, order: Order, rng: random.Random) -> None:
        """Begin empty; ``rng`` says where in a release each line begins."""
        self._order, self._rng = order, rng
        #: In the order in which they are served.
        self._classes: dict[str, Class] = {}
        self._lines: dict[Line, Waiting] = {}
        self._items: dict[str, Item] = {}
        #: Of those, what is near its deadline.
        self._near: set[str] = set()
        self._wakes = Wakes()
        #: What is near its deadline and not due: (due ns, serial, expires ns, item).
        self._soon: list[tuple[int, int, int, Item]] = []
        self._shut: dict[Turn, None] = {}
        self._serial = 0
        self._now_ns = 0
        self._garbage = 0

    def __len__(self) -> int:
        """Count the deliveries."""
        return len(self._items)

    def __contains__(self, delivery_id: object) -> bool:
        """Say whether a delivery waits here."""
        return delivery_id in self._items

    def __repr__(self) -> str:
        """Show the counts."""
        return f"<FairQueue [{len(self)} in {len(self._lines)} lines, {len(self._shut)} shut]>"

    # -- what is there

    def ids(self) -> list[str]:
        """List the deliveries."""
        return list(self._items)

    def each(self) -> Iterator[str]:
        """Give the deliveries, as they came."""
        return iter(self._items)

    def disorder(self) -> None:
        """Forget the order: each place in a line would have to be swept out one day, all of them in one go."""
        for line in self._lines.values():
            line.clear()
        self._soon, self._garbage = [], 0
        self._near.clear()

    def _begin(self, line: Line) -> Waiting:
        class_ = self._classes.get(line.class_)
        if class_ is None:
            class_ = self._classes[line.class_] = Class(line.class_)
            if len(self._classes) > 1:
                self._classes = {
                    name: self._classes[name] for name in sorted(self._classes, key=_rank)
                }
        weights = self._order.weights
        tenant = class_.tenants.get(line.tenant)
        if tenant is None:
            tenant = Tenant(line.class_, line.tenant, weights.tenants.get(line.tenant, 1))
            class_.tenants[line.tenant] = tenant
        return Waiting(line, tenant, weights.streams.get((line.tenant, line.stream), 1))

    def _alive(self, item: Item) -> bool:
        return self._items.get(item[2]) is item

    def _head(self, line: Waiting) -> Item | None:
        items = self._items
        while (head := line.head()) is not None and items.get(head[2]) is not head:
            line.cut()
            self._garbage -= 1
        return head

    def _forget(self, item: Item) -> None:
        _, _, delivery_id, line = item
        del self._items[delivery_id]
        self._near.discard(delivery_id)
        line.count -= 1
        line.tenant.count -= 1
        if not line.count:
            # What still lies in it has ended, and it leaves the ring at its next turn.
            self._garbage -= line.places()
            line.clear()
            self._lines.pop(line.key)
            self._shut.pop(line, None)
            if line.tenant.parked:
                line.tenant.parked.pop(line, None)
            line.wake_ns = FOREVER
            self._end(line.tenant)
        if self._garbage > max(SWEEP, len(self._items)):
            self._sweep()

    def _end(self, tenant: Tenant) -> None:
        """Forget a tenant that has nothing, and owes nothing."""
        if not tenant.count and tenant.next is None:
            self._classes[tenant.class_].tenants.pop(tenant.name, None)
            self._shut.pop(tenant, None)
            tenant.wake_ns = FOREVER

    def _sweep(self) -> None:
        for line in self._lines.values():
            line.keep(self._alive)
        self._soon = [each for each in self._soon if self._alive(each[3])]
        heapq.heapify(self._soon)
        self._garbage = 0

    # -- what is asked

    def shut(self, line: Line) -> Shut | None:
        """Say what keeps a line back; None: nothing did when it was asked last."""
        waiting = self._lines.get(line)
        return None if waiting is None else waiting.tenant.shut or waiting.shut

    def counts(self) -> dict[str, int]:
        """Count the deliveries of each class."""
        counts = {
            class_.name: sum(tenant.count for tenant in class_.tenants.values())
            for class_ in self._classes.values()
        }
        return {name: count for name, count in counts.items() if count}

    def waiting(self, class_: str, tenant: str) -> int:
        """Count a tenant's deliveries of a class."""
        known = self._classes.get(class_)
        found = known.tenants.get(tenant) if known is not None else None
        return 0 if found is None else found.count

    def oldest_due(self, now_ns: int) -> int | None:
        """Give the due time of the delivery that has been ready longest; None: none is ready."""
        heads = (self._head(line) for line in self._lines.values())
        return min(
            (head[0] for head in heads if head is not None and head[0] <= now_ns),
            default=None,
        )

    def overdue(self, before_ns: int, lets: Callable[[Line], bool]) -> Iterator[tuple[int, str]]:
        """Give (due ns, id) of those that have been due since ``before_ns``, the longest first, of the lines that ``lets`` lets.

        Each must be removed, or be the last that is asked for.
        """
        heads: list[tuple[int, int, Waiting]] = []
        for line in [line for line in self._lines.values() if lets(line.key)]:
            self._push_head(heads, line, before_ns)
        while heads:
            due, _, line = heapq.heappop(heads)
            head = self._head(line)
            if head is not None:
                yield due, head[2]
                self._push_head(heads, line, before_ns)

    def _push_head(
        self, heads: list[tuple[int, int, Waiting]], line: Waiting, before_ns: int
    ) -> None:
        head = self._head(line)
        if head is not None and head[0] <= before_ns:
            heapq.heappush(heads, (head[0], head[1], line))

    def standing(self, delivery_id: str, now_ns: int) -> Standing | None:
        """Say what is ready beside a delivery, and before it in its line; it looks through that line, and at the heads of the others."""
        item = self._items.get(delivery_id)
        if item is None:
            return None
        line, when = item[3], max(now_ns, item[0])
        waits = itertools.chain(line.run[line.start :], line.later)
        before = sum(1 for each in waits if each[:2] < item[:2] and self._alive(each))
        return self._standing(line.key, line, before, when)

    def joining(self, key: Line, now_ns: int) -> Standing:
        """Say the same of one that comes now."""
        line = self._lines.get(key)
        before = 0 if line is None else self._share(line, now_ns, line).ready
        return self._standing(key, line, before, now_ns)

    def _standing(self, key: Line, line: Waiting | None, before: int, when: int) -> Standing:
        mine, rank, weights = (key.class_, key.tenant), _rank(key.class_), self._order.weights
        lines: list[Share] = []
        others: dict[str, int] = {}
        first = behind = count = 0
        for each in self._lines.values():
            its = each.key
            if its[:2] == mine:
                count += each.count
                if each is not line:
                    lines.append(self._share(each, when, line))
            elif ready := self._share(each, when, None).ready:
                if its.class_ == key.class_:
                    others[its.tenant] = others.get(its.tenant, 0) + ready
                elif _rank(its.class_) < rank:
                    first += ready
                else:
                    behind += ready
        return Standing(
            before=before,
            line=Share(
                0 if line is None else line.count, weights.streams.get((key.tenant, key.stream), 1)
            ),
            lines=lines,
            tenant=Share(count, weights.tenants.get(key.tenant, 1)),
            tenants=[Share(n, weights.tenants.get(name, 1)) for name, n in others.items()],
            first=first,
            behind=behind,
            every=self._order.every,
        )

    def _share(self, line: Waiting, when_ns: int, beside: Waiting | None) -> Share:
        """Count what is ready; also what is shut by the same as the line ``beside`` it, with which it opens."""
        head = self._head(line)
        shut = line.shut or line.tenant.shut
        own = None if beside is None else beside.shut or beside.tenant.shut
        goes = shut is None or (own is not None and own.why == shut.why)
        ready = head is not None and head[0] <= when_ns and goes
        return Share(line.count if ready else 0, line.weight)


def _rank(class_: str) -> tuple[int, str]:
    return (CLASSES.index(class_) if class_ in CLASSES else len(CLASSES)), class_
