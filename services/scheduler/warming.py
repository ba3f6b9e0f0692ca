"""What people hear and see of warm-ups and of mail that spills over: lines in the log, and the gauges."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from structlog.typing import FilteringBoundLogger

from services.scheduler.policy.budgets import WarmupNews
from services.scheduler.policy.spilling import Spilled
from services.scheduler.policy.warmup import Stage, Status
from services.scheduler.policy.whose import BUCKET
from shared.records.state import SpillState
from shared.runtime.metrics import family
from shared.runtime.settings import Settings

_STAGES: Final[tuple[Stage, ...]] = ("warming", "held", "stepped_back", "warm")


def tell_warmups(log: FilteringBoundLogger, settings: Settings, news: Iterable[WarmupNews]) -> None:
    """Log each."""
    for item in news:
        fields = {
            "limit_key": item.key,
            "source": _name(settings, item.slot),
            "day": item.status.day,
            "budget": item.status.budget,
        }
        match item.kind:
            case "held":
                log.warning("warmup_held", **fields)
            case "stepped_back":
                log.warning("warmup_stepped_back", **fields)
            case "resumed":
                log.info("warmup_resumed", **fields)
            case "warm":
                log.info("warmup_done", **fields)
            case "begun_again":
                log.warning("warmup_begun_again", **fields)


def tell_spilled(log: FilteringBoundLogger, spilled: Iterable[Spilled]) -> None:
    """Log how much went from which pool to which, for each destination."""
    for (key, pool, to), count in Counter(
        (each.key, each.pool, each.to) for each in spilled
    ).items():
        log.warning("spilled_over", limit_key=key, pool=pool, to_pool=to, deliveries=count)


def spill_gauge(found: Iterable[tuple[str, str, SpillState]]) -> GaugeMetricFamily:
    """Show what spilled today; the buckets of sites are shown together, as ``other``."""
    gauge = family("spilled_today", "Deliveries that spilled over today", ("provider", "pool"))
    sums: Counter[tuple[str, str]] = Counter()
    for key, pool, counts in found:
        sums["other" if key.startswith(BUCKET) else key, pool] += counts.spilled
    for labels, count in sums.items():
        gauge.add_metric(labels, count)
    return gauge


def warmup_gauges(
    settings: Settings, found: Iterable[tuple[str, int, Status]]
) -> Iterable[GaugeMetricFamily]:
    """Show each budget; the buckets of sites are shown together, as ``other``."""
    labels = ("provider", "source")
    budgets = family("warmup_budget", "Messages that a source may send today", labels)
    used = family("warmup_used", "Messages of it that were granted", labels)
    days = family("warmup_day", "Day of the schedule, 1 is the first", labels)
    stages = family("warmup_state", "Budgets in this state", (*labels, "state"))
    sums: Counter[tuple[str, str, str]] = Counter()
    for key, slot, status in found:
        provider = "other" if key.startswith(BUCKET) else key
        which = provider, _name(settings, slot)
        sums[*which, status.stage] += 1
        if status.stage != "warm":
            sums[*which, "budget"] += status.budget
            sums[*which, "used"] += status.used
            first = sums[*which, "day"] or status.day
            sums[*which, "day"] = min(first, status.day)
    for (provider, source, what), value in sums.items():
        of = {"budget": budgets, "used": used, "day": days}.get(what)
        if of is not None:
            of.add_metric((provider, source), value)
    for provider, source in {(provider, source) for provider, source, _ in sums}:
        for stage in _STAGES:
            stages.add_metric((provider, source, stage), sums[provider, source, stage])
    return budgets, used, days, stages


def _name(settings: Settings, slot: int) -> str:
    source = settings.source_of(slot)
    return source.name if source is not None else str(slot)
