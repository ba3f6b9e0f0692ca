"""What is remembered of the (limit key, slot) pairs of one partition: read back, written, handed over and joined, forgotten. Pure.

A pair is kept from its first grant on, and written when something is known of it. What was only looked at is kept until the round is
over (``_glances``): there are sites times slots of them. Who decides by it are the pairs (``pairs``).
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from services.scheduler.policy import backoff, growth, health, idle, pauses
from services.scheduler.policy.budgets import Budgets
from services.scheduler.policy.pair import Pair, pair_of, pause_of, record_of
from services.scheduler.policy.pairlimit import PairLimit
from services.scheduler.policy.spilling import Spilling
from services.scheduler.policy.totals import Totals
from services.scheduler.policy.whose import Whose
from shared.protocol.control import NO_EPOCH, ControlView
from shared.records.backoff import NO_BACKOFF
from shared.records.health import Health
from shared.records.lanemap import LaneMap, group_of
from shared.records.state import PairState, TotalState
from shared.runtime.settings import Settings


@dataclass(slots=True)
class Memory:
    """All that a partition knows of its pairs, and of what counts over several."""

    settings: Settings
    view: ControlView
    rng: random.Random
    _pairs: dict[tuple[str, int], Pair] = field(default_factory=dict)
    #: Pairs that were looked at and have nothing to remember: until the round is over. There are sites times slots of them.
    _glances: dict[tuple[str, int], Pair] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    #: What is left of the limits of pairs that were warned.
    _slowed: dict[tuple[str, int], PairLimit] = field(default_factory=dict)
    _dirty: set[tuple[str, int]] = field(default_factory=set)
    _looking: idle.Looking = field(default_factory=idle.Looking)
    _forgotten: set[tuple[str, int]] = field(default_factory=set)
    #: Limit keys that have taken mail of some source badly.
    _ailing: set[str] = field(default_factory=set)
    budgets: Budgets = field(init=False)
    spilling: Spilling = field(init=False)

    def __post_init__(self) -> None:
        """Know whose mail counts towards which budget."""
        whose = Whose(self.settings, self.view)
        self.budgets = Budgets(self.settings, whose)
        self.spilling = Spilling(self.settings, whose)

    # -- changelog

    def restore(self, record: PairState) -> None:
        """Take a pair's state."""
        pair = self._pairs[record.key, record.slot] = pair_of(record)
        self._note(pair)
        self.budgets.restore(record.key, record.slot, record.warmup)

    def restore_total(self, record: TotalState) -> None:
        """Take what counts over several slots."""
        self.totals.restore(record)
        self.spilling.restore(record.key, record.spills)

    def take(self) -> tuple[list[PairState], list[TotalState]]:
        """Give what changed since the last call."""
        # A bucket of sites has a budget and nothing else of a pair.
        dirty = self._dirty | self.budgets.take()
        pairs = [self._record(self._pair(key, slot, NO_EPOCH)) for key, slot in dirty]
        totals = [self._total(name) for name in self.totals.take() | self.spilling.take()]
        self._dirty, self._glances = set(), {}
        return pairs, totals

    def tidy(self, now_ns: int) -> None:
        """Forget what is as if it had never been used, of a portion of all pairs."""
        for which in self._looking.portion(self._pairs.keys(), now_ns):
            pair = self._pairs.get(which)
            if pair is not None and which not in self._dirty and self._rests(pair, now_ns):
                del self._pairs[which]
                self._slowed.pop(which, None)
                self._forgotten.add(which)

    def take_forgotten(self) -> set[tuple[str, int]]:
        """Name the pairs that nothing is known of any more, since the last call."""
        gone = {which for which in self._forgotten if which not in self._pairs}
        self._forgotten = set()
        return gone

    # -- lanes that change hands

    def of_lane(
        self, lane: str, lane_map: LaneMap, now_ns: int
    ) -> tuple[tuple[PairState, ...], tuple[TotalState, ...]]:
        """Give the state of every pair and total of a lane, for its next decider; what rests needs no mention."""
        pairs = (
            self._record(pair)
            for pair in self._pairs.values()
            if not self._rests(pair, now_ns)
            and lane_map.lane_of(pair.key, group_of(pair.slot)) == lane
        )
        keys = (key for key in self.spilling.keys() if lane_map.in_lane(key, lane))  # noqa: SIM118 - a method of ours
        names = {*self.totals.of_lane(lane, lane_map), *keys}
        return tuple(pairs), tuple(map(self._total, names))

    def merge(self, pairs: Iterable[PairState], totals: Iterable[TotalState]) -> None:
        """Take what the decider before has spent, and the pauses that it knew; what was spent here before counts as well."""
        for record in pairs:
            pair = self._pair(record.key, record.slot, record.epoch)
            pair.limiter = max(pair.limiter, record.limiter)
            pair.volume = max(pair.volume, record.volume)
            pair.pause = pauses.stricter(pair.pause, pause_of(record))
            pair.heard = max(pair.heard, record.heard)
            if record.backoff is not None:
                pair.backoff = backoff.stricter(pair.backoff or NO_BACKOFF, record.backoff)
            pair.health = health.joined(
                pair.health, record.health, self.settings.backoff.half_life_ns
            )
            pair.good = growth.merged(pair.good, record.good)
            self._note(pair)
            self.budgets.merge(record.key, record.slot, record.warmup)
            self._changed(pair)
        for total in totals:
            self.totals.merge(total)
            self.spilling.merge(total.key, total.spills)

    # -- what is kept

    def known(self, key: str, slot: int) -> Pair | None:
        """Give what is known of a pair; None: it was never used."""
        return self._pairs.get((key, slot))

    def _pair(self, key: str, slot: int, epoch: int) -> Pair:
        """Give the pair to be changed; it is kept from here on."""
        pair = self._pairs.get((key, slot))
        if pair is None:
            pair = self._glances.pop((key, slot), None) or Pair(key, slot)
            # Not written yet: before it has a limiter or an answer, nothing is known of it.
            self._pairs[key, slot] = pair
        if epoch > pair.epoch:
            if pair.epoch != NO_EPOCH:
                self._dirty.add((key, slot))
            pair.epoch, pair.open = epoch, 0
        return pair

    def _changed(self, pair: Pair) -> None:
        """Keep what a pair has learnt; its limit may be another now."""
        self._dirty.add((pair.key, pair.slot))
        self._slowed.pop((pair.key, pair.slot), None)

    def _note(self, pair: Pair) -> None:
        if pair.health is not None and health.weight(pair.health) < 1:
            self._ailing.add(pair.key)

    def _rests(self, pair: Pair, now_ns: int) -> bool:
        return idle.rests(pair, now_ns) and self.budgets.state(pair.key, pair.slot) is None

    def _record(self, pair: Pair) -> PairState:
        return record_of(pair, self.budgets.state(pair.key, pair.slot))

    def _total(self, key: str) -> TotalState:
        spills = self.spilling.state(key)
        return msgspec.structs.replace(self.totals.state(key), spills=spills)

    # -- what is shown

    def ails(self, key: str) -> bool:
        """Say whether a source's ``weight`` may be less than 1 for a limit key."""
        return key in self._ailing

    def healths(self, now_ns: int) -> Iterator[tuple[str, int, Health]]:
        """Give (limit key, slot, health as it is now) of every pair that had answers."""
        half_life = self.settings.backoff.half_life_ns
        for pair in self._pairs.values():
            if pair.health is not None:
                yield pair.key, pair.slot, health.faded(pair.health, now_ns, half_life)

    def paused(self, now_ns: int) -> list[tuple[str, int, int]]:
        """List (limit key, slot, until ns) of the paused pairs."""
        found = []
        for pair in self._pairs.values():
            until = pauses.until_ns(pair.pause)
            if until is not None and until > now_ns:
                found.append((pair.key, pair.slot, until))
        return found

    def suspended(self, now_ns: int) -> list[tuple[str, int, int]]:
        """List (limit key, slot, until ns) of the pairs that a warning has stopped; one that is over and not probed yet is in it too."""
        return [
            (pair.key, pair.slot, backoff.until_ns(pair.backoff, now_ns) or now_ns)
            for pair in self._pairs.values()
            if pair.backoff is not None and backoff.stopped(pair.backoff, now_ns)
        ]

    def warned(self) -> list[Pair]:
        """List the pairs that are paused, or have learnt from warnings."""
        return [
            pair
            for pair in self._pairs.values()
            if pair.backoff is not None or type(pair.pause) is pauses.Paused
        ]
