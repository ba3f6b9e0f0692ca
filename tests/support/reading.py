"""What was committed to topics, as any reader sees it; and records put exactly where a test wants them."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Self, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from shared.records.codec import Codec, Unreadable, split
from shared.records.delivery import DELIVERY, Delivery
from shared.records.event import EVENT, Event
from shared.records.rejected import REJECTED, Rejected
from shared.records.topics import CLASSES
from tests.support.stack import Stack

PARTITIONS = 2
T = TypeVar("T")


async def put(
    stack: Stack,
    topic: str,
    partition: int,
    values: Sequence[bytes | None],
    key: bytes | None = None,
) -> None:
    """Append to one partition, in this order."""
    producer = AIOKafkaProducer(
        bootstrap_servers=stack.kafka, acks="all", max_request_size=40 << 20
    )
    await producer.start()
    try:
        for value in values:
            # aiokafka wants a value or a key.
            named = b"" if value is None else key
            await producer.send(topic, value, key=named, partition=partition)
        await producer.flush()
    finally:
        await producer.stop()


class Log:
    """Everything committed to some topics so far."""

    def __init__(self, stack: Stack, topics: Iterable[str], partitions: int = PARTITIONS) -> None:
        self._places = [TopicPartition(topic, p) for topic in topics for p in range(partitions)]
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=stack.kafka,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_bytes=64 << 20,
        )
        #: (topic, partition, offset, key, value)
        self.records: list[tuple[str, int, int, bytes | None, bytes]] = []

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        self._consumer.assign(self._places)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def read(self, wait_ms: int = 300) -> int:
        found = await self._consumer.getmany(timeout_ms=wait_ms)
        for records in found.values():
            self.records += [(r.topic, r.partition, r.offset, r.key, r.value) for r in records]
        return len(found)

    async def to_the_end(self) -> None:
        """Read everything that is there now, whatever is appended meanwhile."""
        ends = await self._consumer.end_offsets(self._places)
        for place, end in ends.items():
            while await self._consumer.position(place) < end:
                await self.read()

    async def until(self, count: int, seconds: float = 60) -> None:
        """Read until there are so many records, and a little longer: none more may come."""
        async with asyncio.timeout(seconds):
            while len(self.records) < count:
                await self.read()
        while await self.read():
            pass
        assert len(self.records) == count, f"{len(self.records)} records, expected {count}"

    def decoded(self, codec: Codec[T]) -> list[tuple[T, bytes]]:
        """Give each record and its body."""
        out = []
        for _, _, _, _, value in self.records:
            record = codec.decode(value)
            assert not isinstance(record, Unreadable), record
            out.append((record, split(value)[1]))
        return out


def deliveries(stack: Stack) -> Log:
    return Log(stack, map(stack.topics.deliveries, CLASSES))


def delivered(log: Log) -> list[tuple[Delivery, bytes]]:
    return [(d, body) for d, body in log.decoded(DELIVERY) if isinstance(d, Delivery)]


def events(log: Log) -> list[Event]:
    return [event for event, _ in log.decoded(EVENT)]


def rejections(log: Log) -> list[tuple[Rejected, bytes]]:
    return log.decoded(REJECTED)
