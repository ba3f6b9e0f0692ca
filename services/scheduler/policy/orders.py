"""What operators have ordered, as far as this partition has done it. Pure.

An order is an input, like a record: what it was read as (its offset, its stamp) decides, and never when it was read.

    cancel, expire, reroute, rush    done once, to mail accepted before the order's stamp
    pause, slow, limit               in force for all mail until they expire or are resumed

**Once.** What waits when an order comes is swept, a portion a round, so that a cancel of a million stalls nobody. Mail that is not there
to be swept is met where it comes in: ``applicable`` is asked whenever a delivery is put where it waits, so what was parked, on its way, not
resolved, or out with a sender is met when it is back. What has begun is not called back: an order meets it when its attempt has ended,
and only if it is to be tried again. A delivery that an order was done to remembers its offset (``ordered``) and meets no older one again,
so a sweep that a crash cut off is begun anew and does nothing twice. An order is looked at until it expires.

**While it stands.** A pause of a provider or a source holds back groups, one of a tenant, a stream or a class whole lines (``at``): neither
costs anything for each delivery. One that names anything else (tag, domain, age, delivery) is looked at when a delivery's turn has come: it
is taken out and kept here, uncounted by any limit, until the pause ends; then all go back, spread evenly over up to a minute. So is what
goes to a provider through a smart host, by a pause of that provider: it waits together with all else that the smart host sends.

Each partition says on mail.events when it has done an order, and when that has ended, with how many deliveries it was about here. What is
remembered of an order is in mail.state (``OrderState``) as long as the order is in force.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from services.scheduler.policy.announce import directive_event
from services.scheduler.policy.lines import FOREVER, Check, Line, Shut
from services.scheduler.policy.parking import Unit, unit_of
from services.scheduler.policy.selector import Fits, fits, only_from
from shared.protocol.control import ControlView, Ordered
from shared.records.action import ONE_SHOT, Action
from shared.records.control import Directive
from shared.records.event import Event
from shared.records.state import DeliveryState, OrderState
from shared.runtime.settings import Settings

#: Deliveries looked at in a round, and done something to: each of these is an event and a record of mail.state.
LOOKED: Final = 5_000
DONE: Final = 1_000
#: What the groups of the queues can hold back by themselves, and what whole lines can be shut for.
_GROUPS: Final = frozenset({"provider"})
_LINES: Final = frozenset({"tenant", "stream", "class_", "provider"})
#: What a pause has kept goes back within this time, and so many at least each time.
_SPREAD_NS: Final = 60_000_000_000
_LEAST: Final = 100
_STEP_NS: Final = 50_000_000


@dataclass(frozen=True, slots=True)
class Order:
    """A directive in force, ready to be asked."""

    offset: int
    stamp_ns: int
    directive: Directive
    fits: Fits

    @property
    def action(self) -> Action:
        """Say what is ordered."""
        return self.directive.action

    @property
    def once(self) -> bool:
        """Say whether it is done once; else it stands."""
        return self.action in ONE_SHOT

    @property
    def why(self) -> str:
        """Say it to whoever asks why his mail was ended."""
        return f"ordered by {self.directive.author}: {self.directive.reason}"


@dataclass(slots=True)
class Orders:
    """The orders of one partition."""

    partition: int
    settings: Settings
    view: ControlView
    now_ns: int = 0
    #: Grows whenever what stands has changed.
    changes: int = 0
    #: By offset: what is in force, and what is remembered of it.
    _orders: dict[int, Order] = field(default_factory=dict)
    _states: dict[int, OrderState] = field(default_factory=dict)
    _dirty: set[int] = field(default_factory=set)
    _events: list[Event] = field(default_factory=list)
    #: What is looked at whenever a delivery is put where it waits: by delivery id, and the others.
    _once_of: dict[str, list[Order]] = field(default_factory=dict)
    _once: list[Order] = field(default_factory=list)
    _latest_ns: int = 0
    #: Pauses that shut lines, and those that keep single deliveries.
    _shutting: list[Directive] = field(default_factory=list)
    _holding: list[Order] = field(default_factory=list)
    #: Pauses of a provider, which keep single deliveries where a smart host sends them.
    _relayed: list[Order] = field(default_factory=list)
    _sweeps: deque[Order] = field(default_factory=deque)
    _ids: list[str] | None = None
    #: Delivery id -> the pause that keeps it, and how many of each unit are kept.
    _kept: dict[str, tuple[int, Unit]] = field(default_factory=dict)
    _kept_of: Counter[Unit] = field(default_factory=Counter)
    #: What goes back, since when, and how many there were then and have gone.
    _freed: deque[str] = field(default_factory=deque)
    _freed_ns: int = 0
    _freed_of: int = 0
    _freed_gone: int = 0
    _seen: int = -1
    _next_ns: int = 0

    # -- changelog

    def restore(self, record: OrderState) -> None:
        """Take one record of mail.state."""
        self._states[record.offset] = record

    def take(self) -> tuple[dict[int, OrderState | None], list[Event]]:
        """Give what changed since the last call (None: the order has ended), and what was said."""
        changed = {offset: self._states.get(offset) for offset in self._dirty}
        events = self._events
        self._dirty, self._events = set(), []
        return changed, events

    # -- what is in force

    def refresh(self, now_ns: int) -> None:
        """Look at what was read of mail.control, where that or the time has changed anything."""
        self.now_ns = now_ns
        if self.view.directive_changes == self._seen and now_ns < self._next_ns:
            return
        self._seen = self.view.directive_changes
        in_force = {each.offset: each for each in self.view.in_force(now_ns)}
        self._next_ns = min(
            (each.order.expires_ns or FOREVER for each in in_force.values()), default=FOREVER
        )
        gone = (self._orders.keys() | self._states.keys()) - in_force.keys()
        for offset in sorted(gone):
            self._end(offset)
        come = [each for offset, each in in_force.items() if offset not in self._orders]
        for each in come:
            self._begin(each)
        if gone or come:
            self.changes += 1
            self._index()

    def _begin(self, ordered: Ordered) -> None:
        directive = ordered.order
        once = directive.action in ONE_SHOT
        before = ordered.stamp_ns if once else FOREVER
        order = Order(
            ordered.offset,
            ordered.stamp_ns,
            directive,
            fits(directive.selector, self.settings, before),
        )
        self._orders[order.offset] = order
        state = self._states.get(order.offset)
        if state is None:
            self._set(
                OrderState(
                    offset=order.offset,
                    id=directive.id,
                    action=directive.action,
                    selector=str(directive.selector),
                    author=directive.author,
                    reason=directive.reason,
                )
            )
        elif not state.done and not once:
            self._set(msgspec.structs.replace(state, hits=0))  # It is counted anew.
        if state is None or not state.done:
            self._sweeps.append(order)

    def _end(self, offset: int) -> None:
        """Say that an order is over, and let go what it kept."""
        order, state = self._orders.pop(offset, None), self._states.pop(offset, None)
        if self._sweeps and order is self._sweeps[0]:
            self._ids = None
        self._sweeps = deque(each for each in self._sweeps if each is not order)
        self._freed.extend(id_ for id_, (by, _) in self._kept.items() if by == offset)
        self._freed_ns, self._freed_of, self._freed_gone = self.now_ns, len(self._freed), 0
        if state is not None:
            self._dirty.add(offset)
            newer = self.view.directives.get(state.id)
            self._say(state, "ended", newer.order if newer and newer.offset != offset else None)

    def _index(self) -> None:
        once = sorted(
            (order for order in self._orders.values() if order.once), key=lambda each: each.offset
        )
        self._once = [order for order in once if order.directive.delivery is None]
        self._once_of = {}
        for order in once:
            if order.directive.delivery is not None:
                self._once_of.setdefault(order.directive.delivery, []).append(order)
        self._latest_ns = max((order.stamp_ns for order in once), default=0)
        self._holding = [
            order
            for order in self._orders.values()
            if order.action == "pause" and _kind(order.directive) == "each"
        ]
        self._relayed = [
            order
            for order in self._orders.values()
            if order.action == "pause"
            and order.directive.provider is not None
            and _kind(order.directive) != "each"
        ]
        self._shutting = [
            order.directive
            for order in self._orders.values()
            if order.action == "pause" and _kind(order.directive) == "lines"
        ]

    def next_ns(self) -> int:
        """Say when there is something to do although nothing arrives."""
        if self._sweeps:
            return self.now_ns
        return min(self._next_ns, self.now_ns + _STEP_NS) if self._freed else self._next_ns

    # -- what is done once

    def applicable(self, entry: DeliveryState) -> list[Order]:
        """Give what must be done to a delivery before it is put where it waits, in order."""
        if entry.accepted_ns >= self._latest_ns:
            return []
        by_id = self._once_of.get(entry.id, ())
        found = [
            order
            for order in (*self._once, *by_id)
            if order.offset > entry.ordered and order.fits(entry)
        ]
        return sorted(found, key=lambda order: order.offset) if by_id else found

    def hit(self, order: Order) -> None:
        """Count a delivery that ``order`` was done to, or is in force for."""
        state = self._states[order.offset]
        self._set(msgspec.structs.replace(state, hits=state.hits + 1))

    def sweep(
        self, entries: Mapping[str, DeliveryState], meet: Callable[[DeliveryState, Order], None]
    ) -> None:
        """Go on with the sweep under way: ``meet`` is called for what an order is about, and says ``hit`` where that is so."""
        looked, hits = 0, 0
        while self._sweeps and looked < LOOKED and hits < DONE:
            order = self._sweeps[0]
            if self._ids is None:
                only = order.directive.delivery
                self._ids = list(entries) if only is None else [only]
                self._ids.reverse()  # What came first is taken first.
            while self._ids and looked < LOOKED and hits < DONE:
                looked += 1
                entry = entries.get(self._ids.pop())
                if entry is not None and order.fits(entry):
                    hits += 1
                    meet(entry, order)
            if not self._ids:
                self._ids = None
                self._sweeps.popleft()
                state = msgspec.structs.replace(self._states[order.offset], done=True)
                self._set(state)
                self._say(state, "done", None)

    # -- what stands

    def pauses(self) -> list[Directive]:
        """List the pauses that the groups of the queues hold back by themselves."""
        return [
            order.directive
            for order in self._orders.values()
            if order.action == "pause" and _kind(order.directive) == "groups"
        ]

    @property
    def shuts(self) -> bool:
        """Say whether a pause of lines is in force (``lines.Gate``)."""
        return bool(self._shutting)

    def at(self, limit_key: str, provider: str | None) -> Check | None:
        """Give what is asked for the lines that wait under these limits (``lines.Gate``)."""
        del limit_key
        if not self._shutting:
            return None
        shutting = [order for order in self._shutting if order.provider in (None, provider)]
        if not shutting:
            return None
        tenants = {
            order.tenant for order in shutting if order.selector.named <= {"tenant", "provider"}
        }

        def check(line: Line, _now_ns: int) -> Shut | None:
            if line.tenant in tenants:
                return Shut(None, "directive", whole=True, spread=True)
            if any(_shuts(order, line) for order in shutting):
                return Shut(None, "directive", spread=True)
            return None

        return check

    def limiting(self) -> list[Directive]:
        """List what slows or limits, in order."""
        return [
            order.directive
            for order in sorted(self._orders.values(), key=lambda order: order.offset)
            if order.action in ("slow", "limit")
        ]

    def keeps(self, entry: DeliveryState) -> bool:
        """Say whether a pause keeps a delivery whose turn has come; it is kept here then."""
        order = self.pausing(entry) if self._holding or self._relayed else None
        if order is None:
            return False
        unit = unit_of(entry.class_, entry)
        self._kept[entry.id] = order.offset, unit
        self._kept_of[unit] += 1
        return True

    def pausing(self, entry: DeliveryState) -> Order | None:
        """Give the pause that would keep a delivery when its turn has come."""
        orders = self._holding
        if self._relayed and self.settings.smarthost(entry.pool) is not None:
            orders = orders + self._relayed
        return next((order for order in orders if order.fits(entry)), None)

    def pause(self, entry: DeliveryState) -> Order | None:
        """Give the pause that holds for a delivery, whatever holds it back: of several, the one that ends last."""
        fitting = [
            order
            for order in self._orders.values()
            if order.action == "pause" and self._holds(order, entry)
        ]
        return max(fitting, key=lambda order: order.directive.expires_ns or FOREVER, default=None)

    def _holds(self, order: Order, entry: DeliveryState) -> bool:
        if order.directive.source is None:
            return order.fits(entry)
        # Of one that names a source, only what no other source may send.
        named = order.directive.provider in (None, entry.provider)
        return named and only_from(entry, order.directive.source, self.settings)

    def kept(self, entry: DeliveryState) -> Order | None:
        """Give the pause that keeps a delivery."""
        known = self._kept.get(entry.id)
        return None if known is None else self._orders.get(known[0])

    def forget(self, entry: DeliveryState) -> None:
        """Keep a delivery no longer that ended, moved, or waits elsewhere."""
        known = self._kept.pop(entry.id, None)
        if known is not None:
            self._kept_of[known[1]] -= 1
            if not self._kept_of[known[1]]:
                del self._kept_of[known[1]]

    def keeping(self, unit: Unit) -> int:
        """Count what is kept of a unit: it fills memory as what waits does."""
        return self._kept_of[unit]

    def free(self) -> Iterator[str]:
        """Give the ids of those whose time has come of what pauses that have ended kept; each must be put where it belongs."""
        if not self._freed:
            return
        due = self._freed_of * (self.now_ns - self._freed_ns) // _SPREAD_NS
        for _ in range(min(len(self._freed), max(_LEAST, due - self._freed_gone), LOOKED)):
            self._freed_gone += 1
            id_ = self._freed.popleft()
            if id_ in self._kept:
                yield id_

    def states(self) -> list[OrderState]:
        """List what was done of the orders in force."""
        return list(self._states.values())

    # -- what is said

    def _say(
        self, state: OrderState, phase: Literal["done", "ended"], newer: Directive | None
    ) -> None:
        self._events.append(directive_event(state, phase, self.partition, self.now_ns, newer))

    def _set(self, state: OrderState) -> None:
        self._states[state.offset] = state
        self._dirty.add(state.offset)


def _kind(pause: Directive) -> Literal["groups", "lines", "each"]:
    """Say what a pause is of: of all that waits for the same, of whole lines, or of single deliveries."""
    named = pause.selector.named
    if named <= _GROUPS or "source" in named:
        return "groups"
    return "lines" if named <= _LINES else "each"


def _shuts(pause: Directive, line: Line) -> bool:
    return (
        pause.tenant in (None, line.tenant)
        and pause.stream in (None, line.stream)
        and pause.class_ in (None, line.class_)
    )
