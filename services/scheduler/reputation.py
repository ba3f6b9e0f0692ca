"""Tell operators what destinations make of sources: log lines of what changed, gauges of how it stands.

A reply's text may name somebody, so it is in the event alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily
from structlog.typing import FilteringBoundLogger

from services.scheduler.policy import health
from services.scheduler.policy.pairs import Pairs
from shared.records.event import Event
from shared.runtime.metrics import family
from shared.runtime.settings import Settings

if TYPE_CHECKING:
    from shared.records.health import Health

_S: Final = 1_000_000_000
_MINUTES_A_DAY: Final = 1440
_KINDS: Final = ("slowed", "suspended", "resumed")


def tell_reputation(log: FilteringBoundLogger, partition: int, events: Iterable[Event]) -> None:
    """Log the events of a committed round that are about a source or a sending domain."""
    for event in events:
        if event.type not in _KINDS:
            continue
        fields = {
            "partition": partition,
            "destination": event.provider or event.site,
            "source": event.source,
            "domain": event.domain,
            "category": event.category,
            "until": event.until,
        }
        if event.reply is not None:
            fields |= {"code": event.reply.code, "enhanced": event.reply.enhanced}
        match event.type:
            case "slowed":
                log.info("source_slowed", **fields)
            case "suspended":
                log.warning("source_refused", fix=event.fix, **fields)
            case _:
                log.info("source_resumed", **fields)


def reputation_gauges(
    settings: Settings, several: Sequence[Pairs], now_ns: int
) -> Iterable[GaugeMetricFamily]:
    """Give the gauges of what the pairs of all partitions here have learnt."""
    return *_back_off(settings, several, now_ns), *_health(settings, several, now_ns)


def _back_off(
    settings: Settings, several: Sequence[Pairs], now_ns: int
) -> Iterable[GaugeMetricFamily]:
    """Show what warnings have left of pairs; pairs without one are not shown."""
    labels = ("limit_key", "source")
    until = family(
        "pair_suspended_until_seconds",
        "When a suspended or stopped pair goes on, or is probed, epoch seconds",
        labels,
    )
    rate = family("pair_slowed_rate_per_minute", "What a warned pair may do", labels)
    connections = family(
        "pair_slowed_connections", "Connections that a warned pair may have", labels
    )
    domains = family(
        "domain_suspended_until_seconds",
        "When a stopped sending domain goes on, or a suspended one is probed, epoch seconds",
        ("limit_key", "domain"),
    )
    domain_rate = family(
        "domain_slowed_rate_per_minute",
        "What a sending domain may do that was warned",
        ("limit_key", "domain"),
    )
    for pairs in several:
        for key, domain, until_ns in pairs.domains.suspended(now_ns):
            domains.add_metric((key, domain), until_ns / _S)
        for key, domain, level in pairs.domains.slowed():
            domain_rate.add_metric((key, domain), level / _MINUTES_A_DAY)
        for key, slot, until_ns in pairs.suspended(now_ns):
            until.add_metric((key, _source(settings, slot)), until_ns / _S)
        for key, slot, per_day, most in pairs.slowed():
            which = key, _source(settings, slot)
            if per_day is not None:
                rate.add_metric(which, per_day / _MINUTES_A_DAY)
            connections.add_metric(which, most)
    return until, domains, domain_rate, rate, connections


def _health(
    settings: Settings, several: Sequence[Pairs], now_ns: int
) -> Iterable[GaugeMetricFamily]:
    """Show how sources fare at providers; sites without one are taken together."""
    found: defaultdict[tuple[str, str], list[Health]] = defaultdict(list)
    for pairs in several:
        for key, slot, state in pairs.healths(now_ns):
            named = key in settings.providers or key.startswith("smarthost:")
            found[key if named else "other", _source(settings, slot)].append(state)
    answers = family(
        "source_answers", "Answers that the source's health is of", ("provider", "source")
    )
    share = family(
        "source_health",
        "What became of them, as shares from 0 to 1",
        ("provider", "source", "what"),
    )
    for which, states in found.items():
        rates = health.rates(states)
        answers.add_metric(which, rates.answers)
        for what, value in (
            ("delivered", rates.delivered),
            ("deferred", rates.deferred),
            ("blocked", rates.blocked),
            ("complained", rates.complained),
        ):
            share.add_metric((*which, what), value)
    return answers, share


def _source(settings: Settings, slot: int) -> str:
    source = settings.source_of(slot)
    return source.name if source else str(slot)
