"""The project's code with one rule taken out: what the hunt and the scenes must catch.

Each mutant names in its first line the rule that it lacks. A mutant that nothing catches means that the rule is not tested.
"""

from dataclasses import replace
from typing import Final

import msgspec

from services.scheduler.policy.lanes import Lanes
from services.scheduler.policy.lease import Verdict
from services.scheduler.policy.ledger import Ledger
from services.scheduler.policy.pair import Pair
from services.scheduler.policy.pairlimit import PairLimit
from services.scheduler.policy.pairs import Pairs
from services.sender.attempt import Answer, AttemptGate, Go, Hold, Stop
from services.sender.ownership import Action, Now, SlotOwner, State
from shared.protocol.control import Claimed
from shared.protocol.spacing import WireLimiter
from shared.records.control import Control, Heartbeat
from shared.records.delivery import Delivery, Handover
from shared.records.outcome import Handback, Mark, Outcome, Started
from shared.records.state import LaneState, TotalState
from shared.records.state import State as Remembered
from tests.protocol.variant import Variant


class IgnoresLaterClaims(SlotOwner):
    """The epoch of a slot is its last claim."""

    def on_read(self, stamp_ns: int, record: Control, now: Now) -> None:
        super().on_read(stamp_ns, record, now)
        if (
            isinstance(record, Heartbeat)
            and record.process == self._me.process
            and record.epoch == self.epoch
        ):
            self.fresh_until_ns = record.mono_ns + self._times.fresh_ns
            self.beat_stamp_ns = stamp_ns

    def acting(self, mono_ns: int) -> bool:
        return self.state is State.READY and mono_ns < self.fresh_until_ns

    def _own(self, now: Now) -> list[Action]:
        if self._view.epoch(self.slot) == self.epoch or self._draining:
            return super()._own(now)
        if now.mono_ns < self._beat_ns + self._times.heartbeat_ns:
            return []
        self._beat_ns = now.mono_ns
        return [self._say(self._heartbeat(now, leaving=False), now)]


class WaitsForNobody(SlotOwner):
    """A claimant starts only after the wait, or when its predecessor has vouched for its end."""

    def _need_not_wait(self, before: Claimed | None) -> bool:
        return True


class WaitsForWhatIsLost(SlotOwner):
    """Where nobody knows what became of a record, its sender begins anew."""

    def on_lost(self, token: str, now: Now) -> None:
        pass


class FreshFromReading(SlotOwner):
    """``fresh`` counts from sending the heartbeat, not from reading it back."""

    def on_read(self, stamp_ns: int, record: Control, now: Now) -> None:
        before = self.fresh_until_ns
        super().on_read(stamp_ns, record, now)
        if self.fresh_until_ns != before:
            self.fresh_until_ns = now.mono_ns + self._times.fresh_ns


class NeverStale(SlotOwner):
    """An owner acts only while a heartbeat that it has read back is fresh."""

    def acting(self, mono_ns: int) -> bool:
        return super().acting(min(mono_ns, self.fresh_until_ns - 1))


class TakesVoidStarted(AttemptGate):
    """A `started` that is stamped after t1 is void for the sender too."""

    def started(self, stamp_ns: int) -> None:
        super().started(min(stamp_ns, self._grant.t1_ns))


class CannotSeeAStun(AttemptGate):
    """`started` must not be stamped later than ``fresh`` after the last heartbeat."""

    def may_dot(self, now: Now) -> Answer:
        answer = super().may_dot(now)
        stale = isinstance(answer, Hold) or (isinstance(answer, Stop) and answer.reason == "stale")
        return (
            Go()
            if stale and self._stamp_ns is not None and self._owner.acting(now.mono_ns)
            else answer
        )


class DotBeforeStarted(AttemptGate):
    """The dot needs `started` acknowledged."""

    def may_dot(self, now: Now) -> Answer:
        if self._stamp_ns is None and self._owner.acting(now.mono_ns):
            return Go()
        return super().may_dot(now)


class JudgesByItsClock(Ledger):
    """Leases are judged by what has been read of mail.outcomes, not by a clock."""

    def begin(self, now_ns: int) -> None:
        super().begin(now_ns)
        self.log_time_ns = max(self.log_time_ns, self.now_ns)


class JudgesOnSight(Ledger):
    """A newer epoch settles the older one only once log time has passed its `ready`."""

    def judge(self) -> None:
        for entry in list(self.entries.values()):
            grant = entry.open
            if grant is None or self._view.newer_ready_ns(grant.slot, grant.epoch) is None:
                continue
            begun = grant.started_ns is not None
            self._settling.lapsed(entry, grant, Verdict.UNKNOWN if begun else Verdict.NOT_STARTED)
        super().judge()


class ForgetsStarted(Ledger):
    """What has started and got no outcome is unknown, not unstarted."""

    def judge(self) -> None:
        for entry, grant, _ in self._opens.lapsed(self.entries, self.log_time_ns):
            self._settling.lapsed(entry, grant, Verdict.NOT_STARTED)


class LosesStarted(Ledger):
    """`started` belongs to the state that is written."""

    def on_outcome(self, stamp_ns: int, record: Started | Outcome | Handback | Mark) -> None:
        dirty = self._deliveries._dirty
        known = record.id in dirty if not isinstance(record, Mark) else True
        super().on_outcome(stamp_ns, record)
        if isinstance(record, Started) and not known:
            dirty.discard(record.id)


class SettlesByAnyOutcome(Ledger):
    """An outcome settles the attempt that it names, not another one."""

    def on_outcome(self, stamp_ns: int, record: Started | Outcome | Handback | Mark) -> None:
        entry = None if isinstance(record, Mark) else self.entries.get(record.id)
        if entry is not None and entry.open is not None and isinstance(record, Outcome | Handback):
            entry.open.n = record.n
        super().on_outcome(stamp_ns, record)


class _UnspentPairs(Pairs):
    def _glance(self, key: str, slot: int, epoch: int, limit: PairLimit) -> Pair:
        limiter = self._pairs[key, slot].limiter if (key, slot) in self._pairs else 0
        pair = super()._glance(key, slot, epoch, limit)
        pair.limiter = limiter
        return pair


class _OtherPairs(Ledger):
    def _use(self, pairs: Pairs) -> None:
        self._pairs = self._queues.pairs = self._queues.sources.pairs = self._opens._pairs = pairs
        self._settling._pairs = self._moving._pairs = pairs


class GrantsAtOnce(_OtherPairs):
    """A new epoch counts its pairs as just used."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._use(_UnspentPairs(self._settings, self._view, self._rng))


class _LastingPairs(Pairs):
    def window_ns(self, limit: PairLimit) -> int | None:
        window = super().window_ns(limit)
        return None if window is None else self.settings.timing.lease_ns


class StartsTotalsAnyTime(_OtherPairs):
    """Under a total over slots a grant is void a short window after its t0."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._use(_LastingPairs(self._settings, self._view, self._rng))


class TrustsClocks(_OtherPairs):
    """A total over slots allows for a clock that is off by the skew at each end."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        exact = replace(self._settings, timing=replace(self._settings.timing, skew_ns=0))
        self._use(Pairs(exact, self._view, self._rng))


class _ForgetfulPairs(Pairs):
    def restore_total(self, record: TotalState) -> None:
        pass


class ForgetsTotals(_OtherPairs):
    """The limiter over all slots belongs to the state that is read back."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._use(_ForgetfulPairs(self._settings, self._view, self._rng))


class _GreedyLanes(Lanes):
    def _holds(self, lane: str) -> bool:
        return self.given(lane) or super()._holds(lane)


class GrantsUnheard(Ledger):
    """A partition grants for a lane only when it was handed over."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._lanes = self._queues.lanes = _GreedyLanes(self.partition, self._view)
        self._moving._lanes = self._lanes


class TakesEmptyHands(Ledger):
    """What the limiters have spent is handed over with the lane."""

    def on_handed_over(self, record: Handover) -> None:
        super().on_handed_over(msgspec.structs.replace(record, pairs=(), totals=()))


class MovesWhatIsOpen(Ledger):
    """A delivery with an open grant moves only when that is settled."""

    def begin(self, now_ns: int) -> None:
        if self._lanes.map.version != self._lanes._seen:
            for entry in self.entries.values():
                if entry.open is not None:
                    self._opens.close(entry, entry.open)
        super().begin(now_ns)


class ForgetsLanes(Ledger):
    """What was handed over stays so for whoever takes the partition next."""

    def restore(self, record: Remembered) -> None:
        if not isinstance(record, LaneState):
            super().restore(record)


class CountsAnew(Ledger):
    """Grants are counted on where a delivery goes."""

    def on_delivery(self, class_: str, offset: int, record: Delivery) -> None:
        super().on_delivery(class_, offset, msgspec.structs.replace(record, n=0))


class TakesCopies(Ledger):
    """A copy of a straggler is dropped where its delivery is no longer."""

    def on_delivery(self, class_: str, offset: int, record: Delivery) -> None:
        super().on_delivery(class_, offset, msgspec.structs.replace(record, again=False))


class StartsAtOnce(WireLimiter):
    """A new owner counts its pairs as just used."""

    def __post_init__(self) -> None:
        self._state = 0


class CatchesUp(WireLimiter):
    """A stall is never caught up."""

    def earliest(self, now_ns: int) -> int:
        return max(now_ns, min(self._state, now_ns))


MUTANTS: Final = (
    Variant("ignores later claims", owner=IgnoresLaterClaims),
    Variant("waits for nobody", owner=WaitsForNobody),
    Variant("waits for what is lost", owner=WaitsForWhatIsLost),
    Variant("fresh from reading", owner=FreshFromReading),
    Variant("never stale", owner=NeverStale),
    Variant("takes void `started`", gate=TakesVoidStarted),
    Variant("cannot see a stun", gate=CannotSeeAStun),
    Variant("dot before `started`", gate=DotBeforeStarted),
    Variant("judges by its clock", ledger=JudgesByItsClock),
    Variant("judges on sight", ledger=JudgesOnSight),
    Variant("forgets `started`", ledger=ForgetsStarted),
    Variant("loses `started`", ledger=LosesStarted),
    Variant("settles by any outcome", ledger=SettlesByAnyOutcome),
    Variant("starts at once", ledger=GrantsAtOnce, wire=StartsAtOnce),
    Variant("catches up", wire=CatchesUp),
    Variant("grants unheard", ledger=GrantsUnheard),
    Variant("takes empty hands", ledger=TakesEmptyHands),
    Variant("moves what is open", ledger=MovesWhatIsOpen),
    Variant("forgets lanes", ledger=ForgetsLanes),
    Variant("counts anew", ledger=CountsAnew),
    Variant("takes copies", ledger=TakesCopies),
    Variant("starts totals any time", ledger=StartsTotalsAnyTime),
    Variant("trusts clocks", ledger=TrustsClocks),
    Variant("forgets totals", ledger=ForgetsTotals),
)
