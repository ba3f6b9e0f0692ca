"""What waits for a grant, in groups: (limit key, pool, pinned slot, own slot, slot group). Pure.

A group holds the deliveries that the same slots could send under the same limits. It is looked at only when something can have
changed for it: its time came, an outcome of its key freed credit, or slots and pauses changed. Groups are served in turns of a few
grants, so that a large one delays nobody. Inside a group the order is class, deadline, tenants, streams (``fairness``), without the
lines that a gate keeps back (``lines``): gates are asked here, by limit key, and told to the groups when they change (``reopen``).
"""

import heapq
import random
from collections import deque
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Final

import msgspec

from services.scheduler.policy.asleep import LEAD_NS, Asleep
from services.scheduler.policy.backlog import Order
from services.scheduler.policy.deliveries import urgent_ns
from services.scheduler.policy.duequeue import DueQueue
from services.scheduler.policy.entries import line_of
from services.scheduler.policy.explain import Pace
from services.scheduler.policy.group import Group, GroupKey
from services.scheduler.policy.lanes import Lanes
from services.scheduler.policy.lines import FOREVER, Check, Gate, Line, together
from services.scheduler.policy.orders import LOOKED, Orders
from services.scheduler.policy.outdated import Outdated
from services.scheduler.policy.pairlimit import PairLimit
from services.scheduler.policy.pairs import Pairs
from services.scheduler.policy.parts import Parts
from services.scheduler.policy.resting import Entries
from services.scheduler.policy.room import Full
from services.scheduler.policy.sources import Candidate, Sources, Turn
from services.scheduler.policy.windows import Windows
from shared.protocol.control import ControlView
from shared.records.control import Directive
from shared.records.lanemap import LaneMap
from shared.records.state import DeliveryState
from shared.runtime.settings import Settings

_TURN: Final = 32
# What was stopped as a whole for so long is released evenly.
_RELEASED_AFTER_NS: Final = 10_000_000_000
# Greylisting's slot is waited for so long after the retry was due; then another may try.
PIN_PATIENCE_NS: Final = 300_000_000_000
# Of so many destinations it is remembered where their mail waits.
_PLACES: Final = 65_536
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


class _Place(msgspec.Struct, eq=False):
    """Where mail of a pool to a site waits."""

    limit_key: str
    site: str
    #: The slot group; None: it depends on the recipient, or the pool is sticky.
    slots: int | None
    #: The group that was found last, which may be gone.
    group: Group | None = None


@dataclass(slots=True)
class Queues:
    """All groups of a partition."""

    settings: Settings
    view: ControlView
    pairs: Pairs
    lanes: Lanes
    orders: Orders
    rng: random.Random
    #: Limits of parts of the mail.
    parts: Parts
    entries: Entries
    #: What else keeps lines back.
    gates: list[Gate] = field(default_factory=list)
    #: Those of them that are asked in this round.
    _asked: list[Gate] = field(default_factory=list)
    _groups: dict[GroupKey, Group] = field(default_factory=dict)
    _by_key: dict[str, dict[GroupKey, Group]] = field(default_factory=dict)
    _places: dict[tuple[str | None, str, str], _Place] = field(default_factory=dict)
    _wakes: list[tuple[int, int, Group]] = field(default_factory=list)
    #: Those that are new and due: of small sites nearly all are, so no heap orders them. ``wake_ns`` is 0 until they are looked at.
    _new: list[Group] = field(default_factory=list)
    _serial: int = 0
    _pauses: list[Directive] = field(default_factory=list)
    #: Of lanes and orders, as they were seen last.
    _changes: tuple[int, int] = (-1, -1)
    #: How many more a round may give to the pauses that keep what they hold back.
    _keep: int = 0
    _now_ns: int = 0
    asleep: Asleep = field(init=False)
    _grouping: LaneMap | None = None
    #: What waits as an older map grouped it.
    outdated: Outdated = field(default_factory=Outdated)
    _order: Order = field(init=False)
    #: Class -> how long before its expiry a delivery is urgent.
    _urgent_ns: dict[str, int] = field(init=False)
    sources: Sources = field(init=False)

    def __post_init__(self) -> None:
        """Read the order and send windows out of the settings."""
        self.asleep = Asleep(self.entries)
        self._order = Order.of(self.settings)
        self._urgent_ns = urgent_ns(self.settings)
        self.sources = Sources(self.settings, self.pairs, self.parts, self.rng)
        self.gates = [
            self.parts,
            *self.gates,
            Windows(self.settings),
            self.pairs.domains,
            self.orders,
        ]

    def __len__(self) -> int:
        """Count the groups."""
        return len(self._groups)

    # -- what is where

    def limit_key(self, entry: DeliveryState) -> str:
        """Name whose limits hold: the smart host, else the provider, else the site."""
        return self._place(entry).limit_key

    def _place(self, entry: DeliveryState) -> _Place:
        if entry.site is None:
            return self._found(entry)
        which = entry.provider, entry.site, entry.pool
        place = self._places.get(which)
        if place is None:
            if len(self._places) >= _PLACES:
                self._places.clear()
            place = self._places[which] = self._found(entry)
        return place

    def _found(self, entry: DeliveryState) -> _Place:
        smarthost = self.settings.smarthost(entry.pool)
        limit_key = entry.provider or entry.site or entry.domain
        if smarthost is not None:
            limit_key = f"smarthost:{smarthost}"
        pool = self.settings.pools.get(entry.pool)
        sticky = pool is not None and pool.sticky != "none"
        slots = None if sticky else self.map.only_group(entry.pool)
        return _Place(limit_key, self.parts.sites.of(limit_key, entry.site), slots)

    def _key(self, entry: DeliveryState, place: _Place) -> GroupKey:
        slots, home = place.slots, None
        if slots is None:
            slots = self.map.group(entry.pool, entry.to)
            home = self.sources.home(entry, slots) if entry.pinned is None else None
        return place.limit_key, entry.pool, entry.pinned, home, slots, place.site

    def _group(self, entry: DeliveryState, place: _Place) -> Group | None:
        """Find the group that a delivery belongs to, if there is one."""
        if entry.pinned is not None or place.slots is None:
            return self._groups.get(self._key(entry, place))
        group = place.group
        if group is None or group.gone:
            group = place.group = self._groups.get(self._key(entry, place))
        return group

    @property
    def map(self) -> LaneMap:
        """The map by which what waits is grouped: the newest that was read may be newer for a moment."""
        if self._grouping is None:
            self._grouping = self.lanes.map
        return self._grouping

    def regroup(self) -> None:
        """Group by the newest map from now on; where it groups otherwise, ``regrouping`` gives what waits already."""
        was, now = self.map, self.lanes.map
        self._grouping = now
        self._places.clear()
        if was.pools == now.pools and was.groups == now.groups:
            return
        self.outdated.set_aside(self._by_key, self._now_ns)
        self._groups, self._by_key, self._wakes, self._new = {}, {}, [], []

    def regrouping(self, most: int) -> Iterator[DeliveryState]:
        """Take out up to ``most`` that wait as an older map had it; each must be put where it belongs before the next is taken."""
        return (self.entries[id_] for id_ in self.outdated.give(most))

    def add(self, entry: DeliveryState) -> None:
        """Let a delivery wait until it is due and may go."""
        place, now_ns, due_ns = self._place(entry), self._now_ns, entry.due_ns
        far = due_ns - now_ns > LEAD_NS
        if far and self.asleep.takes(entry, place.limit_key, now_ns):
            return
        group = place.group
        if group is None or group.gone or entry.pinned is not None or place.slots is None:
            group = self._group(entry, place)
        if group is None:
            key = self._key(entry, place)
            group = Group(*key, entry.provider, DueQueue(self._order, self.rng))
            self._groups[key] = group
            others = self._by_key.get(place.limit_key)
            if others is None:
                self._by_key[place.limit_key] = {key: group}
            else:
                others[key] = group
            if due_ns <= now_ns:
                group.wake_ns = 0
                self._new.append(group)
        group.queue.push(entry.id, due_ns, line_of(entry), now_ns=now_ns)
        if entry.expires_ns - self._urgent_ns.get(entry.class_, 0) <= now_ns:
            group.queue.urge(entry.id, entry.expires_ns)
        if due_ns < group.wake_ns:
            self._schedule(group, due_ns)

    def urge(self, entry: DeliveryState) -> None:
        """Let a delivery go before others from now on, if it waits here."""
        group = self._group(entry, self._place(entry))
        if group is not None:
            # What is not grouped anew yet is as soon as it is.
            group.queue.urge(entry.id, entry.expires_ns)

    def remove(self, entry: DeliveryState) -> None:
        """Forget a delivery that ended or moved, wherever it waits."""
        place = self._place(entry)
        if self.asleep.remove(entry, place.limit_key):
            return
        group = self._group(entry, place)
        if group is not None and group.queue.remove(entry.id):
            if group.reason == "byte_rate":
                # It may have been the one that the others wait for.
                self._schedule(group, 0)
        elif self.outdated:
            old = self.outdated.of(place.limit_key, entry.id)
            if old is not None:
                old.queue.remove(entry.id)

    def wake(self, limit_key: str) -> None:
        """Look at the groups of a key again: credit was freed, or its pause changed."""
        for group in self.of_key(limit_key):
            if group.reason != "due" and group.wake_ns > 0:
                self._schedule(group, 0)

    def _look_again(self, groups: Iterable[Group]) -> None:
        for group in groups:
            if group.reason != "due":
                self._schedule(group, 0)

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

    def waiting(self, limit_key: str, class_: str, tenant: str) -> int:
        """Count what a tenant has waiting in a class under a key's limits."""
        groups = (*self.of_key(limit_key), *self.outdated.of_key(limit_key))
        standing = sum(group.queue.waiting(class_, tenant) for group in groups)
        return standing + self.asleep.waiting(limit_key, class_, tenant)

    def groups(self) -> list[Group]:
        """Give all groups."""
        return list(self._groups.values())

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

    def group(self, entry: DeliveryState) -> Group | None:
        """Give the group that a delivery waits in."""
        place = self._place(entry)
        group = self._group(entry, place)
        if group is not None and entry.id in group.queue:
            return group
        return self.outdated.of(place.limit_key, entry.id) if self.outdated else None

    def group_of(self, entry: DeliveryState) -> Group | None:
        """Give the group that a delivery belongs to, whether it waits there yet or not."""
        return self._group(entry, self._place(entry))

    def of_key(self, limit_key: str) -> Collection[Group]:
        """Give the groups that wait under a key's limits."""
        groups = self._by_key.get(limit_key)
        return () if groups is None else groups.values()

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

    def _schedule(self, group: Group, at_ns: int, *, force: bool = False) -> None:
        if force or at_ns < group.wake_ns:
            group.wake_ns = at_ns
            self._serial += 1
            heapq.heappush(self._wakes, (at_ns, self._serial, group))
