"""What the sender says in mail.outcomes, kept until Kafka has acknowledged it.

`started` is worth nothing if it is late, so it is sent once: where its producer breaks, the attempt learns it and drops the
transaction. Outcomes and hand-backs are never given up: where the producer breaks they are sent again through a new one, in order, as
copies that the scheduler tells by their attempt. An attempt counts as busy until its outcome is acknowledged.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from structlog.typing import FilteringBoundLogger

from shared.kafka.cluster import Cluster
from shared.kafka.errors import KafkaTrouble, KafkaUnavailable, ProducerBroken, TopicProblem
from shared.kafka.producer import Acknowledged, Producer, Stamped
from shared.records.codec import encode
from shared.records.grant import Grant
from shared.records.outcome import Handback, Outcome, Started
from shared.runtime.clock import Clock

_MS: Final = 1_000_000
_LINGER_MS: Final = 5
_PAUSE_S: Final = 0.5


#: The stamp of a `started`, ns, or why there is none.
Stamp = int | KafkaTrouble


@dataclass(slots=True, eq=False)
class _Kept:
    partition: int
    slot: int
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
    _queue: deque[_Kept] = field(default_factory=deque)
    #: Handed over and not acknowledged, in order.
    _flying: dict[_Kept, None] = field(default_factory=dict)
    _broken: ProducerBroken | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def started(self, grant: Grant, then: Callable[[Stamp], None]) -> None:
        """Say that the attempt began; ``then`` hears the stamp once, or a trouble where nobody can say."""
        if self._producer is None or self._broken is not None:
            then(self._broken or ProducerBroken("no producer yet"))
            return
        record = Started(id=grant.id, n=grant.n, slot=grant.slot, epoch=grant.epoch)
        self._add(_Kept(grant.part, grant.slot, encode(record), then))

    def say(self, grant: Grant, record: Outcome | Handback) -> None:
        """Keep ``record`` until it is acknowledged."""
        self.unacknowledged[grant.slot] += 1
        self._add(_Kept(grant.part, grant.slot, encode(record)))

    def _add(self, kept: _Kept) -> None:
        self._queue.append(kept)
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled; a broken producer is replaced, and what it had not acknowledged is sent again first."""
        while True:
            try:
                self._producer = await self.cluster.producer(linger_ms=_LINGER_MS)
                self._broken = None
                await self._pump(self._producer)
            except (ProducerBroken, KafkaUnavailable) as error:
                self._take_back(error)
                self.log.warning("journal_producer_broken", error=str(error), kept=len(self._queue))
                await self.clock.sleep(_PAUSE_S)
            finally:
                broken, self._producer = self._producer, None
                if broken is not None:
                    await broken.stop()

    async def _pump(self, producer: Producer) -> None:
        while True:
            while self._queue:
                await self._hand_over(producer, self._queue.popleft())
            if self._broken is not None:
                raise self._broken
            self._wake.clear()
            await self._wake.wait()

    async def _hand_over(self, producer: Producer, kept: _Kept) -> None:
        # Before it is handed over: whatever breaks meanwhile, it is known.
        self._flying[kept] = None
        try:
            await producer.append(
                self.topic, kept.partition, kept.value, partial(self._heard, producer, kept)
            )
        except TopicProblem as error:
            # Whoever granted it has no such partition: nobody could read this, now or later.
            self.log.warning("outcome_undeliverable", partition=kept.partition, reason=str(error))
            self._settle(kept, error)

    def _heard(self, producer: Producer, kept: _Kept, what: Acknowledged) -> None:
        if isinstance(what, Stamped):
            self._settle(kept, what.timestamp_ms * _MS)
        elif producer is self._producer and self._broken is None:
            self._broken = ProducerBroken(str(what))
            self._wake.set()

    def _settle(self, kept: _Kept, stamp: Stamp) -> None:
        if kept not in self._flying:
            return  # It was taken back meanwhile, and is said again.
        del self._flying[kept]
        if kept.then is not None:
            kept.then(stamp)
        else:
            self.unacknowledged[kept.slot] -= 1

    def _take_back(self, error: KafkaTrouble) -> None:
        """Keep the outcomes, in order, and let whoever waits for a `started` know that nobody can say."""
        kept = [*self._flying, *self._queue]
        self._flying.clear()
        self._queue = deque(each for each in kept if each.then is None)
        for each in kept:
            if each.then is not None:
                each.then(error)

    async def flushed(self) -> None:
        """Wait until everything that was said is acknowledged."""
        while self._queue or self._flying:
            await self.clock.sleep(0.02)
