"""What ingest wrote, as any reader of committed records sees it; and an ingest service inside the test's own process."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from services.ingest.intake import read
from services.ingest.service import Ingest
from services.ingest.worker import Read
from shared.kafka.cluster import Cluster
from shared.records.codec import Codec, Unreadable, split
from shared.records.delivery import DELIVERY, Delivery
from shared.records.event import EVENT, Event
from shared.records.rejected import REJECTED, Rejected
from shared.records.topics import CLASSES
from shared.runtime.clock import SystemClock, system_rng
from shared.runtime.loading import load
from shared.runtime.metrics import Metrics
from tests.support.config import config
from tests.support.stack import Stack

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

PARTITIONS = 2
T = TypeVar("T")


def stack_for(directory: Path, kafka: str, prefix: str, *, more: str = "") -> Stack:
    """Topics, configuration and lane map; recipients at .test need no name server."""
    stack = Stack(
        directory,
        kafka,
        prefix,
        config(
            directory,
            kafka,
            prefix,
            routes={"*.test": ("127.0.0.1:2525", "local")},
            partitions=PARTITIONS,
            more=more,
        ),
    )
    stack.set_up()
    return stack


@asynccontextmanager
async def ingest(stack: Stack, *, read: Read = read) -> AsyncIterator[Ingest]:
    """Run the service here: for what no other process can be told, such as a bug in its pure steps."""
    settings = load(stack.config_path, {})
    cluster = Cluster(stack.kafka, client_id="test-ingest")
    log: FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(), wrapper_class=structlog.make_filtering_bound_logger(30)
    )
    service = Ingest(settings, cluster, SystemClock(), system_rng(), log, Metrics(), read=read)
    stop = asyncio.Event()
    running = asyncio.create_task(service.run(stop))
    try:
        yield service
    finally:
        stop.set()
        await running
        await cluster.close()


async def produce(stack: Stack, values: Sequence[bytes], class_: str, partition: int) -> None:
    """Produce to one partition, in this order."""
    producer = AIOKafkaProducer(
        bootstrap_servers=stack.kafka, acks="all", max_request_size=40 << 20
    )
    await producer.start()
    try:
        for value in values:
            await producer.send(stack.topics.submissions(class_), value, partition=partition)
        await producer.flush()
    finally:
        await producer.stop()


class Log:
    """Everything committed to some topics so far."""

    def __init__(self, stack: Stack, topics: Iterable[str]) -> None:
        self._places = [TopicPartition(topic, p) for topic in topics for p in range(PARTITIONS)]
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
