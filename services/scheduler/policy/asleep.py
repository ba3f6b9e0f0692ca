"""What is not due for a while: of a million deliveries that wait, nearly all. Pure.

A place in a queue is worth its memory (some two hundred bytes, and a queue of its own for each site) only to what may go soon. So what is
due later **sleeps**: its id in an agenda and a mark beside its state, ten bytes, until a minute before it is due; then it gets its place.
The queue knows the exact time, and so nothing is early, late, or in another order than if it had stood there all the while. A portion
of each class wakes in a round: a million that are due in the same second do not hold up one.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from services.scheduler.policy.agenda import Agenda
from services.scheduler.policy.ages import Ages
from services.scheduler.policy.resting import Entries
from shared.records.state import DeliveryState
from shared.records.topics import CLASSES

#: Before it is due, a delivery is woken so early: more than a bucket of the agenda, and time for the portions of a million.
LEAD_NS: Final = 60_000_000_000
#: Of each class looked at in one round.
_PORTION: Final = 4_000

#: (limit key, class, tenant).
_Whose = tuple[str, str, str]


class Kind(NamedTuple):
    """What those who want to know tell apart of what sleeps."""

    class_: str
    provider: str | None
    #: As ``Ledger.reason`` names it.
    reason: str
    #: An attempt of it ended without anybody knowing how.
    unknown: bool


def _kind(entry: DeliveryState) -> Kind:
    reason = "retry" if entry.n else "not_before"
    return Kind(entry.class_, entry.provider, reason, entry.unknowns > 0)


class Asleep:
    """The deliveries of one partition that sleep."""

    def __init__(self, entries: Entries) -> None:
        """Begin empty; ``entries`` has each that is put in, and knows which sleep."""
        self._entries = entries
        self._sleeping = 0
        #: By class: what a million of one class wait for, another does not.
        self._agendas = {class_: Agenda(self._due_ns, entries.sleeping) for class_ in CLASSES}
        self._counts: dict[_Whose, int] = {}
        self._kinds: Ages[Kind] = Ages()

    def __len__(self) -> int:
        """Count them."""
        return self._sleeping

    def takes(self, entry: DeliveryState, limit_key: str, now_ns: int) -> bool:
        """Let a delivery sleep that waits under the limits of ``limit_key``, unless it is due too soon; it does not sleep yet."""
        agenda = self._agendas.get(entry.class_)
        if agenda is None or entry.due_ns - now_ns <= LEAD_NS:
            return False
        if not self._entries.sleeps(entry.id):
            self._entries.sleep(entry.id)
            self._sleeping += 1
            self._kinds.add(_kind(entry), entry.accepted_ns)
        agenda.add(entry.due_ns, entry.id)
        whose = limit_key, entry.class_, entry.tenant
        self._counts[whose] = self._counts.get(whose, 0) + 1
        return True

    def remove(self, entry: DeliveryState, limit_key: str) -> bool:
        """Forget a delivery; False: it does not sleep."""
        if not self._sleeping or not self._entries.sleeps(entry.id):
            return False
        self._entries.wake(entry.id)
        self._sleeping -= 1
        self._kinds.remove(_kind(entry), entry.accepted_ns)
        self._agendas[entry.class_].leave(entry.due_ns)
        whose = limit_key, entry.class_, entry.tenant
        left = self._counts.pop(whose, 0) - 1
        if left > 0:
            self._counts[whose] = left
        return True

    def waking(self, now_ns: int) -> Iterator[DeliveryState]:
        """Give those that are due soon, or are already; each must be removed before the next is taken."""
        for agenda in self._agendas.values():
            for id_ in agenda.due(now_ns + LEAD_NS, _PORTION):
                yield self._entries[id_]

    def next_ns(self) -> int | None:
        """Say when to look again; None: nothing sleeps."""
        times = [agenda.next_ns() for agenda in self._agendas.values()]
        found = min((at for at in times if at is not None), default=None)
        return None if found is None else max(0, found - LEAD_NS)

    def waiting(self, limit_key: str, class_: str, tenant: str) -> int:
        """Count what a tenant has of a class under a key's limits."""
        return self._counts.get((limit_key, class_, tenant), 0)

    def kinds(self) -> Iterable[tuple[Kind, int, int]]:
        """Give each kind with its number and about when the oldest of it was accepted, ns, without looking at any."""
        return self._kinds

    def _due_ns(self, id_: str) -> int | None:
        return self._entries[id_].due_ns if self._entries.sleeps(id_) else None
