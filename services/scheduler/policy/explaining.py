"""What keeps each delivery of a partition, out of the ledger's rooms: where it is says which constraints there are (``explain``). Pure.

It only looks. One delivery costs a look through its own line; what a whole queue waits for is told by ``Ledger.reason``, which costs the
same for each.
"""

from dataclasses import dataclass, replace
from typing import Final

from services.scheduler.policy import outlook
from services.scheduler.policy.entries import line_of
from services.scheduler.policy.explain import Constraint, Standing, ahead, ahead_of_tenant, binding
from services.scheduler.policy.group import Group
from services.scheduler.policy.lines import FOREVER, Line
from services.scheduler.policy.orders import Order, Orders
from services.scheduler.policy.pairlimit import HORIZON_NS
from services.scheduler.policy.queues import PIN_PATIENCE_NS, Queues
from services.scheduler.policy.supply import drained_ns
from shared.records.state import DeliveryState
from shared.runtime.settings import Settings

#: What is kept by something else than its limits: what is before it in its line goes on meanwhile.
_ALONE = frozenset({"retry", "not_before"})
#: So many sources are named.
_NAMED: Final = 5
#: In words, what ``Explained.probed`` says.
_PROBED = "if the destination takes the next probe"
#: Of single sources: others of the pool may go on.
_BY_SOURCES = frozenset({"rate", "byte_rate", "warmup", "paused", "suspended", "credit", "due"})


@dataclass(frozen=True, slots=True)
class Explained:
    """The one constraint that binds, and when the delivery goes: None where nobody can say."""

    bound: Constraint
    eta_ns: int | None
    #: How many go before it, where it waits in a queue.
    before: int | None = None
    #: The time rests on a probe that is still to be taken: if it is not, it is the next one's.
    probed: bool = False


@dataclass(frozen=True, slots=True)
class Explaining:
    """Look at one partition."""

    settings: Settings
    queues: Queues
    orders: Orders

    def of(self, entry: DeliveryState, reason: str, now_ns: int) -> Explained:
        """Explain a delivery that is not finished; ``reason``: where it is, as the ledger says."""
        if entry.open is not None:
            began = entry.open.started_ns is not None
            return Explained(
                self._out(entry, reason, now_ns), now_ns if began else max(now_ns, entry.open.t0_ns)
            )
        found = self._own(entry, now_ns)
        group = self.queues.group(entry)
        if reason in ("moving", "held", "dns"):
            found.append(
                Constraint(reason, _place(reason, entry), entry.back_ns or entry.accepted_ns)
            )
        elif group is not None:
            found += self._in(group, entry, reason, now_ns)
        bound = binding(found or [Constraint("due", entry.id, entry.due_ns, now_ns)])
        if reason in _ALONE:
            return self._of_resting(entry, bound, now_ns)
        standing = None if group is None else group.queue.standing(entry.id, now_ns)
        if group is None or standing is None:
            until = bound.until_ns
            return Explained(bound, None if until is None else max(now_ns, until))
        before = ahead(standing)
        if bound.until_ns is None and not bound.by_sources:
            return Explained(bound, None, before)
        # Each source of the pool goes on from when it may; the first of them to may named the reason.
        opens = now_ns if bound.by_sources else max(now_ns, bound.until_ns or 0)
        seen = outlook.of(self.queues, group, before, now_ns, opens)
        goes = self._or_by_another(group, entry, seen.goes_ns, now_ns)
        if goes is None:
            return Explained(bound, None, before)
        probed = seen.probed or self._rests_on_domain(group, entry)
        if probed:
            bound = replace(bound, detail=_PROBED)
        eta = max(goes, opens, self._by_parts(group, entry, standing, now_ns))
        return Explained(bound, max(eta, bound.until_ns or 0), before, probed)

    def _of_resting(self, entry: DeliveryState, bound: Constraint, now_ns: int) -> Explained:
        """Explain one whose time comes: what is in its group by then, and what would be ready before it, goes first."""
        if bound.until_ns is None:
            return Explained(bound, None)
        eta = max(now_ns, bound.until_ns)
        group = self.queues.group_of(entry)
        if group is None and self._is_left(entry):
            eta += PIN_PATIENCE_NS
        if group is not None and not bound.shared:
            standing = group.queue.joining(line_of(entry), now_ns)
            seen = outlook.of(self.queues, group, ahead(standing), now_ns, now_ns)
            goes = self._or_by_another(group, entry, seen.goes_ns, now_ns) or 0
            by_parts = self._by_parts(group, entry, standing, now_ns)
            probed = seen.probed or self._rests_on_domain(group, entry)
            return Explained(bound, max(eta, goes, by_parts), None, probed)
        return Explained(bound, eta)

    def _is_left(self, entry: DeliveryState) -> bool:
        """Say whether the source that a delivery is tied to is away, and another of its pool is there."""
        queues = self.queues
        if entry.pinned is None or entry.pinned in queues.sources.live:
            return False
        slots = queues.map.group(entry.pool, entry.to)
        return bool(queues.sources.reach(entry.pool, entry.provider, slots).live)

    def _or_by_another(
        self, group: Group, entry: DeliveryState, goes_ns: int | None, now_ns: int
    ) -> int | None:
        """Say when a delivery goes that waits for one source alone: if that may not send for long, another takes it."""
        slot = group.pinned
        if slot is None:
            return goes_ns
        reach = self.queues.sources.reach(group.pool, group.provider, group.slots)
        warming = self.queues.pairs.budgets.standing(group.limit_key, slot, now_ns) is not None
        alone = all(other == slot for other, _ in reach.live)
        if alone or not (warming or self.queues.forsaken(group)):
            return goes_ns
        by_another = max(now_ns, entry.due_ns + PIN_PATIENCE_NS)
        return by_another if goes_ns is None else min(goes_ns, by_another)

    def _by_parts(self, group: Group, entry: DeliveryState, standing: Standing, now_ns: int) -> int:
        """Say when the limits of its tenant and its sending domain let a delivery go."""
        line, goes = line_of(entry), now_ns
        before = ahead_of_tenant(standing)
        for each in self.queues.parts.bounds(group.limit_key, line, now_ns):
            others = (
                self.queues.groups() if each.everywhere else self.queues.of_key(group.limit_key)
            )
            beside = sum(
                min(other.queue.waiting(line.class_, line.tenant), before + 1)
                for other in others
                if other is not group
            )
            goes = max(goes, each.first_ns + (before + beside) * each.interval_ns)
        return max(goes, self._by_domain(group, line, before, now_ns))

    def _rests_on_domain(self, group: Group, entry: DeliveryState) -> bool:
        domains = self.queues.pairs.domains
        return domains.probes(group.limit_key, line_of(entry).domain)

    def _by_domain(self, group: Group, line: Line, before: int, now_ns: int) -> int:
        """Say when the pace of its sending domain lets a delivery go, before which ``before`` of its tenant go from its group."""
        key = group.limit_key
        supply = self.queues.pairs.domains.supply(key, line.domain, now_ns)
        if not supply:
            return now_ns
        others = (other for other in self.queues.of_key(key) if other is not group)
        beside = sum(
            min(other.queue.waiting(line.class_, line.tenant), before + 1) for other in others
        )
        return drained_ns(supply, before + beside) or now_ns

    def _out(self, entry: DeliveryState, reason: str, now_ns: int) -> Constraint:
        if entry.open is None:
            raise ValueError(f"{entry.id} is not out")
        source = self.settings.source_of(entry.open.slot)
        # It is granted ahead of its time: that is no time since when.
        since = entry.open.started_ns or (entry.open.t0_ns if entry.open.t0_ns <= now_ns else None)
        return Constraint(reason, source.name if source else f"slot {entry.open.slot}", since)

    def _own(self, entry: DeliveryState, now_ns: int) -> list[Constraint]:
        """List what keeps this delivery and not those beside it: its time, and pauses."""
        found: list[Constraint] = []
        if entry.due_ns > now_ns:
            reason = "retry" if entry.n else "not_before"
            found.append(
                Constraint(reason, entry.id, entry.back_ns or entry.accepted_ns, entry.due_ns)
            )
        pause = self.orders.pause(entry)
        if pause is not None:
            found.append(_paused(pause))
        return found

    def _in(self, group: Group, entry: DeliveryState, reason: str, now_ns: int) -> list[Constraint]:
        """List what keeps the group, or the line in it, that the delivery waits in."""
        shut = group.queue.shut(line_of(entry))
        if shut is not None and shut.why != "directive":
            line = line_of(entry)
            scope = "/".join(
                part for part in (line.tenant, line.class_, line.stream, line.domain) if part
            )
            return [Constraint(shut.why, scope, None, shut.until_ns, shared=True)]
        if reason in _ALONE or self.orders.pause(entry) is not None:
            return []
        until: int | None = group.wake_ns
        if group.reason == "credit":
            until = None
        elif until is None or until >= FOREVER:
            until = self._or_by_another(group, entry, None, now_ns)
        elif group.reason in ("rate", "byte_rate", "total_rate", "warmup"):
            # It is granted so long before it goes.
            until += HORIZON_NS
            until = self._or_by_another(group, entry, until, now_ns)
        if group.reason == "due":
            until = now_ns
        scope = f"{group.limit_key} from pool {group.pool}"
        return [
            Constraint(
                group.reason,
                scope,
                group.since_ns or None,
                until,
                detail=self._lacking(group) if group.reason == "no_source" else "",
                shared=True,
                by_sources=group.reason in _BY_SOURCES,
            )
        ]

    def _lacking(self, group: Group) -> str:
        """Say what a group without a source lacks: what an operator must do differs."""
        if group.pool not in self.settings.pools:
            return "no such pool is configured: reroute it, or expect it to expire"
        sources = self.queues.sources
        slots = [slot for slot, _ in sources.reach(group.pool, group.provider, group.slots).all]
        if not slots:
            return "none of its sources reaches the destination"
        named = slots if group.pinned is None else [group.pinned]
        names = sorted(
            source.name for slot in named if (source := self.settings.source_of(slot)) is not None
        )
        return "no sender has " + ", ".join(names[:_NAMED]) + (", …" if names[_NAMED:] else "")


def _paused(pause: Order) -> Constraint:
    directive = pause.directive
    return Constraint(
        "directive",
        str(directive.selector),
        pause.stamp_ns,
        directive.expires_ns,
        detail=f"{directive.id}, {pause.why}",
        shared=True,
    )


def _place(reason: str, entry: DeliveryState) -> str:
    return {"dns": entry.domain}.get(reason, entry.id)
