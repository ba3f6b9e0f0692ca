"""Who finds room in the memory of one partition: how many wait is looked at here, what follows from it in ``parking``. Pure."""

from services.scheduler.policy.deliveries import Deliveries
from services.scheduler.policy.orders import Orders
from services.scheduler.policy.parking import Parking, Unit, room, share, unit_of
from services.scheduler.policy.queues import Queues
from services.scheduler.policy.unresolved import Unresolved
from shared.records.delivery import Delivery
from shared.records.topics import CLASSES
from shared.runtime.settings import Settings


class Intake:
    """Take records in, pass them over, take them back."""

    def __init__(
        self,
        settings: Settings,
        deliveries: Deliveries,
        queues: Queues,
        unresolved: Unresolved,
        orders: Orders,
    ) -> None:
        """Look at the ledger's own rooms."""
        self._settings, self._orders = settings, orders
        self._deliveries, self._queues, self._unresolved = deliveries, queues, unresolved
        self.parking = Parking()

    @property
    def bound(self) -> int:
        """The most deliveries of a class: each has its own share of the memory."""
        return self._settings.scheduler.max_waiting // len(CLASSES)

    def full(self, class_: str) -> bool:
        """Say whether a class fills its share."""
        return self._deliveries.count(class_) >= self.bound

    def easy(self, class_: str) -> bool:
        """Say whether a class that was full has room again."""
        return self._deliveries.count(class_) * 10 < self.bound * 9

    # -- the input

    def passes_over(self, class_: str, offset: int, record: Delivery) -> bool:
        """Say whether a record of the input stays in the log alone; it must be asked before the record is judged in any way."""
        held = self._deliveries.count(class_)
        if 2 * held < self.bound and not len(self.parking):
            return False
        if not _can_wait(record) or record.id in self._deliveries.entries:
            return False
        unit = unit_of(class_, record)
        if not self.parking.parked(unit) and self._waiting(unit) < share(held, self.bound):
            return False
        self.parking.pass_over(unit, offset)
        return True

    # -- the scan

    def scan_from(self, class_: str) -> int | None:
        """Begin a scan if units have room for a good part of their share, and say at which offset; None: there is none to begin."""
        if self.parking.scanning(class_):
            return None
        # Half of the room at least: each scan reads through what others have there.
        most = room(self._deliveries.count(class_), self.bound) // 2
        ready = {unit for unit in self.parking.units(class_) if self._waiting(unit) <= most}
        return self.parking.begin(class_, ready) if ready and not self.full(class_) else None

    def takes_back(self, class_: str, offset: int, record: Delivery) -> bool:
        """Say whether the scan takes this record."""
        if not _can_wait(record):
            return False
        if not self.parking.scanning(class_):
            return False  # It has ended, and this was under way.
        unit, held = unit_of(class_, record), self._deliveries.count(class_)
        fits = held < self.bound and self._waiting(unit) < room(held, self.bound)
        return self.parking.take_back(unit, offset, fits=fits)

    def _waiting(self, unit: Unit) -> int:
        smarthost = self._settings.smarthost(unit.pool)
        key = unit.destination if smarthost is None else f"smarthost:{smarthost}"
        waiting = self._queues.waiting(key, unit.class_, unit.tenant)
        # What a pause keeps takes room as what waits does.
        return waiting + self._unresolved.waiting(unit.destination) + self._orders.keeping(unit)


def _can_wait(record: Delivery) -> bool:
    """Say whether nothing can come behind the record that must find it in memory: a late outcome, or what a straggler's copy is for."""
    return not record.again and record.n == 0 and not record.held
