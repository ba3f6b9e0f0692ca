"""A cluster with a backlog: what a scheduler wrote that took in a million deliveries, and mail that comes behind them.

Written straight into mail.deliveries and mail.state, in large batches, byte for byte what the scheduler writes: to let it take them all
in first would be most of a benchmark's time. All that waits is not due for a day. There are eight providers, so that the lanes spread over
the partitions.
"""

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaProducer

from services.scheduler.policy.entries import waiting
from shared.records.codec import encode
from shared.records.delivery import Delivery
from shared.records.lanemap import LaneMap, propose
from shared.records.state import META_KEY, Meta, delivery_key
from shared.runtime.loading import load
from tests.bench.mail import message
from tests.bench.scheduler.traffic import CLASS, LARGE, START, S, read, records
from tests.support.config import config
from tests.support.stack import Stack

PARTITIONS: Final = 4
SLOTS: Final = 10
PREFIX: Final = "bench."
_PROVIDERS: Final = 8
_BATCH: Final = 512 << 10
_BODY: Final = message(2_000)
_DAY_NS: Final = 86_400 * S


def stack(directory: Path, kafka: str) -> Stack:
    """Give a cluster with its topics, of which nothing runs."""
    names = [f"p{at}" for at in range(_PROVIDERS)]
    text = config(
        directory,
        kafka,
        PREFIX,
        routes={f"*.{name}.test": ("127.0.0.1:25", name) for name in names},
        sources=[f"127.0.0.{11 + at}" for at in range(SLOTS)],
        partitions=PARTITIONS,
        limits="\n".join(f"[limits.{name}]\nconnections = 1000" for name in names),
        timing="",
        more="[scheduler]\nmax_waiting = 10000000",
    )
    made = Stack(directory, kafka, PREFIX, text)
    made.set_up()
    return made


def deliveries(count: int, first: int, due_ns: int, spread_ns: int) -> Iterable[Delivery]:
    """Give deliveries to the providers of ``stack``; those numbered from ``first`` on are others."""
    made = records(LARGE, count, due_ns=due_ns, spread_ns=spread_ns)
    for at, value in enumerate(made, start=first):
        yield msgspec.structs.replace(
            read(value),
            id=f"b0-{10_000_000 + at}-0",
            provider=f"p{at % _PROVIDERS}",
            pool="main",
            accepted_ns=due_ns - _DAY_NS,
            expires_ns=due_ns + 3 * _DAY_NS,
        )


@dataclass(slots=True)
class Filler:
    """Writes a backlog."""

    stack: Stack
    producer: AIOKafkaProducer
    #: By partition: how many records its mail.deliveries has.
    ends: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(PARTITIONS), 0))
    _batches: dict[tuple[str, int], Any] = field(default_factory=dict)
    _lanes: LaneMap = field(init=False)

    async def backlog(self, count: int) -> None:
        """Write what waits, and the memory of it."""
        topics, now = self.stack.topics, time.time_ns()
        for record in deliveries(count, 0, now + _DAY_NS, _DAY_NS):
            partition = await self._deliver(record)
            state = waiting(record, CLASS, self.ends[partition] - 1)
            await self._add(topics.state, partition, encode(state), delivery_key(state.id))
        for partition, end in self.ends.items():
            meta = Meta(now_ns=now, positions={f"deliveries.{CLASS}": end})
            await self._add(topics.state, partition, encode(meta), META_KEY)
        await self._flush()

    async def fresh(self, count: int, first: int) -> None:
        """Write what is due at once, and that no scheduler has read."""
        for record in deliveries(count, first, START, 0):
            now = time.time_ns()
            await self._deliver(
                msgspec.structs.replace(
                    record, accepted_ns=now, not_before_ns=now, expires_ns=now + _DAY_NS
                )
            )
        await self._flush()

    def __post_init__(self) -> None:
        """Read the lane map as `config apply` made it."""
        providers = load(self.stack.config_path, self.stack.environment()).providers
        self._lanes = propose(1, PARTITIONS, providers, [])

    async def log(self, count: int) -> None:
        """Write so many deliveries to the first partition, with no memory of any."""
        topic = self.stack.topics.deliveries(CLASS)
        for record in deliveries(count, 0, time.time_ns(), 0):
            await self._add(topic, 0, encode(record, _BODY), record.id.encode())
        await self._flush()

    async def _deliver(self, record: Delivery) -> int:
        partition = self._lanes.partition(f"provider:{record.provider}")
        topic = self.stack.topics.deliveries(CLASS)
        await self._add(topic, partition, encode(record, _BODY), record.id.encode())
        self.ends[partition] += 1
        return partition

    async def _add(self, topic: str, partition: int, value: bytes, key: bytes) -> None:
        place, now = (topic, partition), int(time.time() * 1000)
        batch = self._batches.get(place)
        if batch is None:
            batch = self._batches[place] = self.producer.create_batch()
        if batch.append(key=key, value=value, timestamp=now) is None:
            await self.producer.send_batch(batch, topic, partition=partition)
            batch = self._batches[place] = self.producer.create_batch()
            batch.append(key=key, value=value, timestamp=now)

    async def _flush(self) -> None:
        for (topic, partition), batch in self._batches.items():
            await self.producer.send_batch(batch, topic, partition=partition)
        self._batches = {}
        await self.producer.flush()


@asynccontextmanager
async def filler(made: Stack) -> AsyncIterator[Filler]:
    """Give one that writes to the topics of ``made``."""
    producer = AIOKafkaProducer(
        bootstrap_servers=made.kafka, acks="all", compression_type="zstd", max_batch_size=_BATCH
    )
    async with producer:
        yield Filler(made, producer)
