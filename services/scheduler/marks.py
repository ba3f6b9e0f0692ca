"""The marks that make log time pass: one producer for all partitions of a process, replaced when it breaks.

A mark that could not be written is not sent again: the next one says more. While none can be, log time stands still, and so does every
judgement: nobody is declared lost because Kafka was away.
"""

import asyncio
from dataclasses import dataclass, field

from shared.kafka.cluster import Cluster
from shared.kafka.errors import ProducerBroken
from shared.kafka.producer import Producer, Stamped
from shared.records.codec import encode
from shared.records.outcome import Mark


@dataclass(slots=True)
class Marks:
    """Append marks to mail.outcomes."""

    cluster: Cluster
    topic: str
    owner: str
    _producer: Producer | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def append(self, partition: int, sent_ns: int) -> Stamped:
        """Append one mark; raises KafkaTrouble."""
        async with self._lock:
            if self._producer is None or self._producer.broken:
                await self._renew()
            producer = self._producer
        if producer is None:
            raise ProducerBroken("no producer")
        return await producer.send(
            self.topic, partition, encode(Mark(sent_ns=sent_ns, owner=self.owner))
        )

    async def _renew(self) -> None:
        broken, self._producer = self._producer, None
        if broken is not None:
            await broken.stop()
        self._producer = await self.cluster.producer(linger_ms=0)

    async def close(self) -> None:
        """Close the producer."""
        if self._producer is not None:
            await self._producer.stop()
