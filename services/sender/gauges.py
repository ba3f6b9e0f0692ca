"""The sender's gauges and counters."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import GaugeMetricFamily

from services.sender.slots import Slots
from shared.runtime.clock import Clock
from shared.runtime.metrics import Metrics, family

_S: Final = 1_000_000_000


@dataclass(slots=True)
class Gauges:
    """Ask the slots of this process."""

    metrics: Metrics
    slots: Slots
    clock: Clock

    def __post_init__(self) -> None:
        """Register."""
        self.metrics.collect(self._collect)

    def _collect(self) -> Iterable[GaugeMetricFamily]:
        labels = ("source",)
        owned = family("slot_owned", "1 where this process may send from the source", labels)
        usable = family("source_usable", "0 where nothing can leave from the source here", labels)
        waiting = family("grants_waiting", "Grants that no connection has taken", labels)
        busy = family("attempts_under_way", "Attempts under way", labels)
        unacknowledged = family(
            "outcomes_unacknowledged", "Outcomes that Kafka has not acknowledged", labels
        )
        offset = family(
            "clock_offset_seconds", "The clock against the broker's, as heartbeats show it", labels
        )
        left = family(
            "connections_left",
            "Connections of the source that an owner before waits for the last replies on",
            labels,
        )
        mono = self.clock.mono_ns()
        for number, slot in self.slots.slots.items():
            label = (slot.source.name,)
            owned.add_metric(label, slot.owner.acting(mono))
            usable.add_metric(label, bool(slot.usable))
            waiting.add_metric(label, slot.line.waiting())
            busy.add_metric(label, slot.line.busy + self.slots.leftovers.busy(number))
            unacknowledged.add_metric(label, self.slots.tools.journal.unacknowledged[number])
            if slot.owner.clock is not None:
                offset.add_metric(
                    label, (slot.owner.clock.low_ns + slot.owner.clock.high_ns) / 2 / _S
                )
            left.add_metric(label, slot.line.left())
        return owned, usable, waiting, busy, unacknowledged, offset, left
