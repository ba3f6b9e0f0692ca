"""The state machine of one scheduler partition: everything it knows and everything it decides. Pure: no I/O, no clock.

    begin(now) -> on_delivery / on_outcome / on_resolved ... -> judge() -> plan() -> take() -> one transaction

A round that cannot be committed is never undone here: the shell throws the whole ledger away, fences anew and restores it from
mail.state, so memory and changelog cannot part. ``now`` never goes back, over restarts either.

An entry is in exactly one place: open (granted, not settled), waiting in a group's queue, unresolved (its domain's MX is not known
yet), or held (``unknown = "hold"``). Settling an open entry ends it with a final event or puts it back; waiting for a limit, a pause or a
live source uses no attempt and no retry step.
"""

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Iterable

from services.scheduler.policy import retry, settle
from services.scheduler.policy.announce import event
from services.scheduler.policy.decisions import (
    Decisions,
    Forwarded,
    Found,
    Gone,
    Granted,
    NoAnswer,
    Resolution,
)
from services.scheduler.policy.entries import granted, waiting
from services.scheduler.policy.lease import (
    LeaseTimes,
    Verdict,
    counts_as_started,
    deadline_ns,
    judge,
)
from services.scheduler.policy.pairs import Pairs
from services.scheduler.policy.queues import Group, Queues
from shared.protocol.control import ControlView
from shared.records.delivery import Delivery, Late
from shared.records.event import EventType
from shared.records.grant import Grant
from shared.records.lanemap import LaneMap
from shared.records.outcome import Handback, Mark, Outcome, Started
from shared.records.state import DeliveryState, Meta, Open, PairState, State, TotalState
from shared.runtime.settings import Settings

# NXDOMAIN bounces after a second answer this much later: one wrong answer of one server must not bounce mail.
_ASK_AGAIN_NS = 60_000_000_000
_LOOK_AT_PINS_NS = 10_000_000_000


class Ledger:
    """Decide for one partition."""

    def __init__(
        self, partition: int, settings: Settings, view: ControlView, rng: random.Random
    ) -> None:
        """Begin empty; ``view`` is what the process has read of mail.control, and the shell feeds it."""
        self.partition, self._settings, self._view, self._rng = partition, settings, view, rng
        self.now_ns = 0
        self.log_time_ns = 0
        self.entries: dict[str, DeliveryState] = {}
        self._times = LeaseTimes(
            settings.timing.lease_ns, settings.timing.skew_ns, settings.timing.attempt_max_ns
        )
        self._pairs = Pairs(settings, view, rng)
        self._queues = Queues(settings, view, self._pairs, rng)
        self._open: defaultdict[tuple[int, int], set[str]] = defaultdict(set)
        self._deadlines: list[tuple[int, str, int]] = []
        self._expiries: list[tuple[int, str]] = []
        #: class -> heap of (offset, id), some of them out of date.
        self._offsets: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        self._counts: Counter[str] = Counter()
        self._pins_ns = 0
        self._unresolved: defaultdict[str, set[str]] = defaultdict(set)
        self._ask: list[tuple[int, str]] = []
        self._decided = Decisions()
        self._dirty: set[str] = set()

    def __repr__(self) -> str:
        """Show the counts."""
        opened = sum(map(len, self._open.values()))
        return f"<Ledger {self.partition} [{len(self.entries)} deliveries, {opened} open, {len(self._queues)} groups]>"

    # -- restore

    def restore(self, record: State) -> None:
        """Take one live record of mail.state; ``begin`` follows."""
        match record:
            case DeliveryState():
                self.entries[record.id] = record
            case PairState():
                self._pairs.restore(record)
            case TotalState():
                self._pairs.restore_total(record)
            case Meta():
                self.now_ns = max(self.now_ns, record.now_ns)

    def restored(self) -> None:
        """Put every restored delivery where it belongs."""
        for entry in self.entries.values():
            self._track(entry)
            if entry.open is not None:
                self._opened(entry, entry.open)
            else:
                self._place(entry)

    # -- inputs

    def begin(self, now_ns: int) -> None:
        """Start a round; a clock that went back stands still here."""
        self.now_ns = max(self.now_ns, now_ns)
        self._queues.refresh(self.now_ns)
        self._expire()

    def on_delivery(self, class_: str, offset: int, record: Delivery) -> None:
        """Take a record of mail.deliveries.``class_``."""
        known = self.entries.get(record.id)
        if known is not None:
            # A copy of a straggler: the log before it may go now. (Or a record read twice: then it is the same offset.)
            if offset > known.offset:
                known.offset = offset
                heapq.heappush(self._offsets[class_], (offset, record.id))
                self._dirty.add(record.id)
            return
        if record.again:
            return  # It ended meanwhile.
        entry = waiting(record, class_, offset)
        owner = self._owner(entry)
        self.entries[entry.id] = entry
        self._track(entry)
        self._dirty.add(entry.id)
        if owner != self.partition:
            self._forward(entry, owner)
        elif retry.expired(entry.expires_ns, self.now_ns):
            self._end(entry, "expired", reason="expired before its first attempt")
        else:
            self._place(entry)

    def on_log_time(self, stamp_ns: int) -> None:
        """Take the stamp of a record that was read in mail.outcomes."""
        self.log_time_ns = max(self.log_time_ns, stamp_ns)

    def on_outcome(self, stamp_ns: int, record: Started | Outcome | Handback | Mark) -> None:
        """Take a record of mail.outcomes, stamped ``stamp_ns``."""
        self.on_log_time(stamp_ns)
        if isinstance(record, Mark):
            return
        entry = self.entries.get(record.id)
        if entry is None:
            return
        current = entry.open
        if current is None or current.n != record.n:
            if isinstance(record, Outcome):
                self._late(entry, record)
            return
        match record:
            case Started():
                if current.started_ns is None and counts_as_started(current, stamp_ns):
                    current.started_ns = stamp_ns
                    self._dirty.add(entry.id)
                    heapq.heappush(
                        self._deadlines, (deadline_ns(current, self._times), entry.id, current.n)
                    )
            case Outcome():
                self._settle(entry, current, record)
            case Handback():
                self._close(entry, current)
                if record.reason == "moved":
                    entry.site, entry.provider = None, None
                self._replan(entry, self.now_ns)

    def on_forwarded(self, late: Late) -> None:
        """Take an outcome that came to the partition where its delivery was before."""
        entry = self.entries.get(late.outcome.id)
        if entry is not None:
            self._late(entry, late.outcome)

    def on_resolved(self, domain: str, resolution: Resolution) -> None:
        """Take the answer for a domain that ``asking`` gave out."""
        for id_ in self._unresolved.pop(domain, set()):
            entry = self.entries[id_]
            match resolution:
                case Found(site=site, provider=provider):
                    entry.site, entry.provider, entry.gone_ns = site, provider, None
                    self._dirty.add(id_)
                    owner = self._owner(entry)
                    if owner != self.partition:
                        self._forward(entry, owner)
                    else:
                        self._place(entry)
                case Gone():
                    self._gone(entry, resolution)
                case NoAnswer(reason=reason):
                    self._defer(entry, None, reason=reason, category="dns")

    def asking(self) -> list[str]:
        """Give the domains to resolve now, each once."""
        domains: list[str] = []
        while self._ask and self._ask[0][0] <= self.now_ns:
            _, domain = heapq.heappop(self._ask)
            if domain in self._unresolved:
                domains.append(domain)
        return domains

    # -- decisions

    def judge(self) -> None:
        """Settle the open grants that log time, or a newer epoch, has settled."""
        while self._deadlines and self._deadlines[0][0] < self.log_time_ns:
            _, id_, n = heapq.heappop(self._deadlines)
            entry = self.entries.get(id_)
            if entry is not None and entry.open is not None and entry.open.n == n:
                self._judge(entry, entry.open)
        for slot, epoch in list(self._open):
            newer = self._view.newer_ready_ns(slot, epoch)
            if newer is not None and self.log_time_ns > newer + self._times.skew_ns:
                for id_ in list(self._open[slot, epoch]):
                    entry = self.entries[id_]
                    if entry.open is not None:
                        self._judge(entry, entry.open)

    def plan(self, max_grants: int, max_bytes: int) -> None:
        """Grant what may go now, at most ``max_grants`` and ``max_bytes`` of messages."""
        if self.now_ns >= self._pins_ns:
            self._pins_ns = self.now_ns + _LOOK_AT_PINS_NS
            for entry in self._queues.stale_pins(self.entries, self.now_ns):
                entry.pinned = None
                self._dirty.add(entry.id)
                self._place(entry)
        for choice in self._queues.choose(self.entries, self.now_ns, max_grants, max_bytes):
            entry = self.entries[choice.id]
            entry.n += 1
            entry.open = Open(
                n=entry.n,
                slot=choice.slot,
                epoch=choice.epoch,
                t0_ns=choice.t0_ns,
                t1_ns=choice.t1_ns,
            )
            self._opened(entry, entry.open)
            self._dirty.add(entry.id)
            self._decided.granted.append(
                Granted(entry, self._grant(entry, entry.open, choice.group))
            )

    def take(self) -> Decisions:
        """Give everything that was decided since the last call; it must be committed, or this ledger thrown away."""
        decided, self._decided = self._decided, Decisions()
        decided.deliveries = {id_: self.entries.get(id_) for id_ in self._dirty}
        self._dirty = set()
        decided.pairs, decided.totals = self._pairs.take()
        return decided

    def next_ns(self) -> int:
        """Say when the next round is due although nothing arrives."""
        times = [self._queues.next_ns()]
        times += [heap[0][0] for heap in (self._expiries, self._ask) if heap]
        return min(times)

    # -- what the shell and the gauges ask

    def oldest_offset(self, class_: str) -> int | None:
        """Give the lowest offset in mail.deliveries.``class_`` that is still needed."""
        heap = self._offsets[class_]
        while heap:
            offset, id_ = heap[0]
            entry = self.entries.get(id_)
            if entry is not None and entry.offset == offset:
                return offset
            heapq.heappop(heap)
        return None

    def oldest(self, class_: str, count: int) -> list[DeliveryState]:
        """Give the deliveries that hold the log of a class, those with the lowest offsets."""
        held = (
            self.entries[id_]
            for offset, id_ in heapq.nsmallest(2 * count, self._offsets[class_])
            if id_ in self.entries
        )
        return sorted(held, key=lambda entry: entry.offset)[:count]

    def count(self, class_: str) -> int:
        """Count the deliveries of a class that have no final event yet."""
        return self._counts[class_]

    def reasons(self) -> Iterable[tuple[DeliveryState, str]]:
        """Give every delivery with the one thing that it waits for."""
        for entry in self.entries.values():
            if entry.open is not None:
                yield entry, "started" if entry.open.started_ns is not None else "granted"
            elif entry.held:
                yield entry, "held"
            elif entry.site is None and not self._smarthost(entry):
                yield entry, "dns"
            else:
                yield entry, self._queues.reason(entry, self.now_ns)

    def pauses(self) -> list[tuple[str, int, int]]:
        """List (limit key, slot, until ns) of every pair that is paused."""
        return self._pairs.paused(self.now_ns)

    # -- the middle

    def _track(self, entry: DeliveryState) -> None:
        self._counts[entry.class_] += 1
        heapq.heappush(self._offsets[entry.class_], (entry.offset, entry.id))
        heapq.heappush(self._expiries, (entry.expires_ns, entry.id))

    def _map(self) -> LaneMap:
        if self._view.lane_map is None:
            raise LookupError(
                "no lane map has been read; the worker waits for one before it starts"
            )
        return self._view.lane_map

    def _smarthost(self, entry: DeliveryState) -> str | None:
        return self._settings.smarthost(entry.pool)

    def _owner(self, entry: DeliveryState) -> int:
        lanes = self._map()
        return lanes.partition(
            lanes.lane(entry.provider, entry.site, entry.domain, self._smarthost(entry))
        )

    def _place(self, entry: DeliveryState) -> None:
        if entry.held:
            return
        if entry.site is None and self._smarthost(entry) is None:
            first = entry.domain not in self._unresolved
            self._unresolved[entry.domain].add(entry.id)
            if first:
                heapq.heappush(self._ask, (max(self.now_ns, entry.due_ns), entry.domain))
        else:
            self._queues.add(entry)

    def _unplace(self, entry: DeliveryState) -> None:
        self._queues.remove(entry)
        waiting = self._unresolved.get(entry.domain)
        if waiting is not None:
            waiting.discard(entry.id)
            if not waiting:
                del self._unresolved[entry.domain]

    def _opened(self, entry: DeliveryState, grant: Open) -> None:
        self._open[grant.slot, grant.epoch].add(entry.id)
        self._pairs.opened(self._queues.limit_key(entry), grant, entry.size_bytes)
        heapq.heappush(self._deadlines, (deadline_ns(grant, self._times), entry.id, grant.n))

    def _close(self, entry: DeliveryState, grant: Open) -> None:
        entry.open = None
        self._dirty.add(entry.id)
        ids = self._open[grant.slot, grant.epoch]
        ids.discard(entry.id)
        if not ids:
            del self._open[grant.slot, grant.epoch]
        key = self._queues.limit_key(entry)
        self._pairs.closed(key, grant, entry.size_bytes)
        self._queues.wake(key)

    def _judge(self, entry: DeliveryState, grant: Open) -> None:
        newer = self._view.newer_ready_ns(grant.slot, grant.epoch)
        match judge(grant, self.log_time_ns, newer, self._times):
            case Verdict.OPEN:
                heapq.heappush(
                    self._deadlines, (deadline_ns(grant, self._times), entry.id, grant.n)
                )
            case Verdict.NOT_STARTED:
                self._close(entry, grant)
                self._replan(entry, self.now_ns)
            case Verdict.UNKNOWN:
                lost = Outcome(
                    id=entry.id,
                    n=grant.n,
                    slot=grant.slot,
                    epoch=grant.epoch,
                    result="unknown",
                    category="lease",
                )
                self._settle(entry, grant, lost)

    def _settle(self, entry: DeliveryState, grant: Open, outcome: Outcome) -> None:
        key = self._queues.limit_key(entry)
        self._close(entry, grant)
        if self._pairs.hear(key, grant.slot, outcome, self.now_ns):
            self._queues.wake(key)
        match outcome.result:
            case "delivered" | "bounced":
                self._end(entry, outcome.result, outcome=outcome)
            case "pair_failed":
                self._replan(entry, self.now_ns)
            case "deferred":
                self._defer(entry, outcome)
            case "unknown":
                self._unknown(entry, outcome)

    def _late(self, entry: DeliveryState, outcome: Outcome) -> None:
        """Let a late answer of an older attempt settle a delivery that has none yet."""
        started = entry.open is not None and entry.open.started_ns is not None
        if outcome.result == "delivered" or (outcome.result == "bounced" and not started):
            if entry.open is not None:
                self._close(entry, entry.open)
            self._end(entry, outcome.result, outcome=outcome)

    def _defer(
        self, entry: DeliveryState, outcome: Outcome | None, *, reason: str = "", category: str = ""
    ) -> None:
        due = settle.deferred(entry, outcome, self.now_ns, self._settings, self._rng)
        source = self._source(outcome.slot) if outcome else ""
        self._say(
            "deferred",
            entry,
            outcome=outcome,
            reason=reason,
            category=category,
            next_ns=due,
            source=source,
        )
        self._replan(entry, due)

    def _unknown(self, entry: DeliveryState, outcome: Outcome) -> None:
        source = self._source(outcome.slot)
        match settle.unknown(entry, self.now_ns, self._settings, self._rng):
            case settle.TryAgain(due_ns=due):
                self._say("unknown", entry, outcome=outcome, next_ns=due, source=source)
                self._replan(entry, due)
            case settle.Keep():
                entry.held = True
                self._say(
                    "unknown", entry, outcome=outcome, reason="held for an operator", source=source
                )
                self._dirty.add(entry.id)
            case settle.Finish(kind=kind):
                self._end(entry, kind, outcome=outcome, reason="the outcome is unknown")

    def _gone(self, entry: DeliveryState, gone: Gone) -> None:
        asked = entry.gone_ns
        if not gone.at_once and (asked is None or self.now_ns < asked + _ASK_AGAIN_NS):
            entry.gone_ns = self.now_ns if asked is None else asked
            self._replan(entry, entry.gone_ns + _ASK_AGAIN_NS)
            return
        self._end(entry, "bounced", reason=f"{gone.enhanced} {gone.reason}", category="dns")

    def _replan(self, entry: DeliveryState, due_ns: int) -> None:
        """Let the delivery wait until ``due_ns``, unless its time is over."""
        entry.due_ns = due_ns
        self._dirty.add(entry.id)
        if retry.expired(entry.expires_ns, self.now_ns):
            self._end(entry, "expired", reason="its time was over")
        else:
            self._place(entry)

    def _expire(self) -> None:
        while self._expiries and self._expiries[0][0] <= self.now_ns:
            _, id_ = heapq.heappop(self._expiries)
            entry = self.entries.get(id_)
            if entry is not None and entry.open is None:
                self._end(entry, "expired", reason="its time was over")
            # An open one is looked at again when it is settled.

    def _forward(self, entry: DeliveryState, partition: int) -> None:
        self._decided.forwarded.append(Forwarded(entry, partition))
        self._drop(entry)

    def _end(
        self,
        entry: DeliveryState,
        kind: EventType,
        *,
        outcome: Outcome | None = None,
        reason: str = "",
        category: str = "",
    ) -> None:
        source = self._source(outcome.slot) if outcome else ""
        self._say(
            kind,
            entry,
            outcome=outcome,
            reason=reason,
            category=category,
            final=True,
            source=source,
        )
        self._drop(entry)

    def _drop(self, entry: DeliveryState) -> None:
        self._unplace(entry)
        del self.entries[entry.id]
        self._counts[entry.class_] -= 1
        self._dirty.add(entry.id)

    def _say(
        self,
        kind: EventType,
        entry: DeliveryState,
        *,
        outcome: Outcome | None = None,
        source: str = "",
        reason: str = "",
        category: str = "",
        final: bool = False,
        next_ns: int | None = None,
    ) -> None:
        self._decided.events.append(
            event(
                kind,
                entry,
                self.now_ns,
                final=final,
                outcome=outcome,
                source=source,
                reason=reason,
                category=category,
                relayed=self._smarthost(entry) is not None,
                next_ns=next_ns,
            )
        )

    def _source(self, slot: int) -> str:
        source = self._settings.source_of(slot)
        return source.name if source else f"slot {slot}"

    def _grant(self, entry: DeliveryState, grant: Open, group: Group) -> Grant:
        limit = self._pairs.limit(group.provider, group.limit_key, grant.slot)
        provider = self._settings.providers.get(entry.provider or "")
        tls = provider.tls if provider else "opportunistic"
        return granted(entry, grant, group.limit_key, limit, tls, self.partition)
