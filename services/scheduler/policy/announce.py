"""Events out of a delivery's state, of what was done of an order, and of what a destination made of a source: pure, one function each."""

from typing import Literal

from msgspec.structs import replace

from services.scheduler.policy.learning import PairNews
from shared.records.control import Directive
from shared.records.event import Configured, Event, EventType, Ordering
from shared.records.outcome import Outcome
from shared.records.state import DeliveryState, OrderState
from shared.records.times import rfc3339

_MS = 1_000_000
_SAID = {
    "slowed": "the destination says that it is too much",
    "suspended": "the destination refuses it",
    "resumed": "its probes were taken",
}


def event(
    kind: EventType,
    delivery: DeliveryState,
    now_ns: int,
    *,
    final: bool,
    outcome: Outcome | None = None,
    source: str = "",
    reason: str = "",
    category: str = "",
    relayed: bool = False,
    next_ns: int | None = None,
    by: Directive | None = None,
) -> Event:
    """Say what happened to ``delivery`` at ``now_ns``; the wire's part comes from ``outcome``."""
    # An event of each delivery is written, and each field that is named costs: so none is, and what most say nothing of is replaced.
    attempt, reply, wire, scope = None, None, None, ""
    if outcome is not None:
        attempt, reply, wire = f"{outcome.id}:{outcome.n}", outcome.reply, outcome.wire
        category, scope = category or outcome.category, outcome.scope
    said = Event(
        kind,
        final,
        rfc3339(now_ns),
        delivery.submission,
        delivery.tenant,
        delivery.class_,
        delivery.id,
        delivery.to,
        delivery.from_,
        attempt,
        delivery.provider,
        delivery.site,
        delivery.pool,
        delivery.stream,
        delivery.tags,
        source,
        reply,
        wire,
        category,
        scope,
        # Whole milliseconds, rounded.
        (now_ns - delivery.accepted_ns + _MS // 2) // _MS / 1_000,
    )
    if not (reason or relayed or delivery.unknowns or by) and next_ns is None:
        return said
    return replace(
        said,
        reason=reason,
        next_attempt=rfc3339(next_ns) if next_ns is not None else None,
        relayed=relayed and kind == "delivered",
        maybe_duplicate=kind == "delivered" and delivery.unknowns > 0,
        order=Ordering(id=by.id, action=by.action, author=by.author) if by else None,
    )


def directive_event(
    state: OrderState,
    phase: Literal["done", "ended"],
    partition: int,
    now_ns: int,
    newer: Directive | None = None,
) -> Event:
    """Say that ``partition`` has done an order, or that it has ended there: ``newer`` is the one that ended it."""
    reason = state.reason
    if phase == "ended":
        reason = "its time was over"
        if newer is not None:
            reason = f"{newer.action} by {newer.author}: {newer.reason}"
    return Event(
        type="directive",
        final=False,
        time=rfc3339(now_ns),
        submission="",
        tenant="",
        reason=reason,
        order=Ordering(
            id=state.id,
            action=state.action,
            author=state.author,
            selector=state.selector,
            phase=phase,
            hits=state.hits,
            partition=partition,
        ),
    )


def pair_event(news: PairNews, source: str, now_ns: int) -> Event:
    """Say what a destination made of a source, or of a sending domain; nothing of the delivery that it was answered to."""
    outcome = news.outcome
    return Event(
        type=news.kind,
        final=False,
        time=rfc3339(now_ns),
        submission="",
        tenant=news.tenant,
        provider=news.provider,
        site=news.key if news.provider is None else None,
        source=source,
        reply=outcome.reply if news.kind != "resumed" else None,
        category=outcome.category if news.kind != "resumed" else "",
        scope=outcome.scope if news.kind != "resumed" else "",
        reason=news.because or _SAID[news.kind],
        until=rfc3339(news.until_ns) if news.until_ns is not None else None,
        fix=news.fix,
        domain=news.domain,
    )


def configured_event(configured: Configured, now_ns: int) -> Event:
    """Say which configuration is gone by."""
    return Event(
        type="configured",
        final=False,
        time=rfc3339(now_ns),
        submission="",
        tenant="",
        reason=configured.reason,
        configured=configured,
    )


def event_key(event: Event) -> bytes:
    """Give the key under which the events of one thing keep their order: a delivery, a submission, an operator's order, a source."""
    if event.configured is not None:
        return b"configuration"
    of = event.delivery or event.submission or (event.order.id if event.order else "")
    return (of or f"{event.provider or event.site}/{event.domain or event.source}").encode()
