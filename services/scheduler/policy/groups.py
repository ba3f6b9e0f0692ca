"""Which groups there are, which of them a delivery belongs to, and when each is looked at. Pure.

A group is (limit key, pool, pinned slot, own slot, slot group, site): of what waits, that which the same slots could send under the same
limits. What is not due for a while is in none (``asleep``). Who of a group goes is decided beside it (``queues``).
"""

import heapq
import random
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from services.scheduler.policy.asleep import LEAD_NS, Asleep
from services.scheduler.policy.backlog import Order
from services.scheduler.policy.deliveries import urgent_ns
from services.scheduler.policy.duequeue import DueQueue
from services.scheduler.policy.entries import line_of
from services.scheduler.policy.group import Group, GroupKey
from services.scheduler.policy.lanes import Lanes
from services.scheduler.policy.limits import SMARTHOST
from services.scheduler.policy.orders import Orders
from services.scheduler.policy.outdated import Outdated
from services.scheduler.policy.pairs import Pairs
from services.scheduler.policy.parts import Parts
from services.scheduler.policy.resting import Entries
from services.scheduler.policy.sources import Sources
from shared.protocol.control import ControlView
from shared.records.lanemap import LaneMap
from shared.records.state import DeliveryState
from shared.runtime.settings import Settings

# Of so many destinations it is remembered where their mail waits.
_PLACES: Final = 65_536


class _Place(msgspec.Struct, eq=False):
    """Where mail of a pool to a site waits."""

    limit_key: str
    site: str
    #: The slot group; None: it depends on the recipient, or the pool is sticky.
    slots: int | None
    #: The group that was found last, which may be gone.
    group: Group | None = None


@dataclass(slots=True)
class Groups:
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
    _groups: dict[GroupKey, Group] = field(default_factory=dict)
    _by_key: dict[str, dict[GroupKey, Group]] = field(default_factory=dict)
    _places: dict[tuple[str | None, str, str], _Place] = field(default_factory=dict)
    _wakes: list[tuple[int, int, Group]] = field(default_factory=list)
    #: Those that are new and due: of small sites nearly all are, so no heap orders them. ``wake_ns`` is 0 until they are looked at.
    _new: list[Group] = field(default_factory=list)
    _serial: int = 0
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
        """Read the order out of the settings."""
        self.asleep = Asleep(self.entries)
        self._order = Order.of(self.settings)
        self._urgent_ns = urgent_ns(self.settings)
        self.sources = Sources(self.settings, self.pairs, self.parts, self.rng)

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
            limit_key = f"{SMARTHOST}{smarthost}"
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

    # -- in and out

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
            # What goes through a smart host waits together, whoever it is for.
            provider = None if key[0].startswith(SMARTHOST) else entry.provider
            group = Group(*key, provider, DueQueue(self._order, self.rng))
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

    # -- when it is looked at

    def wake(self, limit_key: str) -> None:
        """Look at the groups of a key again: credit was freed, or its pause changed."""
        for group in self.of_key(limit_key):
            if group.reason != "due" and group.wake_ns > 0:
                self._schedule(group, 0)

    def _look_again(self, groups: Iterable[Group]) -> None:
        for group in groups:
            if group.reason != "due":
                self._schedule(group, 0)

    def _schedule(self, group: Group, at_ns: int, *, force: bool = False) -> None:
        if force or at_ns < group.wake_ns:
            group.wake_ns = at_ns
            self._serial += 1
            heapq.heappush(self._wakes, (at_ns, self._serial, group))

    # -- what is asked

    def waiting(self, limit_key: str, class_: str, tenant: str) -> int:
        """Count what a tenant has waiting in a class under a key's limits."""
        groups = (*self.of_key(limit_key), *self.outdated.of_key(limit_key))
        standing = sum(group.queue.waiting(class_, tenant) for group in groups)
        return standing + self.asleep.waiting(limit_key, class_, tenant)

    def groups(self) -> list[Group]:
        """Give all groups."""
        return list(self._groups.values())

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
