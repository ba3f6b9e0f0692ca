"""Order what waits under the same limits: class, deadline, tenants in turn, streams in turn. Pure.

``pop_ready`` gives the next delivery that is due and whose line may go (``lines``):

1. **Class**: strictly the first of ``CLASSES`` that has something; yet of ``every`` deliveries one goes to each class behind it that has
   something, so that no flood of transactional mail stops bulk. A class that had nothing is owed nothing.
2. **Deadline**: a delivery near its expiry (``urge``) goes before its tenant's turn, the earliest expiry first. Its tenant pays: what
   went ahead, at most a turn's worth, is taken off its next turn, and the one after that is for what waits in order, whole.
   So a tenant that gives everything a near deadline gets no more than its share, and no line of its own starves.
3. **Tenants** by deficit round robin, ``weight`` deliveries a turn. Every delivery costs the same, since each spends one token of
   the limit that all of them wait for.
4. **Lines** of a tenant (a stream, and of it each sending domain) likewise, inside the tenant's turns; in a line by due time.

**The bound.** Let a ready delivery have p before it in its line. Its line has weight v of V in its tenant, its tenant w of W in its
class (of what is ever ready meanwhile; weights are at least 1). Then it is given after at most ::

    N = 2 * (ceil(V * ceil((p + 1) / v) / w) + 2) * W

deliveries of its class: the line needs ceil((p + 1) / v) of its turns, hence V * that of its tenant's deliveries in order, hence that
many / w of the tenant's turns (and one that is under way); every second turn may go for what went ahead; and in a round
each tenant is given at most 2 * w: a turn, and as much ahead. With one class behind the first, that is N + ceil(N / (every - 1)) + 1
pops for the first class, and (N + 1) * every for the other. Nobody can make it wait longer, whatever is pushed.

**Cost**: each step above is some constant work, or the logarithm of the lines; nothing depends on how many wait. What becomes due is not
moved: a line stands in the ring while the earliest of it is due. Removal is lazy: a delivery counts while ``_items`` holds that very
item, and garbage is swept when it outweighs what lives.

**Release**: a line that was shut for long and opens again (``Shut.spread``), and all lines after ``release``, give what has
gathered evenly over a while: 10 ms for each delivery that was held back by the same, at most ``Order.release_ns``.
"""

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from services.scheduler.policy.explain import Share, Standing
from services.scheduler.policy.lines import FOREVER, Check, Line, Shut, Weights
from services.scheduler.policy.turns import SWEEP, Item, Pace, Ring, Tenant, Turn, Waiting, Wakes
from shared.records.topics import CLASSES
from shared.runtime.settings import Settings

#: What opens together is given over so long for each of it.
_RELEASE_EACH_NS: Final = 10_000_000
# A round that comes late finds at most this much of a release waiting for it.
_CATCH_UP_NS: Final = 1_000_000_000
# So many at most join those that may go ahead in one step, when they become due.
_SOON: Final = 64


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
class _Class:
    """The tenants of a class."""

    name: str
    turns: Ring[Tenant] = field(default_factory=Ring)
    tenants: dict[str, Tenant] = field(default_factory=dict)
    #: Lines by their most urgent: (expires ns, serial, line), some of them out of date.
    express: list[tuple[int, int, Waiting]] = field(default_factory=list)
    #: Deliveries of classes before it since its own last one, while it had something.
    passed: int = 0


class FairQueue:
    """Deliveries of several lines, in turns; see ``DueQueue`` for what each method does."""

    def __init__(self, order: Order, rng: random.Random) -> None:
        """Begin empty; ``rng`` says where in a release each line begins."""
        self._order, self._rng = order, rng
        #: In the order in which they are served.
        self._classes: dict[str, _Class] = {}
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

    # -- in and out

    def push(
        self,
        delivery_id: str,
        due_ns: int,
        line: Line,
        *,
        now_ns: int = 0,
    ) -> None:
        """Let a delivery wait until ``due_ns``; one that waits here already gets the new time."""
        if delivery_id in self._items:
            self.remove(delivery_id)
        waiting = self._lines.get(line)
        if waiting is None:
            waiting = self._lines[line] = self._begin(line)
        self._serial += 1
        item = self._items[delivery_id] = (due_ns, self._serial, delivery_id, waiting)
        waiting.count += 1
        waiting.tenant.count += 1
        waiting.put(item, max(self._now_ns, now_ns))
        if waiting.next is None:
            self._enter(waiting)

    def urge(self, delivery_id: str, expires_ns: int) -> None:
        """Let a delivery go before others as soon as it is due: its deadline is near."""
        item = self._items.get(delivery_id)
        if item is None or delivery_id in self._near:
            return
        self._near.add(delivery_id)
        if item[0] > self._now_ns:
            heapq.heappush(self._soon, (item[0], item[1], expires_ns, item))
        else:
            self._let_hurry(item, expires_ns)

    def pop_ready(self, now_ns: int, check: Check | None = None) -> str | None:
        """Take the next delivery that is due and whose line ``check`` lets go; None: there is none."""
        if now_ns > self._now_ns or self._soon:
            self._pass_to(now_ns)
        if len(self._classes) == 1:
            [only] = self._classes.values()
            return self._take(only, check) if only.express else self._in_turn(only, check)
        for behind in reversed(self._classes.values()):
            if behind.passed >= self._order.every - 1 and (given := self._take(behind, check)):
                behind.passed = 0
                return given
        given = None
        for class_ in self._classes.values():
            if given is not None:
                class_.passed = class_.passed + 1 if class_.turns else 0
            elif given := self._take(class_, check):
                class_.passed = 0
        return given

    def remove(self, delivery_id: str) -> bool:
        """Forget a delivery; False: it does not wait here."""
        item = self._items.get(delivery_id)
        if item is None:
            return False
        self._garbage += 1 + (delivery_id in self._near)
        self._forget(item)
        return True

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

    # -- what is kept back

    def reopen(self, now_ns: int) -> bool:
        """Ask again of every line that is shut: the answers may have changed; False: none was."""
        self._pass_to(now_ns)
        shut = list(self._shut)
        self._open(shut)
        return bool(shut)

    def release(self, now_ns: int, why: str) -> None:
        """Give what has gathered here evenly over a while: ``why`` held all of it back, and does no longer."""
        self._pass_to(now_ns)
        self._spread([(line, why) for line in self._lines.values() if line.next is not None])

    def shut(self, line: Line) -> Shut | None:
        """Say what keeps a line back; None: nothing did when it was asked last."""
        waiting = self._lines.get(line)
        return None if waiting is None else waiting.tenant.shut or waiting.shut

    # -- what is asked

    def next_ns(self) -> int:
        """Say when to look again after a ``pop_ready`` that gave nothing: something becomes due, or opens; FOREVER: not by itself."""
        return self._wakes.next_ns()

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

    # -- choosing

    def _take(self, class_: _Class, check: Check | None) -> str | None:
        if class_.express and (given := self._ahead(class_, check)):
            return given
        return self._in_turn(class_, check)

    def _ahead(self, class_: _Class, check: Check | None) -> str | None:
        """Take the most urgent whose tenant may go before its turn."""
        while class_.express:
            expires, serial, line = class_.express[0]
            head, tenant = self._most_urgent(line), line.tenant
            current = line.hurry == (expires, serial)
            if current and head is not None and head[:2] == line.hurry and _free(line):
                if self._refused(line, check):
                    continue
                heapq.heappop(class_.express)
                line.hastened()
                line.hurry, tenant.ahead = None, tenant.ahead + 1
                self._near.discard(head[2][2])
                self._garbage += 1
                return self._give(line, head[2])
            heapq.heappop(class_.express)
            if current:
                line.hurry = None
                self._hurry(line)
        return None

    def _in_turn(self, class_: _Class, check: Check | None) -> str | None:
        """Take the first of whose turn it is."""
        turns = class_.turns
        while (tenant := turns.first()) is not None:
            if not tenant.left and not tenant.begin():
                turns.rotate()
            elif (item := self._of_tenant(tenant, check)) is not None:
                tenant.left -= 1
                if not tenant.left:
                    turns.rotate()
                    self._turn_over(tenant)
                return item
            elif tenant.ahead:
                # That is paid for before it leaves.
                tenant.left = 0
            else:
                turns.leave()
                tenant.paying = False
                self._turn_over(tenant)
                self._end(tenant)
        return None

    def _of_tenant(self, tenant: Tenant, check: Check | None) -> str | None:
        while tenant.shut is None and (line := tenant.lines.first()) is not None:
            # What comes in its order lies in the run, and its first is nearly always there still.
            head = line.run[line.start] if line.run and not line.later else None
            if head is None or self._items.get(head[2]) is not head:
                head = self._head(line)
            if head is None or line.shut is not None:
                tenant.lines.leave()
            elif head[0] > self._now_ns:
                tenant.lines.leave()
                self._wake(line, head[0])
            elif (check is None and line.pace is None) or not self._refused(line, check):
                line.left = (line.left or line.weight) - 1
                if not line.left:
                    tenant.lines.rotate()
                line.cut()
                if self._near:
                    self._garbage += head[2] in self._near
                return self._give(line, head)
        return None

    def _give(self, line: Waiting, item: Item) -> str:
        pace = line.pace
        if pace is not None:
            pace.next_ns = max(pace.next_ns, self._now_ns - _CATCH_UP_NS) + pace.gap_ns
            if self._now_ns >= pace.until_ns:
                line.pace = None
        self._forget(item)
        if line.urgent:
            self._hurry(line)
        return item[2]

    def _turn_over(self, tenant: Tenant) -> None:
        """Let a tenant go ahead again, if it has had a whole turn or wants none."""
        if tenant.paying:
            tenant.paying = False
        else:
            tenant.owed = False
            self._hurry_parked(tenant)

    # -- lines that may not go

    def _refused(self, line: Waiting, check: Check | None) -> bool:
        shut = None if check is None else check(line.key, self._now_ns)
        if shut is None and line.pace is not None and line.pace.next_ns > self._now_ns:
            shut = Shut(line.pace.next_ns, line.pace.why)
        if shut is None:
            return False
        one = line.tenant if shut.whole else line
        one.shut = shut
        self._shut[one] = None
        if shut.until_ns is not None:
            self._wake(one, max(shut.until_ns, self._now_ns + 1))
        return True

    def _open(self, shut: list[Turn]) -> None:
        released: list[tuple[Waiting, str]] = []
        for one in shut:
            was, one.shut, one.wake_ns = one.shut, None, FOREVER
            self._shut.pop(one, None)
            lines: list[Waiting] = []
            if isinstance(one, Waiting):
                self._enter(one)
                lines = [one]
            elif isinstance(one, Tenant):
                lines = list(one.lines)
                self._join(one)
                self._hurry_parked(one)
            if was is not None and was.spread:
                released += [(line, was.why) for line in lines]
        self._spread(released)

    def _spread(self, lines: list[tuple[Waiting, str]]) -> None:
        """Give each line its pace, so that all of them together are even."""
        behind = sum(line.count for line, _ in lines) - 1
        over = min(self._order.release_ns, _RELEASE_EACH_NS * behind)
        for line, why in lines:
            gap = over // max(1, line.count)
            first = self._now_ns + self._rng.randint(0, gap)
            line.pace = Pace(gap, first, self._now_ns + over, why)

    # -- time

    def _pass_to(self, now_ns: int) -> None:
        if now_ns > self._now_ns:
            self._now_ns = now_ns
        elif not self._soon:
            return  # Nothing has come due since.
        opened: list[Turn] = []
        for one in self._wakes.due(self._now_ns):
            if one.shut is not None:
                opened.append(one)
            elif isinstance(one, Waiting):
                self._enter(one)
        if opened:
            self._open(opened)
        for _ in range(_SOON if self._soon else 0):
            if not self._soon or self._soon[0][0] > self._now_ns:
                break
            _, _, expires_ns, item = heapq.heappop(self._soon)
            if self._alive(item):
                self._let_hurry(item, expires_ns)
            else:
                self._garbage -= 1

    def _wake(self, one: Turn, at_ns: int) -> None:
        # A tenant wakes as well, and has at least one line.
        self._wakes.set(one, at_ns, 2 * len(self._lines))

    def _enter(self, line: Waiting) -> None:
        """Let a line that is not shut stand in the ring, if something of it is due; else look again when it is."""
        head = None if line.shut is not None else self._head(line)
        if head is None:
            return
        if head[0] > self._now_ns:
            if line.next is None and head[0] < line.wake_ns:
                self._wake(line, head[0])
            return
        if line.next is None:
            line.wake_ns = FOREVER
            line.tenant.lines.join(line)
        self._join(line.tenant)
        self._hurry(line)

    def _join(self, tenant: Tenant) -> None:
        if tenant.next is None and tenant.shut is None and tenant.lines:
            self._classes[tenant.class_].turns.join(tenant)

    # -- deadlines

    def _most_urgent(self, line: Waiting) -> tuple[int, int, Item] | None:
        while line.urgent and not self._alive(line.urgent[0][2]):
            line.hastened()
            self._garbage -= 1
        return line.urgent[0] if line.urgent else None

    def _let_hurry(self, item: Item, expires_ns: int) -> None:
        item[3].hasten(item, expires_ns)
        self._hurry(item[3])

    def _hurry(self, line: Waiting) -> None:
        """Let the most urgent of a line go before its tenant's turn, if it may."""
        head = self._most_urgent(line) if line.urgent else None
        if head is None or line.shut is not None or head[:2] == line.hurry:
            return
        if _free(line):
            line.hurry = head[:2]
            heapq.heappush(self._classes[line.key.class_].express, (head[0], head[1], line))
        else:
            line.hurry, tenant = None, line.tenant
            tenant.parked = tenant.parked or {}
            tenant.parked[line] = None

    def _hurry_parked(self, tenant: Tenant) -> None:
        if tenant.parked:
            parked, tenant.parked = tenant.parked, None
            for line in parked:
                self._hurry(line)

    # -- what is there

    def _begin(self, line: Line) -> Waiting:
        class_ = self._classes.get(line.class_)
        if class_ is None:
            class_ = self._classes[line.class_] = _Class(line.class_)
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


def _free(line: Waiting) -> bool:
    """Say whether a line's urgent deliveries may go before its tenant's turn."""
    tenant = line.tenant
    may = line.shut is None and tenant.shut is None
    return may and not tenant.owed and tenant.ahead < tenant.weight


def _rank(class_: str) -> tuple[int, str]:
    return (CLASSES.index(class_) if class_ in CLASSES else len(CLASSES)), class_
