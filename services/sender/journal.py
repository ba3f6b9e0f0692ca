"""What the sender says in mail.outcomes, kept until Kafka has acknowledged it.

`started` is worth nothing if it is late, so it is sent once: where its producer breaks, the attempt learns it and drops the
transaction. Outcomes and hand-backs are never given up: where the producer breaks they are sent again through a new one, in order, as
copies that the scheduler tells by their attempt. An attempt counts as busy until its outcome is acknowledged.

A partition has one batch on its way at a time, and what comes meanwhile is the next one: nothing waits behind a partition whose leader is
away, and a busy sender makes a few large requests instead of hundreds of small ones.
"""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from structlog.typing import FilteringBoundLogger

from shared.kafka.cluster import Cluster
from shared.kafka.errors import KafkaTrouble, ProducerBroken, TopicProblem
from shared.kafka.producer import Acknowledged, Producer, Stamped
from shared.records.codec import encode
from shared.records.grant import Grant
from shared.records.outcome import Handback, Outcome, Started
from shared.runtime.clock import Clock

_MS: Final = 1_000_000
#: What comes within so long goes together; a final dot waits for its `started`, so it is short.
_GATHER_S: Final = 0.005
_PAUSE_S: Final = 0.5
#: A partition that takes longer to acknowledge a batch has no leader just now.
_SLOW_NS: Final = 2_000_000_000

#: The stamp of a `started`, ns, or why there is none.
Stamp = int | KafkaTrouble


@dataclass(slots=True, eq=False)
class _Kept:
    slot: int
    epoch: int
    value: bytes
    #: Of a `started`: who hears of its stamp.
    then: Callable[[Stamp], None] | None = None


@dataclass(slots=True)
class Journal:
    """Append to mail.outcomes."""

    cluster: Cluster
    topic: str
    clock: Clock
    log: FilteringBoundLogger
    #: Records not acknowledged, by slot.
    unacknowledged: Counter[int] = field(default_factory=Counter)
    _producer: Producer | None = None
    #: By partition, in order: what waits, and the one batch that was handed over and is not acknowledged.
    _queues: defaultdict[int, deque[_Kept]] = field(default_factory=lambda: defaultdict(deque))
    _flying: dict[int, list[_Kept]] = field(default_factory=dict)
    #: Since when that batch is on its way, ns on the monotonic clock.
    _since: dict[int, int] = field(default_factory=dict)
    _broken: ProducerBroken | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def prompt(self, partition: int) -> bool:
        """Say whether a `started` would be acknowledged soon, as far as can be seen: else no attempt should begin, as none could end."""
        if self._producer is None or self._broken is not None:
            return False
        since = self._since.get(partition)
        return since is None or self.clock.mono_ns() - since < _SLOW_NS

    def started(self, grant: Grant, then: Callable[[Stamp], None]) -> None:
        """Say that the attempt began; ``then`` hears the stamp once, or a trouble where nobody can say."""
        if self._producer is None or self._broken is not None:
            then(self._broken or ProducerBroken("no producer yet"))
            return
        record = Started(id=grant.id, n=grant.n, slot=grant.slot, epoch=grant.epoch)
        self._add(grant.part, _Kept(grant.slot, grant.epoch, encode(record), then))

    def say(self, grant: Grant, record: Outcome | Handback) -> None:
        """Keep ``record`` until it is acknowledged."""
        self.unacknowledged[grant.slot] += 1
        self._add(grant.part, _Kept(grant.slot, grant.epoch, encode(record)))

    def _add(self, partition: int, kept: _Kept) -> None:
        self._queues[partition].append(kept)
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled; a broken producer is replaced, and what it had not acknowledged is sent again first."""
        while True:
            try:
                # What is gathered is gathered here, for all partitions at once.
                self._producer = await self.cluster.producer(linger_ms=0)
                self._broken = None
                await self._pump(self._producer)
            except KafkaTrouble as error:
                # Also where Kafka does not let us any more: what is kept is what nobody else can say.
                self._take_back(error)
                self.log.warning("journal_producer_broken", error=str(error), kept=self._kept())
                await self.clock.sleep(_PAUSE_S)
            finally:
                broken, self._producer = self._producer, None
                if broken is not None:
                    await broken.stop()

    async def _pump(self, producer: Producer) -> None:
        # What was taken back is sent at once.
        if self._queues:
            self._wake.set()
        while True:
            await self._wake.wait()
            await self.clock.sleep(_GATHER_S)
            self._wake.clear()
            if self._broken is not None:
                raise self._broken
            ready = [part for part in self._queues if part not in self._flying]
            for part in ready:
                await self._hand_over(producer, part)

    async def _hand_over(self, producer: Producer, part: int) -> None:
        # Before it is handed over: whatever breaks meanwhile, it is known.
        batch = self._flying[part] = list(self._queues.pop(part))
        self._since[part] = self.clock.mono_ns()
        values = [kept.value for kept in batch]
        try:
            taken = await producer.append_batch(
                self.topic, part, values, partial(self._heard, producer, part, batch)
            )
        except TopicProblem as error:
            # Whoever granted it has no such partition: nobody could read this, now or later.
            self.log.warning(
                "outcome_undeliverable", partition=part, records=len(batch), reason=str(error)
            )
            self._settle(part, batch, error)
            return
        if taken < len(batch):
            self._queues[part].extendleft(reversed(batch[taken:]))
            del batch[taken:]
            self._wake.set()

    def _heard(self, producer: Producer, part: int, batch: list[_Kept], what: Acknowledged) -> None:
        if isinstance(what, Stamped):
            self._settle(part, batch, what.timestamp_ms * _MS)
        elif producer is self._producer and self._broken is None:
            self._broken = ProducerBroken(str(what))
            self._wake.set()

    def _settle(self, part: int, batch: list[_Kept], stamp: Stamp) -> None:
        if self._flying.get(part) is not batch:
            return  # It was taken back meanwhile, and is said again.
        del self._flying[part], self._since[part]
        if part in self._queues:
            self._wake.set()
        for kept in batch:
            if kept.then is not None:
                kept.then(stamp)
            else:
                self.unacknowledged[kept.slot] -= 1

    def _take_back(self, error: KafkaTrouble) -> None:
        """Keep the outcomes, in order, and let whoever waits for a `started` know that nobody can say."""
        flying, self._flying, self._since = self._flying, {}, {}
        waiting, self._queues = self._queues, defaultdict(deque)
        kept = {
            part: [*flying.get(part, ()), *waiting.get(part, ())] for part in {**flying, **waiting}
        }
        for part, each in kept.items():
            said = [record for record in each if record.then is None]
            if said:
                self._queues[part].extend(said)
        for each in kept.values():
            for record in each:
                if record.then is not None:
                    record.then(error)

    def _kept(self) -> int:
        return sum(map(len, self._queues.values()))

    def has_said(self, epoch: int) -> bool:
        """Say whether all that was said of the attempts of one epoch is acknowledged."""
        batches = (*self._queues.values(), *self._flying.values())
        return not any(
            kept.epoch == epoch and kept.then is None for each in batches for kept in each
        )

    async def flushed(self) -> None:
        """Wait until everything that was said is acknowledged."""
        while self._queues or self._flying:
            await self.clock.sleep(0.02)
