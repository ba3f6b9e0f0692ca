"""The marks that make log time pass: one producer for all partitions of a process, replaced when it breaks.

A mark that could not be written is not sent again: the next one says more. While none can be, log time stands still, and so does every
judgement: nobody is declared lost because Kafka was away.
"""

from dataclasses import dataclass

from shared.kafka.lasting import Lasting
from shared.kafka.producer import Stamped
from shared.records.codec import encode
from shared.records.outcome import Mark


@dataclass(slots=True)
class Marks:
    """Append marks to mail.outcomes."""

    producer: Lasting
    topic: str
    owner: str

    async def append(self, partition: int, sent_ns: int) -> Stamped:
        """Append one mark; raises KafkaTrouble."""
        producer = await self.producer.whole()
        return await producer.send(
            self.topic, partition, encode(Mark(sent_ns=sent_ns, owner=self.owner))
        )

    async def close(self) -> None:
        """Close the producer."""
        await self.producer.close()
