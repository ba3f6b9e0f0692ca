"""What waits for a grant, in groups: (limit key, pool, pinned slot, own slot, slot group). Pure.

A group holds the deliveries that the same slots could send under the same limits. It is looked at only when something can have
changed for it: its time came, an outcome of its key freed credit, or slots and pauses changed. Groups are served in turns of a few
grants, so that a large one delays nobody. Inside a group the order is class, deadline, tenants, streams (``fairness``), without the
lines that a gate keeps back (``lines``): gates are asked here, by limit key, and told to the groups when they change (``reopen``).
"""

import heapq
import random
from collections import deque
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final

from services.scheduler.policy import rotation
from services.scheduler.policy.asleep import Asleep
from services.scheduler.policy.deliveries import urgent_from_ns
from services.scheduler.policy.entries import line_of
from services.scheduler.policy.explain import Pace
from services.scheduler.policy.fairness import DueQueue, Order
from services.scheduler.policy.lanes import Lanes
from services.scheduler.policy.lines import FOREVER, Check, Gate, Line, together
from services.scheduler.policy.orders import LOOKED, Orders
from services.scheduler.policy.pairs import Full, Pairs, Room
from services.scheduler.policy.parts import Parts
from services.scheduler.policy.steering import Steering, first_tags, goes_first
from services.scheduler.policy.stickiness import Homes
from services.scheduler.policy.windows import Windows
from shared.protocol.control import ControlView
from shared.records.control import Directive
from shared.records.lanemap import LaneMap, group_of
from shared.records.state import DeliveryState
from shared.runtime.settings import Settings, Source

_TURN: Final = 32
#: Of a destination that nobody knows.
_FAMILIES: Final = ("v4",)
# A slot's own bound is shared by groups of other keys, whose outcomes do not wake this one.
_LOOK_AGAIN_NS: Final = 50_000_000
# What was stopped as a whole for so long is released evenly.
_RELEASED_AFTER_NS: Final = 10_000_000_000
# Parts of a weight: a source that fares badly keeps a few.
_PARTS: Final = 64
# A delivery's own slot is waited for while it is only busy; others stand in for one that cannot send.
_STOOD_IN_FOR: Final = frozenset({"no_source", "paused", "suspended", "warmup"})
# Greylisting's slot is waited for so long after the retry was due; then another may try.
_PIN_PATIENCE_NS: Final = 300_000_000_000

GroupKey = tuple[str, str, int | None, int | None, int, str]


@dataclass(slots=True)
class Group:
    """Deliveries that wait for the same slots under the same limits."""

    limit_key: str
    pool: str
    pinned: int | None
    #: In a sticky pool, the slot that its deliveries are tied to.
    home: int | None
    #: The slot group.
    slots: int
    #: A site of the provider that has limits of its own.
    site: str
    provider: str | None
    queue: DueQueue
    turns: rotation.State = rotation.START
    steering: Steering = field(default_factory=Steering)
    #: When it is looked at next; FOREVER: when something changes.
    wake_ns: int = FOREVER
    reason: str = "due"
    #: Since when it has this reason, and how fast it goes.
    since_ns: int = 0
    pace: Pace = field(default_factory=Pace)
    #: Since when nothing of it may go, and why.
    stopped: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One delivery may go, from this slot in this epoch."""

    entry: DeliveryState
    slot: int
    epoch: int
    t0_ns: int
    t1_ns: int
    group: Group


@dataclass(frozen=True, slots=True)
class Over:
    """One delivery's time would be over before it could begin."""

    entry: DeliveryState


@dataclass(slots=True)
class _Candidate:
    slot: int
    #: In its pool, and what its health leaves of it.
    weight: int
    turns: int
    epoch: int
    room: Room


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
    entries: Mapping[str, DeliveryState]
    #: What else keeps lines back.
    gates: list[Gate] = field(default_factory=list)
    _groups: dict[GroupKey, Group] = field(default_factory=dict)
    _by_key: dict[str, set[GroupKey]] = field(default_factory=dict)
    _wakes: list[tuple[int, int, GroupKey]] = field(default_factory=list)
    _serial: int = 0
    #: slot -> epoch that may be granted to now.
    _live: dict[int, int] = field(default_factory=dict)
    _pauses: list[Directive] = field(default_factory=list)
    #: Of lanes and orders, as they were seen last.
    _changes: tuple[int, int] = (-1, -1)
    #: How many more a round may give to the pauses that keep what they hold back.
    _keep: int = 0
    _now_ns: int = 0
    _asleep: Asleep = field(init=False)
    _grouping: LaneMap | None = None
    _order: Order = field(init=False)
    _homes: Homes = field(init=False)
    #: (pool, provider, slot group) -> (slot, weight)
    _reach: dict[tuple[str, str | None, int], tuple[tuple[int, int], ...]] = field(
        default_factory=dict
    )
    #: Tags of mail that goes first from a source that is being warmed up.
    _first: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        """Read the order, whose mail goes first, and send windows out of the settings."""
        self._asleep = Asleep(self.entries)
        self._order = Order.of(self.settings)
        self._first = first_tags(self.settings)
        self._homes = Homes(self.settings.pools)
        self.gates += [Windows(self.settings), self.pairs.domains]

    def __len__(self) -> int:
        """Count the groups."""
        return len(self._groups)

    # -- what is where

    def limit_key(self, entry: DeliveryState) -> str:
        """Name whose limits hold: the smart host, else the provider, else the site."""
        smarthost = self.settings.smarthost(entry.pool)
        if smarthost is not None:
            return f"smarthost:{smarthost}"
        return entry.provider or entry.site or entry.domain

    def _key(self, entry: DeliveryState) -> GroupKey:
        slots = self._map.group(entry.pool, entry.to)
        home = self._home(entry, slots) if entry.pinned is None else None
        limit_key = self.limit_key(entry)
        site = self.parts.sites.of(limit_key, entry.site)
        return limit_key, entry.pool, entry.pinned, home, slots, site

    def _home(self, entry: DeliveryState, slots: int) -> int | None:
        pool = self.settings.pools.get(entry.pool)
        if pool is None or pool.sticky == "none":
            return None
        return self._homes.of(entry, self._reachable(entry.pool, entry.provider, slots))

    def _reachable(
        self, pool: str, provider: str | None, slots: int
    ) -> tuple[tuple[int, int], ...]:
        """Give (slot, weight) of a pool's sources in a slot group that can reach a destination at all."""
        known = self._reach.get((pool, provider, slots))
        if known is None:
            named = self.settings.pools[pool].sources if pool in self.settings.pools else {}
            sources = [(self.settings.sources[name], weight) for name, weight in named.items()]
            known = self._reach[pool, provider, slots] = tuple(
                (source.slot, weight)
                for source, weight in sources
                if source.kind == "smarthost" or group_of(source.slot) == slots
                if self._reaches(source, provider)
            )
        return known

    @property
    def _map(self) -> LaneMap:
        """The map by which what waits is grouped: the newest that was read may be newer for a moment."""
        if self._grouping is None:
            self._grouping = self.lanes.map
        return self._grouping

    def regroup(self) -> None:
        """Group by the newest map from now on; nothing may wait here meanwhile."""
        self._grouping = self.lanes.map

    def add(self, entry: DeliveryState) -> None:
        """Let a delivery wait until it is due and may go."""
        key = self._key(entry)
        if self._asleep.takes(entry, key[0], self._now_ns):
            return
        group = self._groups.get(key)
        if group is None:
            queue = DueQueue(self._order, self.rng)
            group = self._groups[key] = Group(*key, entry.provider, queue)
            self._by_key.setdefault(key[0], set()).add(key)
        group.queue.push(entry.id, entry.due_ns, line_of(entry), now_ns=self._now_ns)
        if urgent_from_ns(self.settings, entry) <= self._now_ns:
            group.queue.urge(entry.id, entry.expires_ns)
        self._schedule(key, group, entry.due_ns)

    def urge(self, entry: DeliveryState) -> None:
        """Let a delivery go before others from now on, if it waits here."""
        group = self._groups.get(self._key(entry))
        if group is not None:
            group.queue.urge(entry.id, entry.expires_ns)

    def remove(self, entry: DeliveryState) -> None:
        """Forget a delivery that ended or moved, wherever it waits."""
        key = self._key(entry)
        if self._asleep.remove(entry, key[0]):
            return
        group = self._groups.get(key)
        if group is not None:
            group.queue.remove(entry.id)

    def wake(self, limit_key: str) -> None:
        """Look at the groups of a key again: credit was freed, or its pause changed."""
        for key in self._by_key.get(limit_key, ()):
            group = self._groups[key]
            if group.reason != "due":
                self._schedule(key, group, 0)

    def reason(self, entry: DeliveryState, now_ns: int) -> str:
        """Name the one thing that a waiting delivery waits for."""
        if entry.due_ns > now_ns:
            return "retry" if entry.n else "not_before"
        group = self._groups.get(self._key(entry))
        if group is None:
            return "due"
        shut = group.queue.shut(line_of(entry))
        return group.reason if shut is None else shut.why

    def waiting(self, limit_key: str, class_: str, tenant: str) -> int:
        """Count what a tenant has waiting in a class under a key's limits."""
        groups = (self._groups[key] for key in self._by_key.get(limit_key, ()))
        standing = sum(group.queue.waiting(class_, tenant) for group in groups)
        return standing + self._asleep.waiting(limit_key, class_, tenant)

    def groups(self) -> list[Group]:
        """Give all groups."""
        return list(self._groups.values())

    def overdue(
        self, groups: Sequence[Group], before_ns: int, tenants: Container[str], now_ns: int
    ) -> Iterator[str]:
        """Take out those of ``tenants`` that have been due since ``before_ns``, the longest first, and wait for a slot alone."""

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
        group = self._groups.get(self._key(entry))
        return group if group is not None and entry.id in group.queue else None

    def group_of(self, entry: DeliveryState) -> Group | None:
        """Give the group that a delivery belongs to, whether it waits there yet or not."""
        return self._groups.get(self._key(entry))

    def of_key(self, limit_key: str) -> list[Group]:
        """Give the groups that wait under a key's limits."""
        return [self._groups[key] for key in self._by_key.get(limit_key, ())]

    def senders(self, group: Group) -> list[tuple[int, int]]:
        """Give (slot, epoch) of the sources that may send for a group, as far as they are there and no order pauses them."""
        slots = (slot for slot, _ in self._slots(group, self._blocked(group)[0]))
        return [(slot, self._live[slot]) for slot in slots if slot in self._live]

    def next_ns(self) -> int:
        """Say when a group is due to be looked at, or something wakes."""
        woken = self._asleep.next_ns()
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
            self.pairs.overrule(self.orders.limiting())
            self.reopen(now_ns)
        if live != self._live or changes[0] != was[0]:
            self._live = live
            for key, group in self._groups.items():
                if group.reason != "due":
                    self._schedule(key, group, 0)

    def reopen(self, now_ns: int, limit_key: str | None = None) -> None:
        """Ask the gates again, for the groups of a key or for all: their answers may have changed."""
        for key in list(self._groups if limit_key is None else self._by_key.get(limit_key, ())):
            group = self._groups[key]
            if group.queue.reopen(now_ns) or group.reason != "due":
                self._schedule(key, group, 0)

    # -- choosing

    def choose(self, now_ns: int, max_grants: int, max_bytes: int) -> Iterator[Choice | Over]:
        """Give deliveries that may go now, or never, group by group in turns; each is taken out of its queue."""
        self._wake_up(now_ns)
        turn: deque[GroupKey] = deque()
        self._keep = LOOKED
        while self._wakes and self._wakes[0][0] <= now_ns:
            wake, _, key = heapq.heappop(self._wakes)
            group = self._groups.get(key)
            if group is not None and group.wake_ns == wake:
                # A second wake for the same time finds it taken.
                group.wake_ns = FOREVER
                turn.append(key)
        while turn and max_grants > 0 and max_bytes > 0:
            key = turn.popleft()
            group = self._groups[key]
            before = group.reason
            for served, choice in enumerate(self._serve(group, now_ns), start=1):
                group.pace.granted(now_ns)
                max_grants -= 1
                max_bytes -= choice.entry.size_bytes
                yield choice
                if served >= _TURN or max_grants <= 0 or max_bytes <= 0:
                    turn.append(key)
                    break
            else:
                self._settle(key, group)
            if group.reason != before:
                group.since_ns = now_ns
        for key in turn:
            self._schedule(key, self._groups[key], now_ns, force=True)

    def _wake_up(self, now_ns: int) -> None:
        """Give what is due soon its place in a queue."""
        self._now_ns = now_ns
        for entry in self._asleep.waking(now_ns):
            self.remove(entry)
            self.add(entry)

    def _settle(self, key: GroupKey, group: Group) -> None:
        if len(group.queue) == 0:
            del self._groups[key]
            self._by_key[key[0]].discard(key)
            if not self._by_key[key[0]]:
                del self._by_key[key[0]]
        elif group.wake_ns < FOREVER:
            self._schedule(key, group, group.wake_ns, force=True)

    def _serve(self, group: Group, now_ns: int) -> Iterator[Choice | Over]:
        """Grant while the group may; leaves its reason and when to look again."""
        if not self.lanes.decides(group.limit_key, group.slots):
            # Its lane has not been handed over yet.
            self._stop(group, "lane", now_ns)
            return
        slots, blocked = self._blocked(group)
        if blocked:
            self._stop(group, "directive", now_ns)
            return
        candidates = self._candidates(group, slots, now_ns)
        if candidates:
            self._go_on(group, now_ns)
        check = self._check(group) if candidates else None
        while candidates:
            id_ = group.queue.pop_ready(now_ns, check)
            if id_ is None:
                # What is ready and yet not given lies in lines that are shut: their time, or a change of the gates, wakes it.
                group.reason, group.wake_ns = "due", group.queue.next_ns()
                return
            entry = self.entries[id_]
            if self.orders.keeps(entry):
                self._keep -= 1
                if self._keep <= 0:
                    group.reason, group.wake_ns = "directive", now_ns
                    return
                continue
            able = [each for each in candidates if each.room.t0_ns < entry.expires_ns]
            if not able:
                yield Over(entry)
                continue
            chosen = self._pick(group, entry, able, now_ns)
            t0, t1 = self._spend(group, chosen, entry, now_ns)
            yield Choice(entry, chosen.slot, chosen.epoch, t0, t1, group)
            if not group.queue:
                return  # Most groups of small sites have one delivery: no slot need be asked whether it takes another.
            candidates = self._left(group, chosen, candidates, slots, now_ns)

    def _spend(
        self, group: Group, chosen: _Candidate, entry: DeliveryState, now_ns: int
    ) -> tuple[int, int]:
        """Spend what a grant costs; gives its t0 and t1."""
        t0, slot = chosen.room.t0_ns, chosen.slot
        self.pairs.spend(group.provider, group.limit_key, slot, t0)
        window = self.pairs.window_ns(group.provider, group.limit_key, slot)
        t1 = t0 + (self.settings.timing.lease_ns if window is None else window)
        if chosen.room.warming is not None:
            # What begins later would be of another day's budget.
            t1 = min(t1, chosen.room.warming.end_ns)
        self.pairs.spilling.granted(group.limit_key, group.pool, now_ns)
        if group.site:
            here = self.parts.sites.spend(group.limit_key, group.site, slot, now_ns)
            t0, t1 = max(t0, here.first_ns), min(t1, here.last_ns)
        if not self.parts.concern(group.limit_key):
            return t0, t1
        start = self.parts.spend(group.limit_key, line_of(entry), now_ns)
        return (t0, t1) if start is None else (max(t0, start.first_ns), min(t1, start.last_ns))

    def _room(self, group: Group, slot: int, epoch: int, now_ns: int) -> Room | Full:
        """Say whether a slot may take a grant of this group."""
        room = self.pairs.room(group.provider, group.limit_key, slot, epoch, now_ns)
        if not group.site or isinstance(room, Full):
            return room
        at, why = self.parts.sites.earliest(group.limit_key, group.site, slot, now_ns)
        return room if at <= now_ns else Full(at, why)

    def _left(
        self,
        group: Group,
        chosen: _Candidate,
        candidates: list[_Candidate],
        blocked: set[int],
        now_ns: int,
    ) -> list[_Candidate]:
        """List the slots that may take one more after ``chosen`` took a grant: only that one's room has changed.

        With a total over slots every slot's earliest time has moved, so all are looked at.
        """
        window = self.pairs.window_ns(group.provider, group.limit_key, chosen.slot)
        if window is None and not group.site:
            room = self._room(group, chosen.slot, chosen.epoch, now_ns)
            if isinstance(room, Room):
                chosen.room = room
                return candidates
            left = [candidate for candidate in candidates if candidate is not chosen]
            if left:
                return left
        return self._candidates(group, blocked, now_ns)

    def _pick(
        self, group: Group, entry: DeliveryState, able: list[_Candidate], now_ns: int
    ) -> _Candidate:
        """Choose among the slots that may take ``entry``."""
        if len(able) == 1:
            return able[0]
        if group.home is not None:
            slots = tuple((each.slot, each.weight) for each in able)
            slot = self._homes.of(entry, slots)
        else:
            first = goes_first(entry, self._first)
            fit = group.steering.among(able, first=first, now_ns=now_ns)
            turns = [(each.slot, each.turns) for each in fit]
            slot, group.turns = rotation.choose(turns, group.turns, self.rng)
        return next(each for each in able if each.slot == slot)

    def _candidates(self, group: Group, blocked: set[int], now_ns: int) -> list[_Candidate]:
        """List the slots that may take a grant now; where none may, the group's reason and wake time say why and until when."""
        slots = list(self._slots(group, blocked))
        own = [each for each in slots if each[0] == group.home]
        found, why, wake = self._look(group, own, now_ns) if own else ([], "no_source", FOREVER)
        if not found and why in _STOOD_IN_FOR:
            found, why, wake = self._look(group, slots, now_ns)
        if not found and why == "no_source":
            paused = blocked & self._live.keys() & {slot for slot, _ in self._slots(group, set())}
            self._stop(group, "directive" if paused else why, now_ns)
        elif not found:
            group.reason, group.wake_ns = why, wake
        return found

    def _look(
        self, group: Group, slots: list[tuple[int, int]], now_ns: int
    ) -> tuple[list[_Candidate], str, int]:
        """Give those of ``slots`` that may take a grant now; else why not, and when to look again."""
        found: list[_Candidate] = []
        why, wake = "no_source", FOREVER
        for slot, weight in slots:
            epoch = self._live.get(slot)
            if epoch is None:
                continue
            room = self._room(group, slot, epoch, now_ns)
            if isinstance(room, Room):
                turns = self._turns(group, slot, weight, now_ns)
                found.append(_Candidate(slot, weight, turns, epoch, room))
                continue
            until = now_ns + _LOOK_AGAIN_NS if room.until_ns is None else room.until_ns
            if until < wake:
                why, wake = room.why, until
        return found, why, wake

    def _turns(self, group: Group, slot: int, weight: int, now_ns: int) -> int:
        """Give the weight that a slot's health leaves it, in parts."""
        left = self.pairs.weight(group.limit_key, slot, now_ns)
        return max(1, int(weight * _PARTS * left))

    def _stop(self, group: Group, why: str, now_ns: int) -> None:
        """Let a group wait for something that is not a matter of time."""
        group.reason, group.wake_ns = why, FOREVER
        if group.stopped is None:
            group.stopped = now_ns, why

    def _go_on(self, group: Group, now_ns: int) -> None:
        """Release what a long stop has gathered."""
        stopped, group.stopped = group.stopped, None
        if stopped is not None and now_ns - stopped[0] >= _RELEASED_AFTER_NS:
            group.queue.release(now_ns, stopped[1])

    def _slots(self, group: Group, blocked: set[int]) -> Iterator[tuple[int, int]]:
        # A pool that is not there was taken out, or another configuration is meant: what waits for it has until it expires.
        for slot, weight in self._reachable(group.pool, group.provider, group.slots):
            if slot not in blocked and group.pinned in (None, slot):
                yield slot, weight

    def _reaches(self, source: Source, provider: str | None) -> bool:
        """Say whether the destination takes mail over the source's address family (IPv6 only where its row says so)."""
        if source.kind == "smarthost":
            return True
        known = self.settings.providers.get(provider or "")
        families = known.families if known is not None else _FAMILIES
        return source.family in families

    def stale_pins(self, now_ns: int) -> list[DeliveryState]:
        """Take out the deliveries whose remembered slot has been away, or may not send, for too long: another may try."""
        freed: list[DeliveryState] = []
        for group in self._groups.values():
            away = group.pinned not in self._live or group.reason == "warmup"
            if group.pinned is None or not away:
                continue
            while (
                due := group.queue.oldest_due(now_ns)
            ) is not None and due + _PIN_PATIENCE_NS <= now_ns:
                id_ = group.queue.pop_ready(now_ns)
                if id_ is None:
                    break
                freed.append(self.entries[id_])
        return freed

    def _check(self, group: Group) -> Check | None:
        """Give what is asked of each line of this group before it may go."""
        gates: list[Gate] = [self.parts, *self.gates, self.orders]
        checks = [gate.at(group.limit_key, group.provider) for gate in gates]
        return together([check for check in checks if check is not None])

    def _blocked(self, group: Group) -> tuple[set[int], bool]:
        """Give what directives pause for all of this group: slots, or all of them."""
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

    def _schedule(self, key: GroupKey, group: Group, at_ns: int, *, force: bool = False) -> None:
        if force or at_ns < group.wake_ns:
            group.wake_ns = at_ns
            self._serial += 1
            heapq.heappush(self._wakes, (at_ns, self._serial, key))
