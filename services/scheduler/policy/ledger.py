"""The state machine of one scheduler partition: everything it knows and everything it decides. Pure: no I/O, no clock.

    begin(now) -> on_delivery / on_outcome / on_resolved ... -> judge() -> plan() -> take() -> one transaction

A round that cannot be committed is never undone here: the shell throws the whole ledger away, fences anew and restores it from
mail.state, so memory and changelog cannot part. ``now`` never goes back, over restarts either.

What memory has no room for is no entry: it stays in the log until it has (``intake``, ``parking``).

An entry is in exactly one place: open (granted, not settled: ``opens``), waiting in a group's queue (``queues``), unresolved (its
domain's MX is not known yet), held (``unknown = "hold"``), or on its way to the partition that decides about it (``moving``). Settling
an open entry ends it with a final event or puts it back (``settling``); waiting for a limit, a pause, a lane or a live source uses no
attempt and no retry step.
"""

import random

from services.scheduler.policy import retry
from services.scheduler.policy.announce import pair_event
from services.scheduler.policy.decisions import (
    Decisions,
    Found,
    Gone,
    Granted,
    NoAnswer,
    Resolution,
)
from services.scheduler.policy.entries import granted, waiting
from services.scheduler.policy.gathering import begin_ns
from services.scheduler.policy.queues import Choice, Over
from services.scheduler.policy.rooms import Rooms
from shared.protocol.control import ControlView
from shared.records.delivery import Delivery, Handover, Late
from shared.records.event import Configured, Event
from shared.records.outcome import Handback, Mark, Outcome, Started
from shared.records.shares import Want
from shared.records.state import (
    DeliveryState,
    DomainState,
    LaneState,
    Meta,
    MovedState,
    Open,
    OrderState,
    PairState,
    ParkedState,
    State,
    TotalState,
)
from shared.runtime.settings import Settings

_LOOK_AT_PINS_NS = 10_000_000_000
#: Deliveries of which a round finds out whether they are another partition's by a new lane map: some 20 ms.
_SOUGHT = 2_000


class Ledger(Rooms):
    """Decide for one partition."""

    def __init__(
        self,
        partition: int,
        settings: Settings,
        view: ControlView,
        rng: random.Random,
        configured: Configured | None = None,
    ) -> None:
        """Begin empty; what each of these is says ``Rooms``."""
        super().__init__(partition, settings, view, rng, configured)
        #: Of the orders, as the dealer has seen them.
        self._dealt_by = 0
        self._pins_ns = 0
        self._restored = False
        #: Totals are divided otherwise than when they were spent from last.
        self._divided = False
        #: What has not been looked at since the lane map was another.
        self._unsought: list[str] = []
        self._granted: list[Granted] = []

    def __repr__(self) -> str:
        """Show the counts."""
        return (
            f"<Ledger {self.partition} "
            f"[{len(self.entries)} deliveries, {len(self._opens)} open, {len(self._queues)} groups]>"
        )

    # -- restore

    def restore(self, record: State) -> None:
        """Take one live record of mail.state; after ``restored``, deliveries alone, which are put where they belong at once."""
        match record:
            case DeliveryState():
                self._restore(record)
            case PairState():
                self._pairs.restore(record)
            case TotalState():
                self._pairs.restore_total(record)
            case DomainState():
                self._pairs.domains.restore(record)
            case LaneState():
                self._lanes.restore(record)
            case MovedState():
                self._moving.departed.restore(record)
            case ParkedState():
                self.intake.parking.restore(record)
            case OrderState():
                self.orders.restore(record)
            case Meta():
                self._pass_to(record.now_ns)
                self._divide(record.groups)
                self._pairs.totals.divided_ns = record.divided_ns
                self._audit.said = record.configuration

    def restored(self) -> None:
        """Go by what was restored, and put every delivery that was where it belongs."""
        self._restored = True
        if self._lanes.renewed():
            self._go_by_map()
        for entry in self.entries.values():
            self._put(entry)

    def _restore(self, entry: DeliveryState) -> None:
        self._deliveries.restore(entry)
        if self._restored:
            self._put(entry)

    def _put(self, entry: DeliveryState) -> None:
        if entry.open is not None:
            self._opens.add(entry, entry.open, self._queues.limit_key(entry))
        else:
            self._settling.put(entry)

    # -- inputs

    def begin(self, now_ns: int) -> None:
        """Start a round; a clock that went back stands still here."""
        self._pass_to(now_ns)
        self._moving.departed.pass_time(self.now_ns)
        self.orders.refresh(self.now_ns)
        if self._lanes.renewed():
            self._renew()
        if self._divided:
            self._begin_anew()
        self._find_strays()
        self.orders.sweep(self.entries, self._settling.meet)
        for id_ in self.orders.free():
            self._settling.place_anew(self.entries[id_])
        self._hand.receive(self.now_ns)
        self._queues.refresh(self.now_ns)
        if self._dealer is not None and self._dealt_by != self.orders.changes:
            self._dealt_by = self.orders.changes
            self._dealer.overrule(self.orders.limiting())
        for entry in self._deliveries.urgent(self.now_ns):
            self._queues.urge(entry)
        for entry in self._deliveries.over(self.now_ns):
            # An open one is looked at again when it is settled.
            if entry.open is None:
                self._settling.end(entry, "expired", reason="its time was over")

    def on_delivery(self, class_: str, offset: int, record: Delivery) -> None:
        """Take a record of mail.deliveries.``class_``."""
        known = self.entries.get(record.id)
        if known is not None:
            # A copy of a straggler: the log before it may go now. (Or a record read twice: then it is the same offset.)
            if offset > known.offset:
                self._deliveries.lies_at(known, offset)
            return
        if record.again:
            return  # It ended meanwhile, or moved.
        self._lanes.meet(record.map)
        entry = waiting(record, class_, offset)
        rollup = self._deliveries.rollup
        if not record.hop and not rollup.knows(entry.provider):
            # Whoever sent it on has other settings for the moment: two that correct each other would never end.
            rollup.renew(entry)
        self._deliveries.add(entry)
        self._moving.departed.returned(entry.id)
        if retry.expired(entry.expires_ns, self._settling.now_ns):
            self._settling.end(entry, "expired", reason="expired before its first attempt")
        else:
            self._settling.place(entry)

    def on_refused(
        self, class_: str, offset: int, record: Delivery, category: str, reason: str
    ) -> None:
        """Say that a delivery ends here which was not taken, unless it is known, or was and has ended."""
        if record.id not in self.entries and not record.again:
            self._settling.refuse(waiting(record, class_, offset), category, reason)

    def on_lost(self, class_: str, first: int) -> int:
        """Bounce what waits for a record before ``first``, the first offset that is there; gives how many they were, as far as known."""
        parked = self.intake.parking.lost(class_, first)
        oldest = self._deliveries.oldest_offset(class_)
        if oldest is None or oldest >= first:
            return parked  # As good as always, and nobody need look at a million.
        lost = [
            entry
            for entry in self.entries.values()
            if entry.class_ == class_ and entry.offset < first and entry.open is None
        ]
        for entry in lost:
            self._settling.end(
                entry,
                "bounced",
                reason="its record is no longer in mail.deliveries",
                category="internal",
            )
        return len(lost) + parked

    def on_log_time(self, stamp_ns: int) -> None:
        """Take the stamp of a record that was read in mail.outcomes."""
        self.log_time_ns = max(self.log_time_ns, stamp_ns)

    def on_outcome(self, stamp_ns: int, record: Started | Outcome | Handback | Mark) -> None:
        """Take a record of mail.outcomes, stamped ``stamp_ns``."""
        if stamp_ns > self.log_time_ns:  # noqa: PLR1730 - of every record: a call costs more
            self.log_time_ns = stamp_ns
        if isinstance(record, Mark):
            return
        entry = self.entries.get(record.id)
        if entry is None:
            if isinstance(record, Outcome):
                self._moving.follow(record)
            return
        current = entry.open
        if current is None or current.n != record.n:
            if isinstance(record, Outcome):
                self._settling.late(entry, record)
            return
        match record:
            case Started():
                self._settling.started(entry, current, stamp_ns)
            case Outcome():
                self._settling.outcome(entry, current, record)
            case Handback():
                self._settling.handed_back(entry, current, record)

    def on_forwarded(self, late: Late) -> None:
        """Take an outcome that came to the partition where its delivery was before."""
        entry = self.entries.get(late.outcome.id)
        if entry is not None:
            self._settling.late(entry, late.outcome)
        else:
            self._moving.follow(late.outcome, late.hop)

    def on_handed_over(self, record: Handover) -> None:
        """Take a lane from the partition that decided about it before."""
        self._moving.receive(record)
        self._queues.refresh(self.now_ns)

    def on_resolved(self, domain: str, resolution: Resolution) -> None:
        """Take the answer for a domain that ``asking`` gave out."""
        # Where nobody could say, only those whose time it was have asked.
        tried_ns = self.now_ns if isinstance(resolution, NoAnswer) else None
        for id_ in self._settling.unresolved.answered(domain, tried_ns):
            entry = self.entries[id_]
            match resolution:
                case Found(site=site, provider=provider):
                    entry.site, entry.provider, entry.gone_ns = site, provider, None
                    self._deliveries.touch(entry)
                    self._settling.place(entry)
                case Gone():
                    self._settling.gone(entry, resolution)
                case NoAnswer(reason=reason):
                    self._settling.defer(entry, None, reason=reason, category="dns")

    def asking(self) -> list[str]:
        """Give the domains to resolve now, each once."""
        return self._settling.unresolved.asking(self.now_ns)

    def doubted(self, domain: str) -> bool:
        """Say of a domain that ``asking`` gave whether a sender contradicts what was known: an old answer will not do."""
        return self._settling.unresolved.doubted(domain)

    # -- decisions

    def judge(self) -> None:
        """Settle the open grants that log time, or a newer epoch, has settled."""
        for entry, grant, verdict in self._opens.lapsed(self.entries, self.log_time_ns):
            self._settling.lapsed(entry, grant, verdict)

    def plan(self, max_grants: int, max_bytes: int) -> None:
        """Grant what may go now, at most ``max_grants`` and ``max_bytes`` of messages, after as much has moved as must."""
        for entry in self._moving.go(max_grants, max_bytes, self.now_ns):
            self._settling.drop(entry)
            max_grants, max_bytes = max_grants - 1, max_bytes - entry.size_bytes
        if self.now_ns >= self._pins_ns:
            self._pins_ns = self.now_ns + _LOOK_AT_PINS_NS
            for entry in self._queues.stale_pins(self.now_ns):
                entry.pinned = None
                self._deliveries.touch(entry)
                self._settling.place(entry)
        for spilled in self._pairs.spilling.go(self._queues, self.now_ns):
            self._settling.reroute(self.entries[spilled.id], spilled.to)
        for choice in self._queues.choose(self.now_ns, max_grants, max_bytes):
            match choice:
                case Choice(entry=entry):
                    self._open(entry, choice)
                case Over(entry=entry):
                    self._settling.end(entry, "expired", reason="its time was over before its turn")
        self._opens.gathering.learn(self.now_ns)
        self._pairs.tidy(self.now_ns)

    def take(self) -> Decisions:
        """Give everything that was decided since the last call; it must be committed, or this ledger thrown away."""
        dealt = None if self._dealer is None else self._dealer.deal(self.now_ns)
        pairs, totals = self._pairs.take()
        orders, said = self.orders.take()
        audited = self._audit.take(self.now_ns)
        decided = Decisions(
            groups=self._pairs.deciders,
            divided_ns=self._pairs.totals.divided_ns,
            configuration=self._audit.said,
            granted=self._granted,
            events=self._settling.take() + said + self._pair_events() + audited,
            deliveries=self._deliveries.take(),
            parked=self.intake.parking.take(),
            pairs=pairs,
            forgotten=self._pairs.take_forgotten(),
            totals=totals,
            domains=self._pairs.domains.take(),
            warmups=self._pairs.budgets.take_news(),
            spilled=self._pairs.spilling.take_news(),
            orders=orders,
            shares=dealt,
        )
        self._moving.take(decided)
        self._granted = []
        return decided

    def want(self) -> Want | None:
        """Give what is to be asked for of the limits that cross partitions, when it is time to."""
        return self._hand.want(self.now_ns)

    def next_ns(self) -> int:
        """Say when the next round is due although nothing arrives."""
        if self._moving.pending or self._unsought:
            return self.now_ns
        times = (self._deliveries.next_ns(), self._settling.unresolved.next_ns())
        return min(
            [self._queues.next_ns(), self.orders.next_ns(), *(at for at in times if at is not None)]
        )

    def begin_ns(self) -> int:
        """Say when the next round begins although nothing arrives."""
        return begin_ns(self.next_ns(), self.now_ns)

    def gather_ns(self) -> int:
        """Say how long outcomes alone may be gathered before it."""
        return self._opens.gathering.ns

    # -- the middle

    def _pair_events(self) -> list[Event]:
        return [
            pair_event(
                news,
                "" if news.slot is None else self._settings.source_name(news.slot),
                self.now_ns,
            )
            for news in self._pairs.take_news()
        ]

    def _renew(self) -> None:
        """Go by another lane map; what it gives to others, or groups otherwise, is granted no more, and is found portion by portion."""
        self._go_by_map()
        for id_ in self._moving.strays():
            self._settling.place_anew(self.entries[id_])
        self._unsought = self.entries.ids()

    def _find_strays(self) -> None:
        """Let a portion of what waited under the map before go its way, if it is another partition's now."""
        for entry in self._queues.regrouping(_SOUGHT):
            self._settling.put(entry)
        for id_ in self._unsought[-_SOUGHT:]:
            entry = self.entries.get(id_)
            if entry is not None and entry.open is None and not self._moving.belongs(entry):
                self._settling.place_anew(entry)
        del self._unsought[-_SOUGHT:]

    def _go_by_map(self) -> None:
        self._queues.regroup()
        # In the next round: what was restored tells the time of the last one, and others have gone on.
        self._divided = self._divide(len(self._lanes.map.groups)) or self._divided

    def _divide(self, deciders: int) -> bool:
        self._queues.parts.divide(deciders)
        return self._pairs.divide(deciders)

    def _begin_anew(self) -> None:
        """Let each part of a total begin as if all of it had been spent: what was spent in one piece may have been all of the window's."""
        self._divided, totals = False, self._pairs.totals
        totals.divided_ns = self.now_ns
        for name in totals.of_lanes():
            rate = self._queues.parts.rate(name) or self._pairs.total_rate(name)
            if rate is not None:
                totals.begin_anew(name, rate)

    def _pass_to(self, now_ns: int) -> None:
        self._settling.now_ns = max(self.now_ns, now_ns)

    def _open(self, entry: DeliveryState, choice: Choice) -> None:
        entry.n += 1
        grant = entry.open = Open(
            n=entry.n,
            slot=choice.slot,
            epoch=choice.epoch,
            t0_ns=choice.t0_ns,
            t1_ns=choice.t1_ns,
        )
        key = choice.group.limit_key
        pair = self._opens.add(entry, grant, key)
        self._pairs.domains.granted(key, entry, self._settling.now_ns)
        self._deliveries.touch(entry)
        of, heard_ns = pair.heard
        if of != grant.epoch:
            heard_ns = 0
        permission = granted(
            entry, grant, key, choice.limit, heard_ns, self._tls(entry), self.partition
        )
        sites = self._queues.parts.sites
        if sites.wires:
            permission = sites.wired(permission)
        self._granted.append(Granted(entry, permission))
