"""The scheduler's gauges: what waits and why, what is out, how far behind, which slots have nobody; asked when somebody scrapes.

A scrape within two seconds of the last gets the same answer. What waits is counted by the ``census``.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import prometheus_client
from prometheus_client.core import GaugeMetricFamily

from services.scheduler.census import Census
from services.scheduler.reputation import reputation_gauges
from services.scheduler.warming import spill_gauge, warmup_gauges
from services.scheduler.worker import Worker
from shared.protocol.control import ControlView
from shared.records.event import Event
from shared.runtime.clock import Clock
from shared.runtime.metrics import Metrics, family
from shared.runtime.settings import Settings

_S: Final = 1_000_000_000
_KEEP_NS: Final = 2 * _S


@dataclass(slots=True)
class Gauges:
    """Ask the workers of this process."""

    metrics: Metrics
    settings: Settings
    clock: Clock
    workers: Mapping[int, Worker]
    view: ControlView
    census: Census
    _events: prometheus_client.Counter = field(init=False)
    _families: list[GaugeMetricFamily] = field(default_factory=list)
    _counted_ns: int = -_KEEP_NS

    def __post_init__(self) -> None:
        """Register."""
        self.metrics.collect(self._collect)
        labels = ("type", "class", "provider", "source")
        self._events = self.metrics.counter("events", "Events said, by type", labels)

    def count(self, event: Event) -> None:
        """Count an event that was committed."""
        self._events.labels(event.type, event.class_, event.provider or "other", event.source).inc()

    def _collect(self) -> Iterable[GaugeMetricFamily]:
        now = self.clock.mono_ns()
        if now - self._counted_ns >= _KEEP_NS:
            self._families = [
                *self._deliveries(),
                *self._partitions(),
                self._pauses(),
                *self._reputation(),
                *self._vacant(),
                *self._warmups(),
            ]
            self._counted_ns = now
        return self._families

    def _deliveries(self) -> Iterable[GaugeMetricFamily]:
        tally = self.census.tally()
        if tally is None:
            return []
        counts = Counter[tuple[str, str, str]]()
        oldest: defaultdict[tuple[str, str, str], int] = defaultdict(lambda: 1 << 62)
        for (class_, provider, reason), count in tally.counts.items():
            which = class_, provider or "other", reason
            counts[which] += count
            oldest[which] = min(oldest[which], tally.oldest[class_, provider, reason])
        for worker in self.workers.values():
            for unit, count in worker.ledger.intake.parking.counts():
                known = unit.destination in self.settings.providers
                counts[unit.class_, unit.destination if known else "other", "parked"] += count
        labels = ("class", "provider", "reason")
        waiting = family(
            "deliveries", "Deliveries without a final event, by what they wait for", labels
        )
        ages = family("deliveries_oldest_age_seconds", "Age of the oldest of them", labels)
        now = self.clock.now_ns()
        for which, count in counts.items():
            waiting.add_metric(which, count)
            if which in oldest:
                ages.add_metric(which, (now - oldest[which]) / _S)
        grants = family("grants_out", "Grants that are not settled", ("provider", "source"))
        for (provider, slot), count in tally.out.items():
            source = self.settings.source_of(slot)
            grants.add_metric((provider or "other", source.name if source else str(slot)), count)
        unknowns = family(
            "deliveries_unknown",
            "Deliveries that had an unknown outcome and no final event yet",
            (),
        )
        unknowns.add_metric((), tally.unknown)
        ready = family(
            "grantable", "Deliveries that only lack a sender with room for them", ("pool",)
        )
        # A pool without any is said, too: an autoscaler must not take "none" for "not known".
        for pool in dict.fromkeys([*self.settings.pools, *tally.grantable]):
            count = tally.grantable[pool]
            ready.add_metric((pool,), count)
        return waiting, ages, grants, unknowns, ready

    def _partitions(self) -> Iterable[GaugeMetricFamily]:
        age = family("commit_age_seconds", "Time since the partition's last commit", ("partition",))
        offset = family(
            "clock_offset_seconds",
            "The clock against the broker's, as the marks show it",
            ("partition",),
        )
        lag = family("lag_seconds", "How far log time is behind the clock", ("partition",))
        now = self.clock.now_ns()
        for number, worker in self.workers.items():
            label = (str(number),)
            if worker.committed_ns is not None:
                age.add_metric(label, (now - worker.committed_ns) / _S)
            if worker.clock.bound is not None:
                offset.add_metric(
                    label, (worker.clock.bound.low_ns + worker.clock.bound.high_ns) / 2 / _S
                )
            if worker.ledger.log_time_ns:
                lag.add_metric(label, max(0.0, (now - worker.ledger.log_time_ns) / _S))
        return age, offset, lag

    def _pauses(self) -> GaugeMetricFamily:
        paused = family(
            "pair_paused_until_seconds",
            "When a paused pair is probed, epoch seconds",
            ("limit_key", "source"),
        )
        for worker in self.workers.values():
            for key, slot, until in worker.ledger.pauses():
                source = self.settings.source_of(slot)
                paused.add_metric((key, source.name if source else str(slot)), until / _S)
        return paused

    def _warmups(self) -> Iterable[GaugeMetricFamily]:
        found = (each for worker in self.workers.values() for each in worker.ledger.warmups())
        spills = (each for worker in self.workers.values() for each in worker.ledger.spills())
        return *warmup_gauges(self.settings, found), spill_gauge(spills)

    def _reputation(self) -> Iterable[GaugeMetricFamily]:
        pairs = [worker.ledger.pairs for worker in self.workers.values()]
        return reputation_gauges(self.settings, pairs, self.clock.now_ns())

    def _vacant(self) -> Iterable[GaugeMetricFamily]:
        vacant = family("slot_vacant", "1 where no sender is ready for the source", ("source",))
        pools = family("pool_sources", "Sources of a pool, by state", ("pool", "state"))
        fresh, now = self.settings.timing.fresh_ns, self.clock.now_ns()
        alone = set()
        for source in self.settings.sources.values():
            nobody = self.view.live_epoch(source.slot, now, fresh) is None
            vacant.add_metric((source.name,), nobody)
            if nobody:
                alone.add(source.name)
        for pool in self.settings.pools.values():
            lacking = len(alone & pool.sources.keys())
            pools.add_metric((pool.name, "vacant"), lacking)
            pools.add_metric((pool.name, "ready"), len(pool.sources) - lacking)
        return vacant, pools
