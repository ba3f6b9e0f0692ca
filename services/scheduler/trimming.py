"""How much of mail.deliveries a partition still needs: its worker alone deletes there, and nothing else does.

    lost        at the start: what waits for a record that somebody else deleted ends, and the partition goes on
    stragglers  the few old deliveries that hold a long stretch of the log are appended anew
    trim        after the commit that made it needless returned, the log below what is needed goes

A crash between commit and trim deletes later; a crash never deletes what is needed, for what is needed is read from what was committed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from structlog.typing import FilteringBoundLogger

from services.scheduler.policy.ledger import Ledger
from shared.kafka.cluster import Cluster
from shared.records.state import DeliveryState
from shared.records.topics import CLASSES, Topics
from shared.runtime.clock import Clock

#: So many stragglers are appended anew in a round, where less than a tenth of the stretch that they hold still waits.
_STRAGGLERS: Final = 100
_SPARSE: Final = 10
_TRIM_NS: Final = 2_000_000_000


@dataclass(slots=True)
class Trimming:
    """One partition's part of the log."""

    partition: int
    ledger: Ledger
    topics: Topics
    cluster: Cluster
    clock: Clock
    log: FilteringBoundLogger
    #: A straggler holds at least so many records.
    span: int
    _trimmed: dict[str, int] = field(default_factory=dict)
    _trim_ns: int = 0
    #: Stragglers whose copy is under way: id -> the offset that it replaces.
    _copied: dict[str, int] = field(default_factory=dict)
    #: topic -> the first offset that is there, until ``end_lost`` has looked at what lies before it.
    _first: Mapping[str, int] = field(default_factory=dict)

    def begin(self, first: Mapping[str, int]) -> None:
        """Take the first offset of each topic, as it was when the partition was taken over."""
        self._first = first

    def end_lost(self) -> None:
        """Let what has lost its record end, in the round that has begun."""
        first, self._first = self._first, {}
        for topic, offset in first.items():
            class_ = self.topics.class_of(topic)
            if lost := self.ledger.on_lost(class_, offset):
                self.log.error(
                    "records_lost", partition=self.partition, mail_class=class_, deliveries=lost
                )

    def stragglers(self, read: Mapping[str, int]) -> list[DeliveryState]:
        """Choose the few old deliveries that hold a long stretch of the log; ``read``: class -> how far the input is read.

        What ended in between can only be trimmed when nothing before it is needed. A copy is only worth it where little of the
        stretch still waits: a backlog is not a straggler.
        """
        found: list[DeliveryState] = []
        for class_ in CLASSES:
            oldest, end = self.ledger.oldest_offset(class_), read.get(class_, 0)
            if oldest is None or end - oldest < self.span:
                continue
            if oldest == self.ledger.intake.parking.oldest_offset(class_):
                continue  # What is parked holds the log, and a copy of others would not free it.
            if self.ledger.count(class_) * _SPARSE < end - oldest:
                found += [
                    state for state in self.ledger.oldest(class_, _STRAGGLERS) if state.open is None
                ]
        fresh = [state for state in found if self._copied.get(state.id) != state.offset]
        self._copied = {state.id: state.offset for state in found}
        return fresh

    async def trim(self, committed: Mapping[str, int]) -> None:
        """Let go of the log below what is needed, now and then; ``committed``: class -> the input that a commit has passed."""
        now = self.clock.mono_ns()
        if now < self._trim_ns:
            return
        self._trim_ns = now + _TRIM_NS
        ends: dict[tuple[str, int], int] = {}
        for class_ in CLASSES:
            topic, end = self.topics.deliveries(class_), committed.get(class_, 0)
            oldest = self.ledger.oldest_offset(class_)
            keep = end if oldest is None else min(oldest, end)
            if keep > self._trimmed.get(topic, 0):
                ends[topic, self.partition] = keep
                self._trimmed[topic] = keep
        if ends:
            await self.cluster.delete_before(ends)
