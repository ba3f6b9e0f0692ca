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
from typing import Final

from services.scheduler.policy.backlog import Backlog, Class
from services.scheduler.policy.lines import FOREVER, Check, Line, Shut
from services.scheduler.policy.turns import Item, Pace, Tenant, Turn, Waiting

#: What opens together is given over so long for each of it.
_RELEASE_EACH_NS: Final = 10_000_000
# A round that comes late finds at most this much of a release waiting for it.
_CATCH_UP_NS: Final = 1_000_000_000
# So many at most join those that may go ahead in one step, when they become due.
_SOON: Final = 64


class FairQueue(Backlog):
    """Deliveries of several lines, in turns; see ``DueQueue`` for what each method does."""

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

    # -- what is asked

    def next_ns(self) -> int:
        """Say when to look again after a ``pop_ready`` that gave nothing: something becomes due, or opens; FOREVER: not by itself."""
        return self._wakes.next_ns()

    # -- choosing

    def _take(self, class_: Class, check: Check | None) -> str | None:
        if class_.express and (given := self._ahead(class_, check)):
            return given
        return self._in_turn(class_, check)

    def _ahead(self, class_: Class, check: Check | None) -> str | None:
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

    def _in_turn(self, class_: Class, check: Check | None) -> str | None:
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


def _free(line: Waiting) -> bool:
    """Say whether a line's urgent deliveries may go before its tenant's turn."""
    tenant = line.tenant
    may = line.shut is None and tenant.shut is None
    return may and not tenant.owed and tenant.ahead < tenant.weight
