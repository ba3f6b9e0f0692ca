"""The (limit key, slot) pairs of one partition: limiter, pause, credit. Pure.

A pair has one deciding partition, so what is here is exact. Tokens are spent at a grant's t0 and never refunded. Credit counts open
grants of the slot's present epoch: those of an earlier one are void at once, since nobody will act on them. When a slot's epoch
changes, its pairs count as just used: what the older owner sent last is not known.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from services.scheduler.policy import limits, pauses
from shared.protocol.control import NO_EPOCH, ControlView
from shared.records.lanemap import LaneMap
from shared.records.outcome import Outcome
from shared.records.state import Open, PairState, TotalState
from shared.runtime.settings import Limit, Rate, Settings, Timing

_S: Final = 1_000_000_000
#: A grant may lie this far ahead: the sender then has work while a round is under way.
HORIZON_NS: Final = 2 * _S
#: Open grants of one slot, in number and in bytes.
SLOT_GRANTS: Final = 2_000
SLOT_BYTES: Final = 64 << 20
# More than this share of a pair's attempts unknown within the time: something eats our mail, stop it.
_UNKNOWN_SHARE: Final = 0.05
_UNKNOWN_WINDOW_NS: Final = 600 * _S
_UNKNOWN_LEAST: Final = 100
# A total over slots with a shorter period than this is divided between the addresses instead (see limits).
_SHARED_BELOW_NS: Final = 60 * _S
# A pair that was last used so long ago has nothing left to count: the longest period of a rate is a day.
_RESTED_NS: Final = 2 * 86_400 * _S
_PAUSE: Final[msgspec.json.Decoder[pauses.Pause]] = msgspec.json.Decoder(pauses.Pause)


@dataclass(frozen=True, slots=True)
class PairLimit:
    """What holds for one pair, resolved over the layers."""

    rate: Rate | None
    total_rate: Rate | None
    connections: int
    messages_per_connection: int
    #: For the wire: the least time between two starts, and how many may come at once.
    spacing_ns: int
    burst: int
    credit: int
    #: The same for connections.
    connect_spacing_ns: int
    connect_burst: int


@dataclass(slots=True)
class Pair:
    """One pair's state."""

    key: str
    slot: int
    limiter: int = 0
    pause: pauses.Pause = pauses.CLEAR
    epoch: int = NO_EPOCH
    #: Open grants of ``epoch``.
    open: int = 0
    attempts: int = 0
    unknowns: int = 0
    window_ns: int = 0


@dataclass(slots=True)
class SlotLoad:
    """Open grants of one slot in its present epoch, over all keys."""

    epoch: int = NO_EPOCH
    grants: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """The pair may take a grant that starts at ``t0_ns``."""

    t0_ns: int


@dataclass(frozen=True, slots=True)
class Full:
    """Not before ``until_ns``; None: until an outcome comes. ``why`` names the constraint."""

    until_ns: int | None
    why: str


@dataclass(slots=True)
class Pairs:
    """All pairs of a partition."""

    settings: Settings
    view: ControlView
    rng: random.Random
    _pairs: dict[tuple[str, int], Pair] = field(default_factory=dict)
    #: Pairs that were looked at and have nothing to remember: until the round is over. There are sites times slots of them.
    _glances: dict[tuple[str, int], Pair] = field(default_factory=dict)
    _totals: dict[str, int] = field(default_factory=dict)
    _loads: dict[int, SlotLoad] = field(default_factory=dict)
    _limits: dict[tuple[str, int], PairLimit] = field(default_factory=dict)
    _dirty: set[tuple[str, int]] = field(default_factory=set)
    _dirty_totals: set[str] = field(default_factory=set)
    #: Over which a total is divided.
    _addresses: int = field(init=False)

    def __post_init__(self) -> None:
        """Count the addresses once: there may be thousands, and a limit for each of thousands of sites."""
        self._addresses = sum(1 for source in self.settings.sources.values() if source.address)

    # -- changelog

    def restore(self, record: PairState) -> None:
        """Take a pair's state."""
        self._pairs[record.key, record.slot] = Pair(
            record.key, record.slot, record.limiter, _pause(record), record.epoch
        )

    def restore_total(self, record: TotalState) -> None:
        """Take the limiter over all slots of a key."""
        self._totals[record.key] = record.limiter

    def take(self) -> tuple[list[PairState], list[TotalState]]:
        """Give what changed since the last call."""
        pairs = [_state(self._pairs[which]) for which in self._dirty]
        totals = [TotalState(key=key, limiter=self._totals[key]) for key in self._dirty_totals]
        self._dirty, self._dirty_totals, self._glances = set(), set(), {}
        return pairs, totals

    # -- lanes that change hands

    def of_lane(
        self, lane: str, lane_map: LaneMap, now_ns: int
    ) -> tuple[tuple[PairState, ...], tuple[TotalState, ...]]:
        """Give the state of every pair and total of a lane, for its next decider; what rests needs no mention."""
        pairs = (
            _state(pair)
            for pair in self._pairs.values()
            if not _rests(pair, now_ns) and lane_map.lane_of(pair.key) == lane
        )
        totals = (
            TotalState(key=key, limiter=limiter)
            for key, limiter in self._totals.items()
            if lane_map.lane_of(key) == lane
        )
        return tuple(pairs), tuple(totals)

    def merge(self, pairs: Iterable[PairState], totals: Iterable[TotalState]) -> None:
        """Take what the decider before has spent, and the pauses that it knew; what was spent here before counts as well."""
        for record in pairs:
            pair = self._pair(record.key, record.slot, record.epoch)
            pair.limiter = max(pair.limiter, record.limiter)
            pair.pause = _pause(record)
            self._dirty.add((record.key, record.slot))
        for total in totals:
            self._totals[total.key] = max(self._totals.get(total.key, 0), total.limiter)
            self._dirty_totals.add(total.key)

    # -- limits

    def limit(self, provider: str | None, key: str, slot: int) -> PairLimit:
        """Give what holds for (key, slot)."""
        found = self._limits.get((key, slot))
        if found is None:
            source = self.settings.source_of(slot)
            resolved = self.settings.limit(provider, key, source.name if source else "")
            found = self._limits[key, slot] = _pair_limit(
                resolved, self._addresses, self.settings.timing
            )
        return found

    def room(
        self, provider: str | None, key: str, slot: int, epoch: int, now_ns: int
    ) -> Room | Full:
        """Say whether (key, slot) may take a grant in ``epoch`` now."""
        limit, load = self.limit(provider, key, slot), self._load(slot, epoch)
        pair = self._glance(key, slot, epoch, limit)
        if load.grants >= SLOT_GRANTS or load.bytes >= SLOT_BYTES:
            return Full(None, "credit")
        match pauses.may_grant(pair.pause, now_ns, pair.open):
            case pauses.Deferred(until_ns=until):
                return Full(until, "paused")
            case pauses.Allowed():
                pass
        if pair.open >= limit.credit:
            return Full(None, "credit")
        t0 = now_ns
        if limit.rate is not None:
            t0 = max(t0, limits.earliest(pair.limiter, limit.rate, now_ns))
        if limit.total_rate is not None:
            total = self._totals.get(key, 0)
            t0 = max(t0, limits.earliest(total, limit.total_rate, now_ns))
        return Room(t0) if t0 <= now_ns + HORIZON_NS else Full(t0 - HORIZON_NS, "rate")

    def spend(self, provider: str | None, key: str, slot: int, t0_ns: int) -> None:
        """Spend the tokens of a grant that starts at ``t0_ns``."""
        limit, pair = self.limit(provider, key, slot), self._pair(key, slot, NO_EPOCH)
        if limit.rate is not None:
            pair.limiter = limits.spend(pair.limiter, limit.rate, t0_ns)
            self._dirty.add((key, slot))
        if limit.total_rate is not None:
            self._totals[key] = limits.spend(self._totals.get(key, 0), limit.total_rate, t0_ns)
            self._dirty_totals.add(key)

    def window_ns(self, provider: str | None, key: str, slot: int) -> int | None:
        """Give how long after t0 a grant may start where that is shorter than the lease.

        A total over slots is exact only at t0: each slot's mail may start later by its own delay, so the starts are kept
        within a short window, which the total's interval allows for.
        """
        if self.limit(provider, key, slot).total_rate is None:
            return None
        return self.settings.timing.total_window_ns

    # -- open grants

    def opened(self, key: str, grant: Open, size_bytes: int) -> None:
        """Count an open grant (a new one, or one that was restored)."""
        # Where it is restored, the pair's own record came with the grant, or it has no limiter worth keeping.
        pair = self._pair(key, grant.slot, grant.epoch)
        load = self._load(grant.slot, grant.epoch)
        if grant.epoch == pair.epoch:
            pair.open += 1
        if grant.epoch == load.epoch:
            load.grants, load.bytes = load.grants + 1, load.bytes + size_bytes

    def closed(self, key: str, grant: Open, size_bytes: int) -> None:
        """Free the credit of a settled grant, if its epoch still counts."""
        pair, load = self._pair(key, grant.slot, NO_EPOCH), self._load(grant.slot, NO_EPOCH)
        if grant.epoch == pair.epoch:
            pair.open -= 1
        if grant.epoch == load.epoch:
            load.grants, load.bytes = load.grants - 1, load.bytes - size_bytes

    def hear(self, key: str, slot: int, outcome: Outcome, now_ns: int) -> bool:
        """Let the pair learn from an outcome; True where its pause changed."""
        pair = self._pair(key, slot, NO_EPOCH)
        before = pair.pause
        if outcome.result == "pair_failed":
            pair.pause = pauses.on_failure(pair.pause, now_ns, self.settings.timing, self.rng)
        elif outcome.result == "unknown":
            self._count(pair, now_ns)
        else:
            # Any answer to MAIL or later says that the pair works.
            pair.pause = pauses.on_success(pair.pause, now_ns)
            self._count(pair, now_ns, unknown=False)
        if pair.pause != before:
            self._dirty.add((key, slot))
        return pair.pause != before

    def _count(self, pair: Pair, now_ns: int, *, unknown: bool = True) -> None:
        if now_ns - pair.window_ns > _UNKNOWN_WINDOW_NS:
            pair.window_ns, pair.attempts, pair.unknowns = now_ns, 0, 0
        pair.attempts += 1
        pair.unknowns += unknown
        if (
            unknown
            and pair.attempts >= _UNKNOWN_LEAST
            and pair.unknowns > _UNKNOWN_SHARE * pair.attempts
        ):
            pair.pause = pauses.on_failure(pair.pause, now_ns, self.settings.timing, self.rng)
            pair.window_ns, pair.attempts, pair.unknowns = now_ns, 0, 0

    def paused(self, now_ns: int) -> list[tuple[str, int, int]]:
        """List (limit key, slot, until ns) of the paused pairs."""
        found = []
        for pair in self._pairs.values():
            until = pauses.until_ns(pair.pause)
            if until is not None and until > now_ns:
                found.append((pair.key, pair.slot, until))
        return found

    def _glance(self, key: str, slot: int, epoch: int, limit: PairLimit) -> Pair:
        """Give the pair as it is in ``epoch``, and keep nothing of one that was never used: what a new epoch means for it is said again."""
        pair = self._pairs.get((key, slot)) or self._glances.get((key, slot))
        if pair is None:
            pair = self._glances[key, slot] = Pair(key, slot)
        if epoch > pair.epoch:
            pair.epoch, pair.open = epoch, 0
            if limit.rate is not None:
                used = limits.used_up(limit.rate, self.view.ready_ns(slot, epoch))
                pair.limiter = max(pair.limiter, used)
        return pair

    def _pair(self, key: str, slot: int, epoch: int) -> Pair:
        """Give the pair to be changed; it is kept from here on."""
        pair = self._pairs.get((key, slot))
        if pair is None:
            pair = self._glances.pop((key, slot), Pair(key, slot))
            self._pairs[key, slot] = pair
        if epoch > pair.epoch:
            pair.epoch, pair.open = epoch, 0
        return pair

    def _load(self, slot: int, epoch: int) -> SlotLoad:
        load = self._loads.setdefault(slot, SlotLoad())
        if epoch > load.epoch:
            load.epoch, load.grants, load.bytes = epoch, 0, 0
        return load


def _pair_limit(limit: Limit, addresses: int, timing: Timing) -> PairLimit:
    rate, total, connects = limit.rate, limit.total_rate, limit.connection_rate
    if total is not None and total.period_ns < _SHARED_BELOW_NS:
        part = limits.share(total, max(1, addresses))
        if part is not None:
            rate, total = _tighter(rate, part), None
    if total is not None:
        spread = limits.spread_ns(timing.total_window_ns, timing.skew_ns)
        total = limits.widened(total, spread)
    # Two seconds of the rate, so that a stall of the sender cannot pile up more, and never less than its connections could have
    # under way: a peer that takes ten seconds for a message would else see a tenth of what it allows.
    credit = SLOT_GRANTS
    if rate is not None:
        credit = max(limit.connections, HORIZON_NS * rate.count // rate.period_ns)
    return PairLimit(
        rate=rate,
        total_rate=total,
        connections=_connections(limit, addresses),
        messages_per_connection=limit.messages_per_connection,
        spacing_ns=limits.interval_ns(rate) if rate else 0,
        burst=rate.burst if rate else 1,
        credit=min(credit, SLOT_GRANTS),
        connect_spacing_ns=limits.interval_ns(connects) if connects else 0,
        connect_burst=connects.burst if connects else 1,
    )


def _connections(limit: Limit, addresses: int) -> int:
    """Give each address its part of a total: what is not used by one is not lent to another."""
    if limit.total_connections is None:
        return limit.connections
    return max(1, min(limit.connections, limit.total_connections // max(1, addresses)))


def _tighter(one: Rate | None, other: Rate) -> Rate:
    """Give a rate that keeps both: without a burst the wider interval does."""
    if one is None:
        return other
    return Rate(count=1, period_ns=max(limits.interval_ns(one), limits.interval_ns(other)), burst=1)


def _state(pair: Pair) -> PairState:
    return PairState(
        key=pair.key,
        slot=pair.slot,
        limiter=pair.limiter,
        pause=msgspec.Raw(msgspec.json.encode(pair.pause)),
        epoch=pair.epoch,
    )


def _rests(pair: Pair, now_ns: int) -> bool:
    """Say whether the pair is as one that was never used: no pause, and its last token long ago."""
    return pair.pause == pauses.CLEAR and pair.limiter < now_ns - _RESTED_NS


def _pause(record: PairState) -> pauses.Pause:
    if bytes(record.pause) == b"null":
        return pauses.CLEAR
    return _PAUSE.decode(record.pause)
