"""What an answer does to a delivery: it ends, or waits for its next attempt. Pure.

    outcome, lost lease, hand-back, late outcome, no MX  ->  final event | event and another time | the same place again

Settling closes the open grant first. What is not the delivery's fault (a pair that failed, a grant that did not begin) puts it back as it
was; a deferral or an unknown outcome is counted, said, and planned by its class's policy.
"""

import random

from services.scheduler.policy import retry
from services.scheduler.policy.announce import event
from services.scheduler.policy.decisions import Gone
from services.scheduler.policy.deliveries import Deliveries
from services.scheduler.policy.lease import Verdict, counts_as_started
from services.scheduler.policy.moving import Moving
from services.scheduler.policy.opens import OpenGrants
from services.scheduler.policy.orders import Order, Orders
from services.scheduler.policy.pairs import Pairs
from services.scheduler.policy.queues import Queues
from services.scheduler.policy.unresolved import Unresolved
from shared.records.control import Directive
from shared.records.event import Event, EventType
from shared.records.outcome import Handback, Outcome
from shared.records.state import DeliveryState, Open
from shared.runtime.settings import Settings

# NXDOMAIN bounces after a second answer this much later: one wrong answer of one server must not bounce mail.
_ASK_AGAIN_NS = 60_000_000_000
# Where the name servers answer now so and now so, mail must not go to and fro as fast as Kafka allows.
_MOVED_NS = 5_000_000_000
_MS = 1_000_000


class Settling:
    """Settle deliveries at ``now_ns``, which the ledger sets when a round begins."""

    def __init__(
        self,
        settings: Settings,
        rng: random.Random,
        deliveries: Deliveries,
        opens: OpenGrants,
        pairs: Pairs,
        queues: Queues,
        moving: Moving,
        orders: Orders,
    ) -> None:
        """Work on the ledger's own rooms."""
        self.now_ns = 0
        self._orders = orders
        self.unresolved = Unresolved()
        self._settings, self._rng = settings, rng
        self._deliveries, self._opens, self._pairs, self._queues = deliveries, opens, pairs, queues
        self._moving = moving
        self._events: list[Event] = []

    def take(self) -> list[Event]:
        """Give what was said since the last call."""
        events, self._events = self._events, []
        return events

    # -- answers

    def started(self, entry: DeliveryState, grant: Open, stamp_ns: int) -> None:
        """Keep that the attempt has begun, if the stamp says that it counts."""
        if grant.started_ns is None and counts_as_started(grant, stamp_ns):
            self._opens.started(entry, grant, stamp_ns)
            self._deliveries.touch(entry)

    def outcome(self, entry: DeliveryState, grant: Open, outcome: Outcome) -> None:
        """Settle the attempt that ``outcome`` names."""
        key = self._opens.close(entry, grant)
        pairs, now_ns = self._pairs, self.now_ns
        if pairs.hear(entry, key, grant, outcome, now_ns):
            self._queues.wake(key)
        if pairs.domains.hear(entry, key, grant, outcome, now_ns):
            self._queues.reopen(now_ns, key)
        match outcome.result:
            case "delivered" | "bounced":
                # It was open, so it waits nowhere.
                said = event(
                    outcome.result,
                    entry,
                    now_ns,
                    final=True,
                    outcome=outcome,
                    source=self._settings.source_name(outcome.slot),
                    relayed=self._settings.smarthost(entry.pool) is not None,
                )
                self._events.append(said)
                self._deliveries.drop(entry)
            case "pair_failed":
                self.replan(entry, self.now_ns)
            case "deferred":
                self.defer(entry, outcome)
            case "unknown":
                self._unknown(entry, outcome)

    def handed_back(self, entry: DeliveryState, grant: Open, said: Handback) -> None:
        """Put a delivery back whose grant was not begun."""
        self._close(entry, grant)
        if said.reason != "moved":
            self.replan(entry, self.now_ns)
            return
        entry.site, entry.provider = None, None
        self.unresolved.doubt(entry.domain)
        self.replan(entry, self.now_ns + _MOVED_NS)

    def lapsed(self, entry: DeliveryState, grant: Open, verdict: Verdict) -> None:
        """Settle an attempt that nobody can answer for any more."""
        if verdict is Verdict.NOT_STARTED:
            self._close(entry, grant)
            self.replan(entry, self.now_ns)
            return
        lost = Outcome(
            id=entry.id,
            n=grant.n,
            slot=grant.slot,
            epoch=grant.epoch,
            result="unknown",
            category="lease",
        )
        self.outcome(entry, grant, lost)

    def late(self, entry: DeliveryState, outcome: Outcome) -> None:
        """Let a late answer of an older attempt settle a delivery that has none yet."""
        key = self._queues.limit_key(entry)
        self._pairs.heard(key, outcome.slot, outcome)
        # A host that says nothing may be waited for longer than a lease lasts: its pair must be paused all the same.
        if outcome.result == "pair_failed" and self._pairs.hear(
            entry, key, self._granted(outcome), outcome, self.now_ns
        ):
            self._queues.wake(key)
        started = entry.open is not None and entry.open.started_ns is not None
        if outcome.result == "delivered" or (outcome.result == "bounced" and not started):
            if entry.open is not None:
                self._close(entry, entry.open)
            self.end(entry, outcome.result, outcome=outcome)

    def _granted(self, outcome: Outcome) -> Open:
        """Give the grant of an answer that came too late for it, as early as it can have been."""
        ms = outcome.wire.ms.values() if outcome.wire is not None else ()
        t0_ns = self.now_ns - sum(ms) * _MS - self._settings.timing.lease_ns
        return Open(n=outcome.n, slot=outcome.slot, epoch=outcome.epoch, t0_ns=t0_ns, t1_ns=t0_ns)

    def gone(self, entry: DeliveryState, gone: Gone) -> None:
        """Bounce a delivery whose domain takes no mail, where that is sure."""
        asked = entry.gone_ns
        if not gone.at_once and (asked is None or self.now_ns < asked + _ASK_AGAIN_NS):
            entry.gone_ns = self.now_ns if asked is None else asked
            self.replan(entry, entry.gone_ns + _ASK_AGAIN_NS)
            return
        self.end(entry, "bounced", reason=f"{gone.enhanced} {gone.reason}", category="dns")

    # -- what follows

    def defer(
        self, entry: DeliveryState, outcome: Outcome | None, *, reason: str = "", category: str = ""
    ) -> None:
        """Count a deferral, say it, and plan the next attempt."""
        due = retry.after_deferral(entry, outcome, self.now_ns, self._settings, self._rng)
        self._say("deferred", entry, outcome=outcome, reason=reason, category=category, next_ns=due)
        self.replan(entry, due)

    def _unknown(self, entry: DeliveryState, outcome: Outcome) -> None:
        match retry.after_unknown(entry, self.now_ns, self._settings, self._rng):
            case retry.TryAgain(due_ns=due):
                self._say("unknown", entry, outcome=outcome, next_ns=due)
                self.replan(entry, due)
            case retry.Keep():
                self._say("unknown", entry, outcome=outcome, reason="held for an operator")
                self._hold(entry)
            case retry.Finish(kind=kind):
                self.end(entry, kind, outcome=outcome, reason="the outcome is unknown")

    def _hold(self, entry: DeliveryState) -> None:
        """Keep a delivery for an operator, unless its time is over, or what was ordered while it was out ends it."""
        self._deliveries.rollup.renew(entry)
        self._deliveries.touch(entry)
        if retry.expired(entry.expires_ns, self.now_ns):
            # Nobody looks at its time again: that was done while it was out.
            self.end(entry, "expired", reason="its time was over")
            return
        # An order to let it go was given before anybody knew that it is held: only a later one does.
        orders = self._orders.applicable(entry)
        if all(self._obey(entry, order) for order in orders):
            entry.held = True
            self.put(entry)

    def replan(self, entry: DeliveryState, due_ns: int) -> None:
        """Let the delivery wait until ``due_ns``, unless its time is over."""
        entry.due_ns, entry.back_ns = due_ns, self.now_ns
        self._deliveries.rollup.renew(entry)
        self._deliveries.touch(entry)
        if retry.expired(entry.expires_ns, self.now_ns):
            self.end(entry, "expired", reason="its time was over")
        else:
            self.place(entry)

    def place(self, entry: DeliveryState) -> None:
        """Let a delivery that comes, or comes back, wait where it belongs, unless an order ends it."""
        orders = self._orders.applicable(entry)
        if not orders or all(self._obey(entry, order) for order in orders):
            self.put(entry)

    def put(self, entry: DeliveryState) -> None:
        """Let the delivery wait where it belongs; for its way, if another partition decides about it."""
        if not self._moving.stays(entry) or entry.held:
            return
        if entry.site is None and self._settings.smarthost(entry.pool) is None:
            self.unresolved.add(entry, self.now_ns)
        else:
            self._queues.add(entry)

    def meet(self, entry: DeliveryState, order: Order) -> None:
        """Do an order to a delivery that it is about, where that waits; one that is out is met when it is back."""
        if not order.once:
            self._orders.hit(order)
        elif entry.open is None:
            self.take_out(entry)
            self.place(entry)
        elif order.action == "rush":
            # It is tried already: what comes of that is not to be hurried again.
            entry.ordered = max(entry.ordered, order.offset)
            self._deliveries.touch(entry)

    def _obey(self, entry: DeliveryState, order: Order) -> bool:
        """Do what was ordered once to a delivery that waits nowhere; False: it has ended."""
        directive = order.directive
        if directive.action == "reroute" and directive.pool not in self._settings.pools:
            return True  # Another configuration is meant: better late than nowhere.
        self._orders.hit(order)
        if directive.action in ("cancel", "expire"):
            kind: EventType = "cancelled" if directive.action == "cancel" else "expired"
            self.end(entry, kind, reason=order.why, category="directive", by=directive)
            return False
        entry.ordered = order.offset
        self._deliveries.touch(entry)
        if directive.action == "reroute" and directive.pool is not None:
            entry.pool, entry.pinned = directive.pool, None
        elif directive.action == "rush":
            self._rush(entry, by_id=directive.delivery is not None)
        return True

    def _rush(self, entry: DeliveryState, *, by_id: bool) -> None:
        """Cut the wait for a retry short; never what the platform asked for, nor what greylisting does."""
        if entry.held and by_id:
            # Nobody knows whether it was delivered: only an order that means this very one may risk another copy.
            entry.held, entry.due_ns = False, self.now_ns
        if entry.n:
            least = entry.not_before_ns
            if entry.pinned is not None:
                least = max(least, entry.back_ns + self._settings.timing.greylist_min_ns)
            entry.due_ns = min(entry.due_ns, max(self.now_ns, least))

    def end(
        self,
        entry: DeliveryState,
        kind: EventType,
        *,
        outcome: Outcome | None = None,
        reason: str = "",
        category: str = "",
        by: Directive | None = None,
    ) -> None:
        """Say the final event and forget the delivery; ``by``: the order that ended it."""
        self._say(kind, entry, outcome=outcome, reason=reason, category=category, final=True, by=by)
        self.drop(entry)

    def refuse(self, entry: DeliveryState, category: str, reason: str) -> None:
        """Say the final event of a delivery that was never taken; it asks no settings, which may be what the delivery breaks."""
        refused = event(
            "rejected", entry, self.now_ns, final=True, category=category, reason=reason
        )
        self._events.append(refused)

    def drop(self, entry: DeliveryState) -> None:
        """Forget a delivery."""
        self.take_out(entry)
        self._deliveries.drop(entry)

    def reroute(self, entry: DeliveryState, pool: str) -> None:
        """Let a delivery that was just taken out of its queue go by another pool from now on."""
        self.take_out(entry)
        entry.pool, entry.pinned = pool, None
        self._deliveries.touch(entry)
        self.place(entry)

    def place_anew(self, entry: DeliveryState) -> None:
        """Take the delivery out of where it waits: it may belong somewhere else now.

        Orders are left to their sweep: there is no bound on how many are placed anew in a round.
        """
        self.take_out(entry)
        self.put(entry)

    def take_out(self, entry: DeliveryState) -> None:
        """Take the delivery out of where it waits."""
        self._queues.remove(entry)
        self._orders.forget(entry)
        self.unresolved.remove(entry)
        self._moving.remove(entry)

    def _close(self, entry: DeliveryState, grant: Open) -> None:
        self._opens.close(entry, grant)
        self._deliveries.touch(entry)

    def _say(
        self,
        kind: EventType,
        entry: DeliveryState,
        *,
        outcome: Outcome | None = None,
        reason: str = "",
        category: str = "",
        final: bool = False,
        next_ns: int | None = None,
        by: Directive | None = None,
    ) -> None:
        self._events.append(
            event(
                kind,
                entry,
                self.now_ns,
                final=final,
                outcome=outcome,
                source=self._settings.source_name(outcome.slot) if outcome else "",
                reason=reason,
                category=category,
                relayed=self._settings.smarthost(entry.pool) is not None,
                next_ns=next_ns,
                by=by,
            )
        )
