"""Postyard's side: a broker of its own, the three services as an operator starts them, and a platform that produces.

One route leads to the sink over 20 connections without any rate; the submissions are spread over several partitions. The services do not
know that they are measured. Producing competes with delivering for the machine, as the load generator does in the reference.
"""

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from services.cli.cluster.broker import LocalKafka
from shared.records.event import EVENT, Event
from tests.bench.run import Latency, Measured, Run
from tests.bench.sink import Sink
from tests.bench.submissions import CHECKED, submission, submissions
from tests.bench.usage import Pids, thread_cpu_s
from tests.support.config import config
from tests.support.stack import Service, Stack

SERVICES: Final = ("ingest", "scheduler", "sender")
CONNECTIONS: Final = 20
_PREFIX: Final = "bench."
_PARTITIONS: Final = 4
_LIMITS: Final = f"[limits.local]\nconnections = {CONNECTIONS}\nmessages_per_connection = 1000"
_SOURCE: Final = "127.0.0.11"
_MS: Final = 1_000_000


class Pipeline:
    """The services on ``broker``, with everything going to ``sink``, but that for one domain to ``kept``."""

    def __init__(self, directory: Path, broker: LocalKafka, sink: Sink, kept: Sink) -> None:
        self._broker, self._sink = broker, sink
        routes = {"check.test": (kept.target, "keeper"), "*.test": (sink.target, "local")}
        text = config(
            directory,
            broker.bootstrap,
            _PREFIX,
            routes=routes,
            sources=[_SOURCE],
            partitions=_PARTITIONS,
            limits=_LIMITS,
            timing="",
        )
        self._stack = Stack(directory, broker.bootstrap, _PREFIX, text)
        self._stack.set_up()
        self._services: dict[str, Service] = {}
        self._runs = 0

    @property
    def key_file(self) -> Path:
        return self._stack.directory / "dkim.pem"

    def start(self) -> None:
        """Start the services, and wait until all are ready."""
        self._services = {
            name: self._stack.start(name, f"{name}-0", wait=False) for name in SERVICES
        }
        self._stack.wait_ready(*self._services.values())

    def stop(self) -> None:
        """End what was started."""
        self._stack.stop()
        self._services = {}

    @property
    def pids(self) -> Pids:
        broker = self._broker.pid
        assert broker is not None
        ours = {name: [service.process.pid] for name, service in self._services.items()}
        return ours | {"broker": [broker], "receiver": [self._sink.pid]}

    def check(self, mail: bytes) -> None:
        """Send one message to the sink that keeps it."""
        asyncio.run(_produce(self._stack, [submission(CHECKED, mail)]))

    def throughput(self, messages: int, mail: bytes) -> Run:
        """Produce as fast as Kafka takes it."""
        self._runs += 1
        values = (value for _, value in submissions(messages, mail, f"t{self._runs}"))
        sender = self._services["sender"].process.pid
        before = thread_cpu_s(sender)
        with Measured(self.pids, self._sink, messages) as measured:
            asyncio.run(_produce(self._stack, values))
        return measured.run(sender_loop=thread_cpu_s(sender) - before)

    def latency(self, rate: float, seconds: float, mail: bytes) -> Latency:
        """Produce at an even rate, and hear from the events when MAIL was said."""
        self._runs += 1
        return asyncio.run(_latency(self._stack, rate, seconds, mail, f"l{self._runs}"))


def _producer(stack: Stack, linger_ms: int) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        bootstrap_servers=stack.kafka,
        acks="all",
        linger_ms=linger_ms,
        compression_type="zstd",
        # The default of 16 KiB would be a batch for every message of 10 KB, and the broker would be measured with those.
        max_batch_size=256 << 10,
    )


async def _produce(stack: Stack, values: Iterable[bytes]) -> None:
    topic = stack.topics.submissions("bulk")
    async with _producer(stack, 5) as producer:
        for at, value in enumerate(values):
            # In turn: the default chooses at random, and the runs would differ.
            await producer.send(topic, value, partition=at % _PARTITIONS)
        await producer.flush()


async def _latency(stack: Stack, rate: float, seconds: float, mail: bytes, name: str) -> Latency:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=stack.kafka,
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    async with consumer, _producer(stack, 0) as producer:
        partitions = [TopicPartition(stack.topics.events, p) for p in range(_PARTITIONS)]
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        for partition in partitions:
            await consumer.position(partition)
        count = round(rate * seconds)
        hearing = asyncio.create_task(_mail_times(consumer, count, name))
        topic = stack.topics.submissions("bulk")
        sent, start = [], time.monotonic()
        for at, (to, value) in enumerate(submissions(count, mail, name)):
            await asyncio.sleep(max(0.0, start + at / rate - time.monotonic()))
            sent.append((to, await producer.send(topic, value, partition=at % _PARTITIONS)))
        # The broker's stamp: the time at which the submission was in the topic.
        produced = {to: (await done).timestamp * _MS for to, done in sent}
        async with asyncio.timeout(60):
            mailed = await hearing
    return Latency([(mailed[to] - at) / _MS for to, at in produced.items()])


async def _mail_times(consumer: AIOKafkaConsumer, count: int, name: str) -> dict[str, int]:
    """Give the time of MAIL by recipient, ns, once so many were delivered."""
    found: dict[str, int] = {}
    while len(found) < count:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            for record in records:
                event = EVENT.decode(record.value)
                assert isinstance(event, Event), event
                if event.type == "delivered" and event.to.startswith(f"{name}-"):
                    assert event.wire is not None
                    found[event.to] = event.wire.mail_ns
    return found
