"""The deliveries of one partition that have no final event yet: their states, where their records lie, when their time is over. Pure.

Every change of a state is marked here (``touch``), so that ``take`` gives the changelog all of it, and nothing twice.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

from services.scheduler.policy.agenda import Agenda
from services.scheduler.policy.entries import share_names
from services.scheduler.policy.offsets import Offsets
from services.scheduler.policy.resting import Entries
from services.scheduler.policy.rollup import Rollup
from shared.records.state import DeliveryState
from shared.runtime.settings import Settings

#: Expiries that are looked at in one round.
_PORTION: Final = 2_000


def urgent_ns(settings: Settings) -> dict[str, int]:
    """Give, by class, how long before its expiry a delivery goes before others, since its time is nearly over; others never do."""
    return {name: policy.urgent_ns for name, policy in settings.classes.items()}


class Deliveries:
    """Keep what must survive of each delivery."""

    def __init__(self, settings: Settings) -> None:
        """Begin empty; the settings say how long before its expiry a delivery is urgent."""
        self.entries = Entries()
        there = self.entries.living
        self._offsets: defaultdict[str, Offsets] = defaultdict(lambda: Offsets(there))
        self._counts: Counter[str] = Counter()
        #: Those whose time is not nearly over by when it is, and the others by when it is over.
        self._calm = Agenda(self._urgent_from_ns, there)
        self._urgent = Agenda(self._expires_ns, there)
        self._now_ns = 0
        self._dirty: set[str] = set()
        self.rollup = Rollup(settings)
        #: Class -> for how long before its expiry a delivery is urgent, ns.
        self._urgent_ns = urgent_ns(settings)

    def restore(self, entry: DeliveryState) -> None:
        """Take one that is in the changelog already."""
        if entry.open is None:
            self.rollup.renew(entry)
        share_names(entry)
        self.entries.restore(entry)
        self._order(entry)

    def add(self, entry: DeliveryState) -> None:
        """Take a new one."""
        self.entries.add(entry)
        self._order(entry)
        self._dirty.add(entry.id)

    def _order(self, entry: DeliveryState) -> None:
        class_, id_ = entry.class_, entry.id
        self._counts[class_] += 1
        self._offsets[class_].add(entry.offset, id_)
        self._calm.add(entry.expires_ns - self._urgent_ns.get(class_, 0), id_)

    def drop(self, entry: DeliveryState) -> None:
        """Forget one that ended here."""
        class_ = entry.class_
        self.entries.drop(entry.id)
        self._counts[class_] -= 1
        self._offsets[class_].leave(entry.offset)
        calm_until = entry.expires_ns - self._urgent_ns.get(class_, 0)
        if calm_until > self._now_ns:
            self._calm.leave(calm_until)
        else:
            self._urgent.leave(entry.expires_ns)
        self._dirty.add(entry.id)

    def touch(self, entry: DeliveryState) -> None:
        """Mark a changed state for the changelog."""
        self.entries.keep(entry)
        self._dirty.add(entry.id)

    def lies_at(self, entry: DeliveryState, offset: int) -> None:
        """Let the record's copy at ``offset`` be the one that is needed from now on."""
        offsets = self._offsets[entry.class_]
        offsets.leave(entry.offset)
        offsets.add(offset, entry.id)
        entry.offset = offset
        self.touch(entry)

    def take(self) -> dict[str, DeliveryState | None]:
        """Give what changed since the last call; None: it ended."""
        changed: dict[str, DeliveryState | None] = {}
        for id_ in self._dirty:
            entry = changed[id_] = self.entries.get(id_)
            if entry is not None and entry.open is None:
                self.entries.rest(entry)
        self._dirty = set()
        return changed

    # -- time

    def urgent(self, now_ns: int) -> Iterator[DeliveryState]:
        """Give each whose time is nearly over, once; a portion of them where there are many."""
        self._now_ns = now_ns
        for id_ in self._calm.due(now_ns, _PORTION):
            entry = self.entries[id_]
            self._urgent.add(entry.expires_ns, id_)
            yield entry

    def over(self, now_ns: int) -> Iterator[DeliveryState]:
        """Give each whose time is over, once, of those that were ``urgent``; a portion of them where there are many."""
        for id_ in self._urgent.due(now_ns, _PORTION):
            yield self.entries[id_]

    def next_ns(self) -> int | None:
        """Say when to ask again for what is urgent or over: at the next one's time, or a little before."""
        times = (self._calm.next_ns(), self._urgent.next_ns())
        return min((at for at in times if at is not None), default=None)

    def _expires_ns(self, id_: str) -> int | None:
        entry = self.entries.get(id_)
        return None if entry is None else entry.expires_ns

    def _urgent_from_ns(self, id_: str) -> int | None:
        entry = self.entries.get(id_)
        return None if entry is None else self._urgent_from(entry)

    def _urgent_from(self, entry: DeliveryState) -> int:
        return entry.expires_ns - self._urgent_ns.get(entry.class_, 0)

    # -- the log

    def oldest_offset(self, class_: str) -> int | None:
        """Give the lowest offset in mail.deliveries.``class_`` that is still needed."""
        return self._offsets[class_].oldest()

    def oldest(self, class_: str, count: int) -> list[DeliveryState]:
        """Give those that hold the log of a class, those with the lowest offsets."""
        found: dict[str, DeliveryState] = {}
        for ids in self._offsets[class_].ids():
            held = (self.entries.get(id_) for id_ in ids)
            found |= {entry.id: entry for entry in held if entry is not None}
            if len(found) >= count:
                break
        return sorted(found.values(), key=lambda entry: entry.offset)[:count]

    def count(self, class_: str) -> int:
        """Count those of a class."""
        return self._counts[class_]
