"""Hold what happened against the guarantees; only this module knows the real time and everybody's deeds.

I1  no second final dot for a delivery, unless the earlier attempt was recorded as unknown or refused
I2  exactly one final event, a true one, and no record trimmed that is still needed
I3  no two owners of a slot whose checks would let a final dot pass
I4  never above a pair's rate: in any window of grants (by t0), in any window at the wire (by real time);
    never above a total over slots in any window at the wire
I5  the state that is read back is the state that was committed
I6  everything is settled once faults cease
I7  a lane has one decider: whoever grants holds it, and no attempt is granted twice

What no rule can close is counted in ``windows``: a process that pauses between its last check and the write, or whose clocks stood still
and which has not heard of it yet.
"""

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import NamedTuple

from services.scheduler.policy.decisions import Decisions
from shared.records.grant import Grant
from shared.runtime.layers import resolve
from shared.runtime.settings import Limit, Rate, Settings
from tests.protocol.engine import MS, Sim


class Violation(NamedTuple):
    """A guarantee that was broken, and how."""

    guarantee: str
    text: str


class _Start(NamedTuple):
    at: int
    attempt: str
    epoch: int
    #: By a process that could not know better: another epoch was ready, or its clocks stood still.
    excused: bool


@dataclass(slots=True)
class Checker:
    """Record deeds and fail loudly in ``violations``."""

    sim: Sim
    settings: Settings
    #: What is submitted: all of it must get a final event.
    accepted: set[str]
    violations: list[Violation] = field(default_factory=list)
    windows: Counter[str] = field(default_factory=Counter)
    finals: dict[str, tuple[int, str]] = field(default_factory=dict)
    #: (delivery, n) -> how the scheduler closed it.
    closed: dict[tuple[str, int], str] = field(default_factory=dict)
    mails: Counter[str] = field(default_factory=Counter)
    dots: defaultdict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    ghosts: dict[int, dict[bytes, bytes]] = field(default_factory=dict)
    #: Lane -> the partition that decides about it; absent: on its way.
    holders: dict[str, int] = field(default_factory=dict)
    _coming: dict[str, int] = field(default_factory=dict)
    _numbers: Counter[str] = field(default_factory=Counter)
    _open: dict[str, int] = field(default_factory=dict)
    _granted: defaultdict[tuple[str, int], deque[int]] = field(
        default_factory=lambda: defaultdict(deque)
    )
    _wire: defaultdict[tuple[str, int], list[_Start]] = field(
        default_factory=lambda: defaultdict(list)
    )
    _wires: defaultdict[str, list[_Start]] = field(default_factory=lambda: defaultdict(list))
    #: slot -> epoch -> real time of `ready`.
    _ready: defaultdict[int, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))

    def fail(self, guarantee: str, text: str) -> None:
        self.violations.append(Violation(guarantee, text))
        self.sim.note("!!", f"{guarantee}: {text}")

    # -- schedulers

    def committed(
        self, partition: int, decided: Decisions, ghost: dict[bytes, bytes], starts: dict[str, int]
    ) -> None:
        """Take what a transaction made true; ``starts``: class -> the first offset that is not trimmed."""
        self.ghosts[partition] = ghost
        kinds = {event.attempt: event.type for event in decided.events if event.attempt is not None}
        for id_, entry in decided.deliveries.items():
            was = self._open.pop(id_, None)
            now = entry.open.n if entry is not None and entry.open is not None else None
            if was is not None and was != now:
                self._close(id_, was, kinds.get(f"{id_}:{was}", "returned"))
            if now is not None:
                self._open[id_] = now
        for event in decided.events:
            if event.final:
                self._final(event.delivery or "", event.type)
        self._moved(partition, decided)
        for granted in decided.granted:
            self._decide(partition, granted.grant)
            if granted.delivery.offset < starts[granted.delivery.class_]:
                self.fail("I2", f"{granted.delivery.id}: its record was trimmed")
            self._grant(granted.grant)

    def _moved(self, partition: int, decided: Decisions) -> None:
        for state in decided.lanes:
            if state.held:
                if self._coming.pop(state.lane, None) != partition:
                    self.fail("I7", f"{partition} takes {state.lane}: nobody handed it over")
                self.holders[state.lane] = partition
                self.sim.note("commit", f"{partition} receives {state.lane}")
        for handed in decided.handed_over:
            lane = handed.record.lane
            if handed.record.more:
                continue
            # What it was handed in this very round it may hand on.
            if partition not in (self.holders.pop(lane, None), self._coming.pop(lane, None)):
                self.fail("I7", f"{partition} hands over {lane}: it does not hold it")
            self._coming[lane] = handed.partition
            self.sim.note("commit", f"{partition} hands {handed.record.lane} to {handed.partition}")
        for forwarded in decided.forwarded:
            self.sim.note(
                "commit", f"{partition} sends {forwarded.delivery.id} to {forwarded.partition}"
            )

    def _decide(self, partition: int, grant: Grant) -> None:
        lane = f"provider:{grant.provider}"
        if self.holders.get(lane) != partition:
            self.fail("I7", f"{partition} grants {grant.attempt} and does not hold {lane}")
        if grant.n <= self._numbers[grant.id]:
            self.fail("I7", f"{grant.attempt} is granted twice")
        self._numbers[grant.id] = grant.n

    def restored(self, partition: int, state: dict[bytes, bytes]) -> None:
        """Compare what a new owner has read back."""
        ghost = self.ghosts.get(partition)
        if ghost is None or ghost == state:
            return
        keys = [key for key in ghost.keys() | state.keys() if ghost.get(key) != state.get(key)]
        key = min(keys)
        self.fail("I5", f"restored {key!r} = {state.get(key)!r}, committed was {ghost.get(key)!r}")

    def _close(self, id_: str, n: int, how: str) -> None:
        self.closed[id_, n] = how
        self.sim.note("commit", f"closed {id_}:{n} {how}")

    def _final(self, id_: str, what: str) -> None:
        self.sim.note("commit", f"final {id_} {what}")
        if id_ in self.finals:
            self.fail("I2", f"{id_} has two final events: {self.finals[id_][1]}, {what}")
        if what == "delivered" and not self.mails[id_]:
            self.fail("I2", f"{id_} is said to be delivered, and nobody accepted it")
        self.finals[id_] = (self.sim.now, what)

    def _grant(self, grant: Grant) -> None:
        self.sim.note("commit", f"grant {grant.attempt} slot {grant.slot} epoch {grant.epoch}")
        rate = self._limit(grant.limit_key, grant.slot).rate
        if rate is None:
            return
        times = self._granted[grant.limit_key, grant.slot]
        times.append(grant.t0_ns)
        if len(times) > rate.count and times[-1] - times.popleft() < rate.period_ns:
            self.fail(
                "I4",
                f"more than {rate.count} grants within {rate.period_ns} ns for slot {grant.slot}",
            )

    def _limit(self, key: str, slot: int) -> Limit:
        source = self.settings.source_of(slot)
        return resolve(self.settings, key, source.name if source else "").limit()

    # -- senders

    def ready(self, slot: int, epoch: int) -> None:
        """Note that an owner began."""
        self._ready[slot][epoch] = self.sim.now

    def _newer(self, slot: int, epoch: int) -> int | None:
        """Say when the first epoch newer than ``epoch`` was ready."""
        return min((at for each, at in self._ready[slot].items() if each > epoch), default=None)

    def rcpt(self, grant: Grant, *, stunned: bool) -> None:
        """Note the RCPT of an attempt."""
        outlived = self._newer(grant.slot, grant.epoch) is not None
        self.sim.note("wire", f"RCPT {grant.attempt} slot {grant.slot}")
        limit = self._limit(grant.limit_key, grant.slot)
        start = _Start(self.sim.now, grant.attempt, grant.epoch, outlived)
        self._hold(self._wire[grant.limit_key, grant.slot], start, limit.rate, "one slot")
        start = start._replace(excused=outlived or stunned)
        self._hold(self._wires[grant.limit_key], start, limit.total_rate, "all slots")

    def _hold(self, starts: list[_Start], start: _Start, rate: Rate | None, whose: str) -> None:
        """Hold ``start`` and those before it against ``rate``."""
        starts.append(start)
        if rate is None or len(starts) <= rate.count:
            return
        window = starts[-rate.count - 1 :]
        if (window[-1].at - window[0].at) * MS >= rate.period_ns:
            return
        if any(each.excused for each in window):
            self.windows[f"RCPT that nothing could stop, over the rate of {whose}"] += 1
        else:
            self.fail(
                "I4",
                f"more than {rate.count} RCPT of {whose} within {rate.period_ns} ns at the wire: {window}",
            )

    def dot(self, grant: Grant, checked: int, *, stunned: bool) -> None:
        """Note a final dot, whose check was at the real time ``checked``."""
        id_, n = grant.id, grant.n
        self.sim.note("wire", f"dot {grant.attempt} epoch {grant.epoch}")
        for other, _ in self.dots[id_]:
            low = self.closed.get((id_, min(other, n)), "open")
            if other == n:
                self.fail("I1", f"{id_}:{n} was sent twice")
            elif low not in ("unknown", "deferred"):
                self.fail("I1", f"{id_}: dots of {min(other, n)} ({low}) and {max(other, n)}")
            elif low == "unknown":
                self.windows["second dot after a recorded unknown"] += 1
        self.dots[id_].append((n, self.sim.now))
        newer = self._newer(grant.slot, grant.epoch)
        if newer is None:
            return
        if newer > checked:
            self.windows["dot of an old epoch, paused after its check"] += 1
        elif stunned:
            self.windows["stun: an old epoch passed its check"] += 1
        else:
            self.fail(
                "I3",
                f"epoch {grant.epoch} passed its check {checked - newer} ms after a newer one was ready",
            )

    def end(self) -> None:
        """Take stock: everything that was read must be settled by now."""
        late = sorted(self.accepted - self.finals.keys())
        if late:
            self.fail("I6", f"{len(late)} without a final event: {late[:3]}")
