"""What waits for a grant, in groups: (limit key, pool, pinned slot, own slot, slot group). Pure.

A group holds the deliveries that the same slots could send under the same limits. It is looked at only when something can have
changed for it: its time came, an outcome of its key freed credit, or slots and pauses changed. Groups are served in turns of a few
grants, so that a large one delays nobody. Inside a group the order is class, deadline, tenants, streams (``fairness``), without the
lines that a gate keeps back (``lines``): gates are asked here, by limit key, and told to the groups when they change (``reopen``).
"""

import heapq
from collections import deque
from collections.abc import Container, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Final

import msgspec

from services.scheduler.policy.entries import line_of
from services.scheduler.policy.explain import Pace
from services.scheduler.policy.group import Group
from services.scheduler.policy.groups import Groups
from services.scheduler.policy.lines import FOREVER, Check, Gate, Line, together
from services.scheduler.policy.orders import LOOKED
from services.scheduler.policy.pairlimit import PairLimit
from services.scheduler.policy.room import Full
from services.scheduler.policy.sources import Candidate, Turn
from services.scheduler.policy.windows import Windows
from shared.records.control import Directive
from shared.records.state import DeliveryState

_TURN: Final = 32
# What was stopped as a whole for so long is released evenly.
_RELEASED_AFTER_NS: Final = 10_000_000_000
# Greylisting's slot is waited for so long after the retry was due; then another may try.
PIN_PATIENCE_NS: Final = 300_000_000_000
_NO_SLOTS: Final[frozenset[int]] = frozenset()
#: Of a source that may not send, for longer than anybody knows.
_KEPT: Final = frozenset({"warmup", "paused", "suspended"})


class Choice(msgspec.Struct, eq=False):
    """One delivery may go, from this slot in this epoch."""

    entry: DeliveryState
    slot: int
    epoch: int
    t0_ns: int
    t1_ns: int
    group: Group
    limit: PairLimit


@dataclass(frozen=True, slots=True)
class Over:
    """One delivery's time would be over before it could begin."""

    entry: DeliveryState


@dataclass(slots=True)
class Queues(Groups):
    """All groups of a partition, and who of them goes next."""

    #: What else keeps lines back.
    gates: list[Gate] = field(default_factory=list)
    #: Those of them that are asked in this round.
    _asked: list[Gate] = field(default_factory=list)
    _pauses: list[Directive] = field(default_factory=list)
    #: Of lanes and orders, as they were seen last.
    _changes: tuple[int, int] = (-1, -1)
    #: How many more a round may give to the pauses that keep what they hold back.
    _keep: int = 0

    def __post_init__(self) -> None:
        """Read send windows out of the settings."""
        Groups.__post_init__(self)
        self.gates = [
            self.parts,
            *self.gates,
            Windows(self.settings),
            self.pairs.domains,
            self.orders,
        ]

    # -- what is asked

    def reason(self, entry: DeliveryState, now_ns: int) -> str:
        """Name the one thing that a waiting delivery waits for."""
        if entry.due_ns > now_ns:
            return "retry" if entry.n else "not_before"
        place = self._place(entry)
        if self.outdated and self.outdated.of(place.limit_key, entry.id) is not None:
            return "lane"
        group = self._group(entry, place)
        if group is None:
            return "due"
        shut = group.queue.shut(line_of(entry))
        return group.reason if shut is None else shut.why

    def overdue(
        self, groups: Sequence[Group], before_ns: int, tenants: Container[str], now_ns: int
    ) -> Iterator[str]:
        """Take out those of ``tenants`` that have been due since ``before_ns``, the longest first, and wait for a slot alone."""
        self._ask()

        def of(group: Group) -> Iterator[tuple[int, str, Group]]:
            check = self._check(group)

            def lets(line: Line) -> bool:
                return line.tenant in tenants and (check is None or check(line, now_ns) is None)

            return ((due, id_, group) for due, id_ in group.queue.overdue(before_ns, lets))

        for _, id_, group in heapq.merge(*map(of, groups), key=itemgetter(0)):
            group.queue.remove(id_)
            yield id_

    def senders(self, group: Group) -> list[tuple[int, int]]:
        """Give (slot, epoch) of the sources that may send for a group, as far as they are there and no order pauses them."""
        slots = self.sources.of(group, self._blocked(group)[0])
        return [(slot, self.sources.live[slot]) for slot, _ in slots]

    def next_ns(self) -> int:
        """Say when a group is due to be looked at, or something wakes."""
        if self.outdated or self._new:
            return self._now_ns
        woken = self.asleep.next_ns()
        due = self._wakes[0][0] if self._wakes else FOREVER
        return due if woken is None else min(due, woken)

    # -- what has changed

    def refresh(self, now_ns: int) -> None:
        """Look at slots, pauses and lanes; where they changed, every group is looked at again."""
        self._now_ns = now_ns
        fresh = self.settings.timing.fresh_ns
        live = {}
        for source in self.settings.sources.values():
            epoch = self.view.live_epoch(source.slot, now_ns, fresh)
            if epoch is not None:
                live[source.slot] = epoch
        changes = self.lanes.changes, self.orders.changes
        was, self._changes = self._changes, changes
        if changes[1] != was[1]:
            self._pauses = self.orders.pauses()
            limiting = self.orders.limiting()
            self.pairs.overrule(limiting)
            self.parts.overrule(limiting)
            self.reopen(now_ns)
        if self.sources.set_live(live) or changes[0] != was[0]:
            self._look_again(self._groups.values())

    def reopen(self, now_ns: int, limit_key: str | None = None) -> None:
        """Ask the gates again, for the groups of a key or for all: their answers may have changed."""
        for group in self._groups.values() if limit_key is None else self.of_key(limit_key):
            if group.queue.reopen(now_ns) or group.reason != "due":
                self._schedule(group, 0)

    # -- choosing

    def choose(self, now_ns: int, max_grants: int, max_bytes: int) -> Iterator[Choice | Over]:
        """Give deliveries that may go now, or never, group by group in turns; each is taken out of its queue."""
        self._wake_up(now_ns)
        turn = self._woken(now_ns)
        self._ask()
        self._keep = LOOKED
        while turn and max_grants > 0 and max_bytes > 0:
            group = turn.popleft()
            before, served = group.reason, 0
            for choice in self._serve(group, now_ns):
                served += 1
                max_grants -= 1
                max_bytes -= choice.entry.size_bytes
                yield choice
                if served >= _TURN or max_grants <= 0 or max_bytes <= 0:
                    if group.queue:
                        turn.append(group)
                    else:
                        self._settle(group)
                    break
            else:
                self._settle(group)
            if served and not group.gone:
                if group.pace is None:
                    group.pace = Pace()
                group.pace.granted(now_ns, served)
                self._serial += 1
                group.served = self._serial
            if group.reason != before:
                group.since_ns = now_ns
        for group in turn:
            self._schedule(group, now_ns, force=True)

    def _woken(self, now_ns: int) -> deque[Group]:
        """Give the groups whose time it is to be looked at, the one first that was served longest ago."""
        new, self._new = self._new, []
        woken = [group for group in new if group.wake_ns == 0 and not group.gone]
        for group in woken:
            group.wake_ns = FOREVER
        while self._wakes and self._wakes[0][0] <= now_ns:
            wake, _, group = heapq.heappop(self._wakes)
            if group.wake_ns == wake and not group.gone:
                # A second wake for the same time finds it taken.
                group.wake_ns = FOREVER
                woken.append(group)
        if len(woken) > 1:
            # Groups may share a source: else its tokens would always be the same one's.
            woken.sort(key=attrgetter("served"))
        return deque(woken)

    def _wake_up(self, now_ns: int) -> None:
        """Give what is due soon its place in a queue."""
        self._now_ns = now_ns
        for entry in self.asleep.waking(now_ns):
            self.remove(entry)
            self.add(entry)

    def _settle(self, group: Group) -> None:
        if len(group.queue) == 0:
            group.gone = True
            if self.sources.claims:
                self.sources.claims.drop(group)
            key = group.key
            del self._groups[key]
            others = self._by_key[group.limit_key]
            del others[key]
            if not others:
                del self._by_key[group.limit_key]
        elif group.wake_ns < FOREVER:
            self._schedule(group, group.wake_ns, force=True)

    def _serve(self, group: Group, now_ns: int) -> Iterator[Choice | Over]:
        """Grant while the group may; leaves its reason and when to look again."""
        turn = self._begin(group, now_ns)
        if turn is None:
            return
        check = self._check(group)
        while (id_ := group.queue.pop_ready(now_ns, check)) is not None:
            entry = self.entries[id_]
            if self.orders.keeps(entry):
                self._keep -= 1
                if self._keep <= 0:
                    group.reason, group.wake_ns = "directive", now_ns
                    return
                continue
            chosen = turn.choose(entry)
            if chosen is None:
                yield Over(entry)
            elif isinstance(chosen, Full):
                # It is the first to go as soon as it fits: nothing may pass it, or it would never go.
                group.queue.put_back(id_, entry.due_ns, line_of(entry))
                group.reason, group.wake_ns = chosen.why, chosen.until_ns or now_ns
                return
            else:
                t0, t1, limit = self._spend(group, chosen, entry, now_ns)
                # Most groups of small sites have one delivery: whose turn is next need not be known then, nor whether it has room.
                last = not group.queue
                if not last:
                    turn.took(chosen)
                yield Choice(entry, chosen.slot, chosen.epoch, t0, t1, group, limit)
                if last:
                    return
            if not turn.ready():
                self._wait(group, turn, now_ns)
                return
        # What is ready and yet not given lies in lines that are shut: their time, or a change of the gates, wakes it.
        group.reason, group.wake_ns = "due", group.queue.next_ns()

    def _begin(self, group: Group, now_ns: int) -> Turn | None:
        """Begin a turn of a group; None: nothing of it may go now."""
        if not self.lanes.decides(group.limit_key, group.slots):
            # Its lane has not been handed over yet.
            self._stop(group, "lane", now_ns)
            return None
        blocked, whole = self._blocked(group)
        if whole:
            self._stop(group, "directive", now_ns)
            return None
        turn = Turn(self.sources, group, blocked, now_ns)
        if not turn.ready():
            self._wait(group, turn, now_ns)
            return None
        self._go_on(group, now_ns)
        return turn

    def _wait(self, group: Group, turn: Turn, now_ns: int) -> None:
        """Let a group wait, since no slot has room for it."""
        if turn.wake_ns < FOREVER:
            group.reason, group.wake_ns = turn.why, turn.wake_ns
        else:
            self._stop(group, turn.why, now_ns)

    def _spend(
        self, group: Group, chosen: Candidate, entry: DeliveryState, now_ns: int
    ) -> tuple[int, int, PairLimit]:
        """Spend what a grant costs; gives its t0 and t1, and what holds for its pair from then on."""
        t0, slot = chosen.room.t0_ns, chosen.slot
        limit = self.pairs.spend(group.limit_key, slot, t0, chosen.room.limit, entry.size_bytes)
        window = self.pairs.window_ns(limit)
        t1 = t0 + (self.settings.timing.lease_ns if window is None else window)
        if chosen.room.warming is not None:
            # What begins later would be of another day's budget.
            t1 = min(t1, chosen.room.warming.end_ns)
        if self.pairs.spilling.active:
            self.pairs.spilling.granted(group.limit_key, group.pool, now_ns)
        if group.site:
            here = self.parts.sites.spend(group.limit_key, group.site, slot, now_ns)
            t0, t1 = max(t0, here.first_ns), min(t1, here.last_ns)
        t0 = max(t0, self.pairs.domains.spend(group.limit_key, entry, now_ns))
        if not self.parts.concern(group.limit_key):
            return t0, t1, limit
        start = self.parts.spend(group.limit_key, line_of(entry), now_ns)
        if start is not None:
            t0, t1 = max(t0, start.first_ns), min(t1, start.last_ns)
        return t0, t1, limit

    def _stop(self, group: Group, why: str, now_ns: int) -> None:
        """Let a group wait for something that is not a matter of time."""
        self.sources.claims.drop(group)
        group.reason, group.wake_ns = why, FOREVER
        if group.stopped is None:
            group.stopped = now_ns, why

    def _go_on(self, group: Group, now_ns: int) -> None:
        """Release what a long stop has gathered."""
        if self.sources.claims:
            # It is made anew where its first still does not fit.
            self.sources.claims.drop(group)
        stopped, group.stopped = group.stopped, None
        if stopped is not None and now_ns - stopped[0] >= _RELEASED_AFTER_NS:
            group.queue.release(now_ns, stopped[1])

    def stale_pins(self, now_ns: int) -> list[DeliveryState]:
        """Take out the deliveries whose remembered slot has been away, or may not send, for too long: another may try."""
        freed: list[DeliveryState] = []
        for group in self._groups.values():
            if group.pinned is None or not self.forsaken(group):
                continue
            while (
                due := group.queue.oldest_due(now_ns)
            ) is not None and due + PIN_PATIENCE_NS <= now_ns:
                id_ = group.queue.pop_ready(now_ns)
                if id_ is None:
                    break
                freed.append(self.entries[id_])
        return freed

    def forsaken(self, group: Group) -> bool:
        """Say whether the slot that a group remembers is away or may not send, while others of its pool perhaps may."""
        if group.pinned not in self.sources.live or group.reason in _KEPT:
            return True
        slots, whole = self._blocked(group)
        return group.pinned in slots and not whole

    def _ask(self) -> None:
        """Note which gates may shut anything now: mostly none does."""
        self._asked = [gate for gate in self.gates if gate.shuts]

    def _check(self, group: Group) -> Check | None:
        """Give what is asked of each line of this group before it may go."""
        if not self._asked:
            return None
        checks = [
            check
            for gate in self._asked
            if (check := gate.at(group.limit_key, group.provider)) is not None
        ]
        return together(checks) if checks else None

    def _blocked(self, group: Group) -> tuple[AbstractSet[int], bool]:
        """Give what directives pause for all of this group: slots, or all of them."""
        if not self._pauses:
            return _NO_SLOTS, False
        slots: set[int] = set()
        for order in self._pauses:
            if order.provider is not None and order.provider != group.provider:
                continue
            if order.source is not None:
                source = self.settings.sources.get(order.source)
                if source is not None:
                    slots.add(source.slot)
            else:
                return slots, True
        return slots, False
