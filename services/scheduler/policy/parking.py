"""What does not fit into memory waits in the log alone, and holds up nobody else. Pure.

    a destination's backlog passes its share  ->  parked: its records are passed over from here on (one offset in mail.state)
    it has room again  ->  a scan of the log takes them from that offset on, in their order, until the share is full again
    a scan has come to where the input is read  ->  nothing of it is left behind: not parked any more

What is parked is a **unit**: one tenant's mail of a class and pool for one destination (the provider, else the site, else the domain, as
the record names it). That is a function of the record alone, so whatever the configuration or the lane map becomes, a record that was
passed over is found again and one that was taken is not: below a unit's offset everything is taken, from there on nothing. A delivery
that has been attempted is never parked, for its late outcomes come on the same log behind it; neither is the copy of a straggler.

How much a unit may have waiting depends on how full the class's memory is (``share``): while half of it is free everybody has what he
brings; the fuller it is, the smaller the share. A million deliveries to a provider that is down fill half; another tenant, or another
destination, finds room for its own. Mail that is parked expires when it is scanned: late, and never early.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from shared.records.state import ParkedState

_UNBOUNDED: Final = 1 << 62


class Record(Protocol):
    """What names a record's unit."""

    @property
    def tenant(self) -> str:
        """Whose it is."""

    @property
    def pool(self) -> str:
        """Which sources may send it."""

    @property
    def provider(self) -> str | None:
        """Who runs the MX."""

    @property
    def site(self) -> str | None:
        """The set of MX hosts."""

    @property
    def domain(self) -> str:
        """The recipient's domain."""


class Unit(NamedTuple):
    """What is parked as one."""

    class_: str
    pool: str
    destination: str
    tenant: str


def unit_of(class_: str, record: Record) -> Unit:
    """Name the unit of a record; nothing but the record says so."""
    return Unit(class_, record.pool, record.provider or record.site or record.domain, record.tenant)


def share(held: int, bound: int) -> int:
    """Say how many a unit may have waiting where a class holds ``held`` deliveries of at most ``bound``."""
    if 2 * held < bound:
        return _UNBOUNDED
    if 8 * held < 5 * bound:
        return max(1, bound // 8)
    if 8 * held < 7 * bound:
        return max(1, bound // 64)
    return 1


def room(held: int, bound: int) -> int:
    """Say up to how many waiting a scan may fill a unit: it leaves what is free to those who come."""
    return min(share(held, bound), max(1, bound // 8))


@dataclass(slots=True)
class Parking:
    """The units of one partition that are parked."""

    _units: dict[Unit, ParkedState] = field(default_factory=dict)
    _dirty: set[Unit] = field(default_factory=set)
    #: class -> the units that the scan under way takes nothing more of.
    _scans: dict[str, set[Unit]] = field(default_factory=dict)
    #: class -> from where on units were parked that are not any more, until that is written: a crash would find them parked there.
    _ended: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the units."""
        return len(self._units)

    # -- changelog

    def restore(self, record: ParkedState) -> None:
        """Take one record of mail.state."""
        self._units[Unit(record.class_, record.pool, record.destination, record.tenant)] = record

    def take(self) -> dict[Unit, ParkedState | None]:
        """Give what changed since the last call; None: not parked any more."""
        changed = {unit: self._units.get(unit) for unit in self._dirty}
        self._dirty, self._ended = set(), {}
        return changed

    # -- the input

    def parked(self, unit: Unit) -> bool:
        """Say whether a unit's new records are passed over."""
        return unit in self._units

    def pass_over(self, unit: Unit, offset: int) -> None:
        """Leave the record at ``offset`` in the log."""
        known = self._units.get(unit)
        count = 1 if known is None else known.count + 1
        self._set(unit, offset if known is None else known.offset, count)

    # -- the scan

    def scanning(self, class_: str) -> bool:
        """Say whether a scan of the class's log is under way."""
        return class_ in self._scans

    def begin(self, class_: str, ready: set[Unit]) -> int:
        """Start a scan for the ``ready`` units, at least one, and say at which offset."""
        first = min(self._units[unit].offset for unit in ready)
        self._scans[class_] = {
            unit for unit in self.units(class_) if self._units[unit].offset < first
        }
        return first

    def take_back(self, unit: Unit, offset: int, *, fits: bool) -> bool:
        """Say whether the scan takes the record at ``offset``; where it does not fit, this scan takes no more of its unit."""
        stopped, known = self._scans[unit.class_], self._units.get(unit)
        if known is None or offset < known.offset or unit in stopped:
            return False
        if not fits:
            stopped.add(unit)
            self._set(unit, offset, known.count)
            return False
        self._set(unit, offset + 1, max(0, known.count - 1))
        return True

    def hopeless(self, class_: str) -> bool:
        """Say whether the scan under way can take nothing more."""
        return self._scans[class_].issuperset(self.units(class_))

    def end(self, class_: str, *, reached: bool) -> None:
        """End the scan; ``reached``: it has seen all that the input has, so nothing is left behind of what it took all it came by."""
        stopped = self._scans.pop(class_)
        for unit in [unit for unit in self.units(class_) if reached and unit not in stopped]:
            offset = self._units.pop(unit).offset
            self._ended[class_] = min(offset, self._ended.get(class_, offset))
            self._dirty.add(unit)

    # -- the log

    def units(self, class_: str) -> Iterator[Unit]:
        """Give the parked units of a class."""
        return (unit for unit in self._units if unit.class_ == class_)

    def counts(self) -> Iterator[tuple[Unit, int]]:
        """Give each unit with how many of its records were passed over and not taken since."""
        return ((unit, state.count) for unit, state in self._units.items())

    def oldest_offset(self, class_: str) -> int | None:
        """Give the lowest offset that a scan would begin at, here or after a crash."""
        offsets = [self._units[unit].offset for unit in self.units(class_)]
        ended = self._ended.get(class_)
        return min(offsets if ended is None else (*offsets, ended), default=None)

    def lost(self, class_: str, first: int) -> int:
        """Note that nothing is left before ``first``; gives how many units have lost records, nobody knows which."""
        lost = [unit for unit in self.units(class_) if self._units[unit].offset < first]
        for unit in lost:
            self._set(unit, first, self._units[unit].count)
        return len(lost)

    def _set(self, unit: Unit, offset: int, count: int) -> None:
        self._units[unit] = ParkedState(
            class_=unit.class_,
            pool=unit.pool,
            destination=unit.destination,
            tenant=unit.tenant,
            offset=offset,
            count=count,
        )
        self._dirty.add(unit)
