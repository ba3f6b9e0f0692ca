"""What one scheduler partition knows, in its rooms, and what the shell, the gauges and `explain` ask of it. Pure.

Nothing is decided here: the state machine is the ledger (``ledger``).
"""

import random
from collections.abc import Iterable

from services.scheduler.policy.asleep import Kind
from services.scheduler.policy.audit import Audit
from services.scheduler.policy.deliveries import Deliveries
from services.scheduler.policy.explaining import Explained, Explaining
from services.scheduler.policy.intake import Intake
from services.scheduler.policy.lanes import Lanes
from services.scheduler.policy.lease import LeaseTimes
from services.scheduler.policy.moving import Moving
from services.scheduler.policy.opens import OpenGrants
from services.scheduler.policy.orders import Orders
from services.scheduler.policy.pairs import Pairs
from services.scheduler.policy.parts import Parts
from services.scheduler.policy.queues import Queues
from services.scheduler.policy.settling import Settling
from services.scheduler.policy.shares import DEALER, Dealer, Hand
from services.scheduler.policy.warmup import Status
from shared.protocol.control import ControlView
from shared.records.event import Configured
from shared.records.lanemap import group_of
from shared.records.state import (
    DeliveryState,
    SpillState,
)
from shared.records.tlslevel import TlsLevel, strictest
from shared.runtime.settings import Settings


class Rooms:
    """The rooms of one partition."""

    def __init__(
        self,
        partition: int,
        settings: Settings,
        view: ControlView,
        rng: random.Random,
        configured: Configured | None = None,
    ) -> None:
        """Begin empty; ``view`` is what the process has read of mail.control, and the shell feeds it.

        ``configured``: where the settings are from, to be said on mail.events.
        """
        self._audit = Audit(partition, configured)
        self.partition, self._settings, self._view, self._rng = partition, settings, view, rng
        self.log_time_ns = 0
        timing = settings.timing
        times = LeaseTimes(timing.lease_ns, timing.skew_ns, timing.attempt_max_ns)
        self._pairs = Pairs(settings, view, rng)
        self._lanes = Lanes(partition, view)
        self._hand = Hand(partition, view, self._pairs.totals)
        self._dealer = Dealer(settings, view, self._pairs.totals) if partition == DEALER else None
        parts = Parts(settings, self._pairs.totals, self._hand, rng)
        self.orders = Orders(partition, settings, view)
        self._deliveries = Deliveries(settings)
        #: Every delivery that has no final event yet, by id.
        self.entries = self._deliveries.entries
        self._queues = Queues(
            settings,
            view,
            self._pairs,
            self._lanes,
            self.orders,
            rng,
            parts,
            self._deliveries.entries,
        )
        self._opens = OpenGrants(times, view, self._pairs, self._queues)
        self._moving = Moving(settings, self._lanes, self._deliveries, self._pairs)
        self._settling = Settling(
            settings,
            rng,
            self._deliveries,
            self._opens,
            self._pairs,
            self._queues,
            self._moving,
            self.orders,
        )
        self.intake = Intake(
            settings, self._deliveries, self._queues, self._settling.unresolved, self.orders
        )
        #: (tenant, provider, pool): as many as the settings name.
        self._tls_levels: dict[tuple[str, str | None, str], TlsLevel] = {}

    @property
    def now_ns(self) -> int:
        """The round's time."""
        return self._settling.now_ns

    @property
    def pairs(self) -> Pairs:
        """What is known of the partition's pairs, to be shown."""
        return self._pairs

    # -- what the shell and the gauges ask

    def oldest_offset(self, class_: str) -> int | None:
        """Give the lowest offset in mail.deliveries.``class_`` that is still needed."""
        both = (
            self._deliveries.oldest_offset(class_),
            self.intake.parking.oldest_offset(class_),
        )
        return min((offset for offset in both if offset is not None), default=None)

    def oldest(self, class_: str, count: int) -> list[DeliveryState]:
        """Give the deliveries that hold the log of a class, those with the lowest offsets."""
        return self._deliveries.oldest(class_, count)

    def count(self, class_: str) -> int:
        """Count the deliveries of a class that have no final event yet."""
        return self._deliveries.count(class_)

    def reasons(self) -> Iterable[tuple[DeliveryState, str]]:
        """Give every delivery with the one thing that it waits for."""
        for entry in self.entries.values():
            yield entry, self.reason(entry)

    def asleep(self) -> Iterable[tuple[Kind, int, int]]:
        """Give each kind of what is not due for a while, how many there are, and about when the oldest was accepted, ns."""
        return self._queues.asleep.kinds()

    def reason(self, entry: DeliveryState) -> str:
        """Name the one thing that a delivery waits for, by where it is."""
        if entry.open is not None:
            return "started" if entry.open.started_ns is not None else "granted"
        if self._moving.waits(entry):
            return "moving"
        if entry.held:
            return "held"
        if self.orders.kept(entry) is not None:
            return "directive"
        if entry.site is None and not self._settings.smarthost(entry.pool):
            return "dns"
        return self._queues.reason(entry, self.now_ns)

    def explain(self, entry: DeliveryState) -> Explained:
        """Say what binds a delivery, since when, and when it goes."""
        explaining = Explaining(self._settings, self._queues, self.orders)
        return explaining.of(entry, self.reason(entry), self.now_ns)

    def limit_key(self, entry: DeliveryState) -> str:
        """Name whose limits hold for a delivery."""
        return self._queues.limit_key(entry)

    def lane(self, entry: DeliveryState) -> str:
        """Name the lane that a delivery waits in."""
        return self._moving.lane(entry)

    def awaited(self) -> list[str]:
        """List the lanes that the map gives this partition and that have not been handed over to it."""
        return self._lanes.awaited()

    def pauses(self) -> list[tuple[str, int, int]]:
        """List (limit key, slot, until ns) of every pair that is paused."""
        return self._pairs.paused(self.now_ns)

    def spills(self) -> Iterable[tuple[str, str, SpillState]]:
        """Give (limit key or bucket of sites, pool, the day's counts) of every pool that spills over."""
        groups = self._lanes.map.groups
        for key, pool, counts in self._pairs.spilling.counts(self.now_ns):
            if any(self._lanes.decides(key, group) for group in groups):
                yield key, pool, counts

    def warmups(self) -> Iterable[tuple[str, int, Status]]:
        """Give (limit key or bucket of sites, slot, status) of every warm-up that is decided about here."""
        for key, slot, status in self._pairs.budgets.statuses(self.now_ns):
            if self._lanes.decides(key, group_of(slot)):
                yield key, slot, status

    # -- what is remembered of the settings

    def _tls(self, entry: DeliveryState) -> TlsLevel:
        """Say what the next hop must be; of a smart host, which is none of the provider's, its sender knows the rest."""
        which = entry.tenant, entry.provider, entry.pool
        found = self._tls_levels.get(which)
        if found is None:
            found = self._tls_levels[which] = self._tls_of(*which)
        return found

    def _tls_of(self, tenant: str, provider: str | None, pool: str) -> TlsLevel:
        levels: list[TlsLevel] = []
        if tenant in self._settings.tenants:
            levels.append(self._settings.tenants[tenant].tls)
        known = self._settings.providers.get(provider or "")
        if known is not None and self._settings.smarthost(pool) is None:
            levels.append(known.tls)
        return strictest(levels)
