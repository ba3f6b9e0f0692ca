"""The (limit key, slot) pairs of one partition: limiter, pause, credit, warm-up. Pure.

A pair has one deciding partition, so what is here is exact. Tokens are spent at a grant's t0 and never refunded. Credit counts open
grants of the slot's present epoch: those of an earlier one are void at once, since nobody will act on them. When a slot's epoch
changes, its pairs count as just used: what the older owner sent last is not known.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from services.scheduler.policy import (
    growth,
    health,
    hearsay,
    limits,
    pauses,
    sizes,
)
from services.scheduler.policy.learning import Answer, Learning, PairNews
from services.scheduler.policy.memory import Memory
from services.scheduler.policy.pair import Pair
from services.scheduler.policy.pairlimit import (
    HORIZON_NS,
    SLOT_GRANTS,
    PairLimit,
    PairLimits,
    slowed,
)
from services.scheduler.policy.room import BEHIND, NO_CREDIT, Full, Room, held
from services.scheduler.policy.sendingdomains import SendingDomains
from services.scheduler.policy.vanguard import Vanguards
from services.scheduler.policy.warmup import Spent, Token
from shared.protocol.control import NO_EPOCH
from shared.records.control import Directive
from shared.records.outcome import Outcome
from shared.records.state import DeliveryState, Open
from shared.runtime.settings import Rate

_S: Final = 1_000_000_000
#: Bytes in the open grants of one slot.
SLOT_BYTES: Final = 64 << 20
_LOOK_NS: Final = 1 * _S
_DAY_NS: Final = 86_400 * _S


@dataclass(slots=True)
class SlotLoad:
    """Open grants of one slot in its present epoch, over all keys."""

    epoch: int = NO_EPOCH
    grants: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Pairs(Memory):
    """All pairs of a partition: what each may have, what it has spent, what it has heard."""

    _loads: dict[int, SlotLoad] = field(default_factory=dict)
    _configured: PairLimits = field(init=False)
    _learning: Learning = field(init=False)
    #: What destinations think of sending domains.
    domains: SendingDomains = field(init=False)
    vanguards: Vanguards = field(init=False)

    def __post_init__(self) -> None:
        """Resolve by these settings, and learn by their rules."""
        Memory.__post_init__(self)
        self._configured = PairLimits(self.settings)
        self._learning = Learning(self.settings.backoff, self.settings.timing, self.rng)
        self.domains = SendingDomains(self.settings.backoff, self.rng, HORIZON_NS)
        self.vanguards = Vanguards(self.settings)

    def take_news(self) -> list[PairNews]:
        """Give what operators should know of since the last call."""
        return self._learning.take() + self.domains.take_news()

    # -- limits

    def overrule(self, orders: Sequence[Directive]) -> None:
        """Let what operators have ordered stand above the settings."""
        if self._configured.overrule(orders):
            self._slowed.clear()

    @property
    def deciders(self) -> int:
        """Between so many partitions is a total over slots divided."""
        return self._configured.deciders

    def divide(self, deciders: int) -> bool:
        """Let what counts over all slots be kept by so many partitions, each of which decides about a group of them; False: it is."""
        if not self._configured.divide(deciders):
            return False
        self.spilling.deciders = deciders
        self.domains.divide(deciders)
        self._slowed.clear()
        return True

    def total_rate(self, limit_key: str) -> Rate | None:
        """Give this partition's part of what a key may have over all slots."""
        return self._configured.of(limit_key, 0, 0).total_rate

    def limit(self, provider: str | None, key: str, slot: int) -> PairLimit:
        """Give what holds for (key, slot) now."""
        del provider  # The key is the provider's name where there is one.
        return self._limit(self._pairs.get((key, slot)), key, slot)

    def whole(self, key: str, slot: int) -> PairLimit:
        """Give what holds for (key, slot) but for what it has learnt."""
        return self._configured.of(key, slot, 0)

    def _limit(self, pair: Pair | None, key: str, slot: int) -> PairLimit:
        if pair is None or pair.backoff is None:
            return self._configured.of(key, slot, 0 if pair is None else pair.good)
        found = self._slowed.get((key, slot))
        if found is None:
            found = slowed(self._configured.of(key, slot, pair.good), pair.backoff)
            self._slowed[key, slot] = found
        return found

    def room(
        self, provider: str | None, key: str, slot: int, epoch: int, now_ns: int
    ) -> Room | Full:
        """Say whether (key, slot) may take a grant in ``epoch`` now.

        Each look at a group asks it of every slot of its pool; most pairs were never used, and of the others most are calm.
        """
        del provider  # The key is the provider's name where there is one.
        pair = self._pairs.get((key, slot))
        if pair is None or pair.backoff is None:
            limit = self._configured.of(key, slot, 0 if pair is None else pair.good)
        else:
            self._forget(pair, now_ns)
            limit = self._limit(pair, key, slot)
        load = self._loads.get(slot)
        if load is None or epoch > load.epoch:
            load = self._load(slot, epoch)
        if limit.rate is not None or (pair is not None and epoch > pair.epoch):
            pair = self._glance(key, slot, epoch, limit)
        # Else nothing is known of it that its slot's epoch could change.
        if load.grants >= SLOT_GRANTS or load.bytes >= SLOT_BYTES:
            return NO_CREDIT
        if pair is not None:
            if pair.backoff is not None or type(pair.pause) is not pauses.Clear:
                full = held(pair, limit, now_ns)
                if full is not None:
                    return full
            elif pair.open >= limit.credit:
                return NO_CREDIT
        if limit.rate is None:
            return self._unspaced(pair, key, slot, limit, now_ns)
        return self._spaced(pair, key, slot, limit, now_ns)

    def _unspaced(
        self, pair: Pair | None, key: str, slot: int, limit: PairLimit, now_ns: int
    ) -> Room | Full:
        """Say what there is room for where the pair has no rate: others may have to go first."""
        if pair is not None and pair.slack <= 0 and self.vanguards.concern(key, slot):  # noqa: SIM102 - asked of few
            if not self.vanguards.lets(pair, limit.connections, self._pairs, now_ns):
                return BEHIND
        if limit.total_rate is None and limit.volume is None and not self.budgets.active:
            return Room(now_ns, limit)
        return self._spaced(pair, key, slot, limit, now_ns)

    def _spaced(
        self, pair: Pair | None, key: str, slot: int, limit: PairLimit, now_ns: int
    ) -> Room | Full:
        """Say what the pair's rates, and its warm-up, allow."""
        t0, why = now_ns, "rate"
        if limit.rate is not None:
            t0 = limits.earliest(
                limits.UNUSED if pair is None else pair.limiter, limit.rate, now_ns
            )
        if limit.volume is not None and pair is not None and pair.volume > t0:
            t0, why = pair.volume, "byte_rate"
        if limit.total_rate is not None:
            total = self.totals.earliest(key, limit.total_rate, now_ns)
            t0, why = (total, "total_rate") if total > t0 else (t0, why)
        if t0 > now_ns + HORIZON_NS:
            return Full(t0 - HORIZON_NS, why)
        return self._warmed(key, slot, now_ns, t0, limit)

    def _warmed(
        self, key: str, slot: int, now_ns: int, t0_ns: int, limit: PairLimit
    ) -> Room | Full:
        """Say whether the warm-up lets a grant start at ``t0_ns``, which its rates allow, or a little later."""
        match self.budgets.token(key, slot, now_ns, t0_ns):
            case None:
                return Room(t0_ns, limit)
            case Spent(until_ns=until):
                return Full(until, "warmup")
            case Token(t0_ns=at) as warming:
                late = at - HORIZON_NS
                if late <= now_ns:
                    return Room(at, limit, warming)
                # Thousands of sites may wait for the tokens of one budget: each looks once a second, well within the horizon.
                return Full(max(late, now_ns + _LOOK_NS), "warmup")

    def sized(self, key: str, slot: int, room: Room, size_bytes: int, now_ns: int) -> Room | Full:
        """Say when a message of so many bytes may go where there is ``room`` for a small one."""
        if room.limit.volume is None:
            return room
        pair = self._pairs.get((key, slot))
        state = limits.UNUSED if pair is None else pair.volume
        t0 = sizes.earliest(state, room.limit.volume, size_bytes, room.t0_ns)
        if t0 > now_ns + HORIZON_NS:
            return Full(t0 - HORIZON_NS, "byte_rate")
        if room.warming is not None and t0 >= room.warming.end_ns:
            # The next day's budget is for it.
            return Full(now_ns + _LOOK_NS, "warmup")
        return room if t0 == room.t0_ns else Room(t0, room.limit, room.warming)

    def go_first(self, key: str, slots: Sequence[int], now_ns: int) -> bool:
        """Of sources that all are ``BEHIND``, let one lead; False: one of them does."""
        if any(self.vanguards.leads(key, slot) for slot in slots):
            return False
        self.vanguards.lead(self._pairs[key, slots[0]], now_ns)
        return True

    def spend(
        self, key: str, slot: int, t0_ns: int, limit: PairLimit, size_bytes: int = 0
    ) -> PairLimit:
        """Spend the tokens of a grant that starts at ``t0_ns``; ``limit`` is what ``room`` gave, and what holds from then on is given."""
        pair = self._pairs.get((key, slot)) or self._pair(key, slot, NO_EPOCH)
        pair.slack -= 1
        after = limit
        if pair.good and pair.limiter and pair.limiter < t0_ns - growth.IDLE_NS:
            pair.good = 0
            self._changed(pair)
            after = self._limit(pair, key, slot)
        if limit.rate is not None:
            pair.limiter = limits.spend(pair.limiter, limit.rate, t0_ns)
            self._dirty.add((key, slot))
        elif limit.growing is not None and pair.limiter < t0_ns - _DAY_NS:
            # One that has grown up is spaced no more, and yet remembers the day when it was used last.
            pair.limiter = t0_ns
            self._dirty.add((key, slot))
        if limit.volume is not None:
            pair.volume = sizes.spend(limit.volume, size_bytes, t0_ns)
            self._dirty.add((key, slot))
        if limit.total_rate is not None:
            self.totals.spend(key, limit.total_rate, t0_ns)
        if self.budgets.active:
            self.budgets.spend(key, slot, t0_ns)
        return after

    def window_ns(self, limit: PairLimit) -> int | None:
        """Give how long after t0 a grant may start where that is shorter than the lease.

        A total over slots is exact only at t0: each slot's mail may start later by its own delay, so the starts are kept
        within a short window, which the total's interval allows for. So is a limit of bytes, since a sender spaces what it starts
        whatever its size.
        """
        if limit.total_rate is None and limit.volume is None:
            return None
        return self.settings.timing.total_window_ns

    # -- open grants

    def opened(self, key: str, grant: Open, size_bytes: int) -> Pair:
        """Count an open grant (a new one, or one that was restored); gives its pair."""
        # Where it is restored, the pair's own record came with the grant, or it has no limiter worth keeping.
        slot, epoch = grant.slot, grant.epoch
        pair, load = self._pairs.get((key, slot)), self._loads.get(slot)
        if pair is None or epoch > pair.epoch:
            pair = self._pair(key, slot, epoch)
        if load is None or epoch > load.epoch:
            load = self._load(slot, epoch)
        if epoch == pair.epoch:
            pair.open += 1
        if epoch == load.epoch:
            load.grants, load.bytes = load.grants + 1, load.bytes + size_bytes
        return pair

    def closed(self, key: str, grant: Open, size_bytes: int) -> None:
        """Free the credit of a settled grant, if its epoch still counts."""
        slot, epoch = grant.slot, grant.epoch
        pair = self._pairs.get((key, slot)) or self._pair(key, slot, NO_EPOCH)
        load = self._loads.get(slot) or self._load(slot, NO_EPOCH)
        if epoch == pair.epoch:
            pair.open -= 1
        if epoch == load.epoch:
            load.grants, load.bytes = load.grants - 1, load.bytes - size_bytes

    # -- answers

    def hear(
        self, entry: DeliveryState, key: str, grant: Open, outcome: Outcome, now_ns: int
    ) -> bool:
        """Let the pair learn from the answer to ``grant``, which is settled; True where it may now do other than before."""
        if outcome.unreached:
            return False
        pair = self._pairs.get((key, grant.slot)) or self._pair(key, grant.slot, NO_EPOCH)
        if self.budgets.active:
            self.budgets.hear(key, grant.slot, outcome, now_ns)
        counted_ns = 0 if pair.health is None else pair.health.at_ns
        calm = pair.backoff is None and type(pair.pause) is pauses.Clear
        if calm and outcome.result == "delivered":
            self._grow(pair, outcome)
            self._learning.fine(pair, now_ns)
            changed: list[Pair] = []
        else:
            self.heard(key, grant.slot, outcome)
            changed = self._learn(pair, entry, grant, outcome, now_ns)
            self._note(pair)
        if pair.health is not None and pair.health.at_ns != counted_ns:
            # What it counted since the last step of its half-life may be lost: it is not worth a record for each answer.
            self._dirty.add((key, grant.slot))
        return bool(changed)

    def _learn(
        self, pair: Pair, entry: DeliveryState, grant: Open, outcome: Outcome, now_ns: int
    ) -> list[Pair]:
        key = pair.key
        which = entry.provider, key, grant.slot
        answer = Answer(
            entry.provider,
            grant.t0_ns,
            outcome,
            lambda: (self.limit(*which), self._configured.of(key, grant.slot, pair.good)),
            HORIZON_NS,
            lambda: self._siblings(key, grant.slot, now_ns),
        )
        if pair.backoff is None or grant.t0_ns > pair.backoff.mark_ns:
            # Of one burst of refusals only the first counts.
            self._grow(pair, outcome)
        marked_ns = 0 if pair.backoff is None else pair.backoff.mark_ns
        changed = self._learning.hear(pair, answer, now_ns, lambda: self._of_key(key))
        if pair.backoff is not None and pair.backoff.mark_ns != marked_ns:
            self.vanguards.warned(pair, self._pairs)
        for each in changed:
            self._changed(each)
        return changed

    def complained(self, key: str, slot: int, now_ns: int) -> None:
        """Count a recipient's complaint about mail from this source."""
        pair = self._pair(key, slot, NO_EPOCH)
        half_life = self.settings.backoff.half_life_ns
        pair.health = health.after(pair.health, "complained", now_ns, half_life)
        self.budgets.complained(key, slot, now_ns)
        self._note(pair)
        self._dirty.add((key, slot))

    def weight(self, key: str, slot: int, now_ns: int) -> float:
        """Give the part of its weight, above 0 up to 1, that the pair's health leaves its source in a rotation."""
        pair = self._pairs.get((key, slot))
        if pair is None or pair.health is None:
            return 1.0
        return health.weight(health.faded(pair.health, now_ns, self.settings.backoff.half_life_ns))

    def _grow(self, pair: Pair, outcome: Outcome) -> None:
        """Let a destination that nobody knows have more after a message that it took, and less after a refusal of the pair."""
        whole = self._configured.of(pair.key, pair.slot, pair.good).growing
        if whole is None:
            return
        good = growth.heard(pair.good, whole, outcome)
        if good != pair.good:
            pair.good = good
            self._changed(pair)

    def heard(self, key: str, slot: int, outcome: Outcome) -> None:
        """Note the sender's warning: it goes on with what is granted from now on."""
        if outcome.warned_ns:
            pair = self._pair(key, slot, NO_EPOCH)
            pair.heard = max(pair.heard, (outcome.epoch, outcome.warned_ns))
            self._dirty.add((key, slot))

    def _of_key(self, key: str) -> list[Pair]:
        slots = (source.slot for source in self.settings.sources.values())
        return [pair for slot in slots if (pair := self._pairs.get((key, slot))) is not None]

    def _siblings(self, key: str, slot: int, now_ns: int) -> list[Pair]:
        """Give the pairs of a key whose sources share a pool with the one of ``slot``, none of them being warmed up."""
        if self.budgets.standing(key, slot, now_ns) is not None:
            return []
        return [
            self._pair(key, each, NO_EPOCH)
            for each in hearsay.mates(self.settings, slot)
            if self.budgets.standing(key, each, now_ns) is None
        ]

    def _forget(self, pair: Pair, now_ns: int) -> None:
        if self._learning.forgets(pair, now_ns):
            self._changed(pair)

    def slowed(self) -> list[tuple[str, int, int | None, int]]:
        """List (limit key, slot, messages a day or None, connections) of the pairs that warnings have left less than their limits."""
        found = []
        for pair in self._pairs.values():
            if pair.backoff is not None:
                limit = self.limit(None, pair.key, pair.slot)
                rate = None if limit.rate is None else limits.daily(limit.rate)
                found.append((pair.key, pair.slot, rate, limit.connections))
        return found

    def _glance(self, key: str, slot: int, epoch: int, limit: PairLimit) -> Pair:
        """Give the pair as it is in ``epoch``, and keep nothing of one that was never used: what a new epoch means for it is said again."""
        pair = self._pairs.get((key, slot)) or self._glances.get((key, slot))
        if pair is None:
            pair = self._glances[key, slot] = Pair(key, slot)
        if epoch > pair.epoch:
            pair.epoch, pair.open = epoch, 0
            if (key, slot) in self._pairs:
                self._dirty.add((key, slot))
            if limit.rate is not None:
                used = limits.used_up(limit.rate, self.view.ready_ns(slot, epoch))
                pair.limiter = max(pair.limiter, used)
        return pair

    def _load(self, slot: int, epoch: int) -> SlotLoad:
        load = self._loads.get(slot)
        if load is None:
            load = self._loads[slot] = SlotLoad()
        if epoch > load.epoch:
            load.epoch, load.grants, load.bytes = epoch, 0, 0
        return load
