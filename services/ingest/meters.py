"""What ingest counts, and what it can be asked: submissions and deliveries, rejections by reason, lag, age of the last commit."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily

from services.ingest.intake import Draft, Duplicate, Outcome, Refusal, Stray
from shared.records.topics import CLASSES
from shared.runtime.clock import Clock
from shared.runtime.metrics import Metrics, family

if TYPE_CHECKING:
    from services.ingest.worker import Worker

_S: Final = 1_000_000_000
_MS: Final = 1_000_000


class Meters:
    """The metrics of one ingest process."""

    def __init__(self, metrics: Metrics, clock: Clock, workers: Mapping[int, "Worker"]) -> None:
        """Declare them; ``workers`` are asked at each scrape."""
        self._clock, self._workers = clock, workers
        self._submissions = metrics.counter(
            "submissions", "Submissions read, by what became of them", ("class", "result")
        )
        self._accepted = metrics.counter("deliveries_accepted", "Deliveries accepted", ("class",))
        self._rejected = metrics.counter(
            "rejected", "Records and recipients rejected, by reason", ("class", "reason")
        )
        metrics.collect(self._collect)

    def count(self, outcomes: Iterable[Outcome]) -> None:
        """Count a round, after it was committed."""
        submissions: Counter[tuple[str, str]] = Counter()
        accepted: Counter[str] = Counter()
        rejected: Counter[tuple[str, str]] = Counter()
        for outcome in outcomes:
            class_ = outcome.source.class_
            match outcome:
                case Draft(envelope=envelope):
                    submissions[class_, "accepted"] += 1
                    accepted[class_] += len(envelope.recipients)
                    if envelope.refused:
                        rejected[class_, "recipient"] += len(envelope.refused)
                case Refusal(reason=reason):
                    submissions[class_, "rejected"] += 1
                    rejected[class_, reason] += 1
                case Duplicate():
                    submissions[class_, "duplicate"] += 1
                case Stray():
                    submissions[class_, "forwarded"] += 1
        for which, count in submissions.items():
            self._submissions.labels(*which).inc(count)
        for class_, count in accepted.items():
            self._accepted.labels(class_).inc(count)
        for which, count in rejected.items():
            self._rejected.labels(*which).inc(count)

    def _collect(self) -> Iterable[GaugeMetricFamily]:
        age = family("commit_age_seconds", "Time since the partition's last commit", ("partition",))
        lag = family(
            "lag_seconds", "Age of the oldest record not taken yet", ("partition", "class")
        )
        behind = family("lag_records", "Records not taken yet", ("partition", "class"))
        keys = family("keys", "Idempotency keys that are remembered", ("partition",))
        now = self._clock.now_ns()
        for number, worker in self._workers.items():
            if worker.committed_ns is not None:
                age.add_metric((str(number),), (now - worker.committed_ns) / _S)
            keys.add_metric((str(number),), len(worker.keys))
            if worker.door is None:
                continue
            for class_ in CLASSES:
                oldest, count = worker.door.oldest_ms(class_), worker.door.behind(class_)
                label = (str(number), class_)
                lag.add_metric(label, 0.0 if oldest is None else max(0, now - oldest * _MS) / _S)
                if count is not None:
                    behind.add_metric(label, count)
        return age, lag, behind, keys
