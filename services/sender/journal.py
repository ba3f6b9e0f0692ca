"""What the sender says in mail.outcomes, kept until Kafka has acknowledged it.

`started` is worth nothing if it is late, so it is sent once: where its producer breaks, the attempt learns it and drops the
transaction. Outcomes and hand-backs are never given up: where the producer breaks they are sent again through a new one, in order, as
copies that the scheduler tells by their attempt. An attempt counts as busy until its outcome is acknowledged.
"""

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from structlog.typing import FilteringBoundLogger

from shared.kafka.cluster import Cluster
from shared.kafka.errors import KafkaUnavailable, ProducerBroken, TopicProblem
from shared.kafka.producer import Producer, Sending
from shared.records.codec import encode
from shared.records.grant import Grant
from shared.records.outcome import Handback, Outcome, Started
from shared.runtime.clock import Clock

_MS: Final = 1_000_000
_LINGER_MS: Final = 5
_PAUSE_S: Final = 0.5


@dataclass(slots=True)
class _Kept:
    partition: int
    slot: int
    value: bytes


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
    _queue: deque[_Kept] = field(default_factory=deque)
    #: Taken from the queue, not yet handed over.
    _sending: _Kept | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _flying: deque[tuple[_Kept, Sending]] = field(default_factory=deque)

    async def started(self, grant: Grant) -> int:
        """Say that the attempt began and give the stamp, ns; raises ProducerBroken where nobody can say."""
        if self._producer is None:
            raise ProducerBroken("no producer yet")
        record = Started(id=grant.id, n=grant.n, slot=grant.slot, epoch=grant.epoch)
        stamped = await self._producer.send(self.topic, grant.part, encode(record))
        return stamped.timestamp_ms * _MS

    def say(self, grant: Grant, record: Outcome | Handback) -> None:
        """Keep ``record`` until it is acknowledged."""
        self.unacknowledged[grant.slot] += 1
        self._queue.append(_Kept(grant.part, grant.slot, encode(record)))
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled; a broken producer is replaced, and what it had not acknowledged is sent again first."""
        while True:
            try:
                self._producer = await self.cluster.producer(linger_ms=_LINGER_MS)
                await self._pump(self._producer)
            except (ProducerBroken, KafkaUnavailable) as error:
                self.log.warning(
                    "journal_producer_broken",
                    error=str(error),
                    kept=len(self._queue) + len(self._flying),
                )
                if self._sending is not None:
                    self._queue.appendleft(self._sending)
                self._queue.extendleft(kept for kept, _ in reversed(self._flying))
                self._flying.clear()
                self._sending = None
                await self.clock.sleep(_PAUSE_S)
            finally:
                broken, self._producer = self._producer, None
                if broken is not None:
                    await broken.stop()

    async def _pump(self, producer: Producer) -> None:
        while True:
            while self._queue:
                kept = self._sending = self._queue.popleft()
                try:
                    sending = await producer.put(self.topic, kept.partition, kept.value)
                except TopicProblem as error:
                    # Whoever granted it has no such partition: nobody could read this, now or later.
                    self.log.warning(
                        "outcome_undeliverable", partition=kept.partition, reason=str(error)
                    )
                    self.unacknowledged[kept.slot] -= 1
                else:
                    self._flying.append((kept, sending))
                self._sending = None
            if self._flying:
                kept, sending = self._flying[0]
                await sending.done()
                self._flying.popleft()
                self.unacknowledged[kept.slot] -= 1
            else:
                self._wake.clear()
                await self._wake.wait()

    async def flushed(self) -> None:
        """Wait until everything that was said is acknowledged."""
        while self._queue or self._flying or self._sending:
            await self.clock.sleep(0.02)
