"""What waits and why, for the gauges: counted beside the rounds, a portion at a time, so that no round and no heartbeat waits for it.

What sleeps, nearly all of a million, is counted as it comes and goes (``policy.asleep``). Everything else is looked at, since what holds it
back changes for thousands at once. While there are few, whoever asks gets the present count. Where there are many, they are gone through in
slices of some milliseconds, and at most a tenth of the time; who asks gets the last count that was finished, and none before the first.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from services.scheduler.policy.ledger import Ledger
from shared.records.state import DeliveryState
from shared.runtime.clock import Clock

#: More than this are not counted while somebody waits.
FEW: Final = 2_000
_SLICE: Final = 500
_EVERY_S: Final = 2.0
#: The pause after a slice, in parts of what it took.
_REST: Final = 9
_S: Final = 1_000_000_000
#: What more senders would help: their turn has come, what is out is not answered for, or no sender has a source of the pool. Mail that a
#: limit, a pause or a warm-up holds back waits for addresses or for time, and more senders would only idle.
GRANTABLE: Final = frozenset({"due", "credit", "no_source"})


class Counted(Protocol):
    """A worker."""

    @property
    def ledger(self) -> Ledger:
        """What it decides about."""


@dataclass(slots=True)
class Tally:
    """What was counted."""

    #: (class, provider or None, reason) -> how many, and when the oldest was accepted, ns.
    counts: Counter[tuple[str, str | None, str]] = field(default_factory=Counter)
    oldest: dict[tuple[str, str | None, str], int] = field(default_factory=dict)
    #: (provider or None, slot) -> grants that are not settled.
    out: Counter[tuple[str | None, int]] = field(default_factory=Counter)
    #: Deliveries that had an unknown outcome.
    unknown: int = 0
    #: Pool -> deliveries that only lack a sender with room.
    grantable: Counter[str] = field(default_factory=Counter)

    def add(self, entry: DeliveryState, reason: str) -> None:
        """Count one."""
        self._add((entry.class_, entry.provider, reason), 1, entry.accepted_ns)
        self.unknown += entry.unknowns > 0
        self.grantable[entry.pool] += reason in GRANTABLE
        if entry.open is not None:
            self.out[entry.provider, entry.open.slot] += 1

    def add_asleep(self, ledger: Ledger) -> None:
        """Count what sleeps, without a look at any of it."""
        for kind, count, oldest_ns in ledger.asleep():
            self._add((kind.class_, kind.provider, kind.reason), count, oldest_ns)
            self.unknown += count if kind.unknown else 0

    def _add(self, which: tuple[str, str | None, str], count: int, oldest_ns: int) -> None:
        self.counts[which] += count
        self.oldest[which] = min(self.oldest.get(which, oldest_ns), oldest_ns)


@dataclass(slots=True)
class Census:
    """Count for all workers of a process."""

    workers: Mapping[int, Counted]
    clock: Clock
    _last: Tally | None = None

    def tally(self) -> Tally | None:
        """Give what waits now, or did a short while ago; None: nobody has counted them yet."""
        if not self._few():
            return self._last
        tally = Tally()
        for worker in self.workers.values():
            _count(worker.ledger, worker.ledger.entries.ids(), tally)
            tally.add_asleep(worker.ledger)
        return tally

    async def run(self) -> None:
        """Count again and again, while there are many; until cancelled."""
        while True:
            if self._few():
                self._last = None
            else:
                await self._pass()
            await self.clock.sleep(_EVERY_S)

    async def _pass(self) -> None:
        tally = Tally()
        for ledger in [worker.ledger for worker in self.workers.values()]:
            ids = ledger.entries.ids()
            for at in range(0, len(ids), _SLICE):
                began_ns = self.clock.mono_ns()
                _count(ledger, ids[at : at + _SLICE], tally)
                await self.clock.sleep(_REST * (self.clock.mono_ns() - began_ns) / _S)
            tally.add_asleep(ledger)
        self._last = tally

    def _few(self) -> bool:
        return sum(len(worker.ledger.entries) for worker in self.workers.values()) <= FEW


def _count(ledger: Ledger, ids: list[str], tally: Tally) -> None:
    entries = ledger.entries
    for id_ in ids:
        if entries.sleeps(id_):
            continue
        entry = entries.get(id_)
        if entry is not None:
            tally.add(entry, ledger.reason(entry))
