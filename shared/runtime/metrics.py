"""Prometheus metrics of one process, in a registry of its own: nothing global, so that two services can live in one test.

Counters and histograms are kept as things happen; what would be counted by looking (waiting, open, paused) is asked for at each scrape. The
process's own CPU seconds, memory and open files are always among them.
"""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600)


class Metrics:
    """Declare metrics; their names begin with ``postyard_``."""

    def __init__(self) -> None:
        """Begin with an empty registry."""
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)

    def counter(self, name: str, help_: str, labels: Sequence[str] = ()) -> Counter:
        """Declare a counter; ``_total`` is added to its name."""
        return Counter(f"postyard_{name}", help_, labels, registry=self._registry)

    def gauge(self, name: str, help_: str, labels: Sequence[str] = ()) -> Gauge:
        """Declare a gauge that is set."""
        return Gauge(f"postyard_{name}", help_, labels, registry=self._registry)

    def histogram(self, name: str, help_: str, labels: Sequence[str] = ()) -> Histogram:
        """Declare a histogram of seconds."""
        return Histogram(
            f"postyard_{name}", help_, labels, registry=self._registry, buckets=_SECONDS
        )

    def collect(self, families: Callable[[], Iterable[GaugeMetricFamily]]) -> None:
        """Let ``families`` be asked at each scrape: for what is counted when somebody looks."""
        self._registry.register(_Asked(families))

    def page(self) -> bytes:
        """Give everything in the text format."""
        return generate_latest(self._registry)


def family(name: str, help_: str, labels: Sequence[str]) -> GaugeMetricFamily:
    """Make a family for ``collect``."""
    return GaugeMetricFamily(f"postyard_{name}", help_, labels=labels)


class _Asked(Collector):
    def __init__(self, families: Callable[[], Iterable[GaugeMetricFamily]]) -> None:
        self._families = families

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Describe nothing: a registry that asks would call ``collect`` while the service is being wired."""
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Ask."""
        return self._families()
