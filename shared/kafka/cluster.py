"""Makes clients, with every setting that aiokafka's defaults get wrong for us in one place.

No auto commit, no silent reset of offsets, read_committed, acks=all and idempotence, lz4, batches large enough for a round, short
back-offs, and room for a message of 25 MiB. The session of a group member is long enough for a loop that was blocked for a while.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError

from shared.kafka.errors import KafkaUnavailable, translate
from shared.kafka.membership import Membership
from shared.kafka.producer import Producer
from shared.kafka.reader import Reader
from shared.kafka.transactor import Transactor

T = TypeVar("T")
Place = tuple[str, int]
Position = int | Literal["start", "end"]

MAX_RECORD_BYTES: Final = 36 << 20
FETCH_BYTES: Final = 16 << 20
_BATCH_BYTES: Final = 512 << 10
_BACKOFF_MS: Final = 5
_TRANSACTION_MS: Final = 10_000
_SESSION_MS: Final = 30_000
_HEARTBEAT_MS: Final = 1_000
_POLL_INTERVAL_MS: Final = 300_000
_STOP_S: Final = 5.0


class Cluster:
    """One Kafka cluster, as this process sees it."""

    def __init__(self, bootstrap: str, *, client_id: str) -> None:
        """``bootstrap``: host:port, or several with commas."""
        self._common: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "client_id": client_id,
            "retry_backoff_ms": _BACKOFF_MS,
        }
        self._admin: AIOKafkaAdminClient | None = None
        self._offsets: AIOKafkaConsumer | None = None
        self._lock = asyncio.Lock()

    # -- clients

    async def reader(
        self,
        positions: Mapping[Place, Position],
        *,
        fetch_wait_ms: int = 100,
        fetch_max_bytes: int = FETCH_BYTES,
    ) -> Reader:
        """Make a reader of these partitions, each from its position."""
        known = await self._resolve(positions)
        reader = Reader(lambda: self._consumer(fetch_wait_ms, fetch_max_bytes), known)
        return await reader.start()

    async def producer(self, *, linger_ms: int = 5) -> Producer:
        """Make an idempotent producer."""
        return Producer(await self._start_producer(linger_ms=linger_ms))

    async def transactor(self, transactional_id: str) -> Transactor:
        """Make the owner of ``transactional_id``; when it returns, every older one is fenced."""
        return Transactor(
            await self._start_producer(
                linger_ms=0,
                transactional_id=transactional_id,
                transaction_timeout_ms=_TRANSACTION_MS,
            )
        )

    async def membership(self, group: str, members_topic: str) -> Membership:
        """Join ``group`` on the empty topic that carries membership."""
        consumer = AIOKafkaConsumer(
            **self._common,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            session_timeout_ms=_SESSION_MS,
            heartbeat_interval_ms=_HEARTBEAT_MS,
            max_poll_interval_ms=_POLL_INTERVAL_MS,
            rebalance_timeout_ms=_SESSION_MS,
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
        )
        return await Membership(consumer, members_topic).start()

    def _consumer(
        self, fetch_wait_ms: int = 100, fetch_max_bytes: int = FETCH_BYTES
    ) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **self._common,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=fetch_wait_ms,
            fetch_max_bytes=fetch_max_bytes,
            max_partition_fetch_bytes=fetch_max_bytes,
        )

    async def _start_producer(self, **more: Any) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._common,
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            max_batch_size=_BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
            **more,
        )
        try:
            await producer.start()
        except BaseException as error:
            await _quietly(producer.stop)
            raise translate(error) from error
        return producer

    # -- offsets

    async def end_offsets(self, places: Iterable[Place]) -> dict[Place, int]:
        """Give the last stable offsets: where a read_committed reader has read everything."""
        return await self._ask(lambda consumer, tps: consumer.end_offsets(tps), places)

    async def start_offsets(self, places: Iterable[Place]) -> dict[Place, int]:
        """Give the first offsets that are still there."""
        return await self._ask(lambda consumer, tps: consumer.beginning_offsets(tps), places)

    async def _ask(
        self,
        what: Callable[[AIOKafkaConsumer, list[TopicPartition]], Awaitable[Any]],
        places: Iterable[Place],
    ) -> dict[Place, int]:
        async with self._lock:
            try:
                if self._offsets is None:
                    consumer = self._consumer()
                    await consumer.start()
                    self._offsets = consumer
                found = await what(self._offsets, [TopicPartition(*place) for place in places])
            except KafkaError as error:
                raise translate(error) from error
        return {(tp.topic, tp.partition): int(offset) for tp, offset in found.items()}

    async def _resolve(self, positions: Mapping[Place, Position]) -> dict[Place, int]:
        starts = (
            await self.start_offsets([p for p, at in positions.items() if at == "start"])
            if "start" in positions.values()
            else {}
        )
        ends = (
            await self.end_offsets([p for p, at in positions.items() if at == "end"])
            if "end" in positions.values()
            else {}
        )
        return {
            place: at if isinstance(at, int) else (starts | ends)[place]
            for place, at in positions.items()
        }

    async def committed(self, group: str, places: Iterable[Place]) -> dict[Place, int | None]:
        """Give a group's committed offsets; the partition must be fenced before, else they may be old."""
        admin, places = await self.admin(), list(places)
        try:
            found = await admin.list_consumer_group_offsets(
                group, partitions=[TopicPartition(*p) for p in places]
            )
        except KafkaError as error:
            raise translate(error) from error
        offsets = {(tp.topic, tp.partition): meta.offset for tp, meta in found.items()}
        return {
            place: None if offsets.get(place, -1) < 0 else int(offsets[place]) for place in places
        }

    async def delete_before(self, offsets: Mapping[Place, int]) -> None:
        """Delete the records before each offset (delete_records)."""
        admin = await self.admin()
        wanted = {
            TopicPartition(*place): RecordsToDelete(before_offset=at)
            for place, at in offsets.items()
        }
        try:
            await admin.delete_records(wanted)
        except KafkaError as error:
            raise translate(error) from error

    async def admin(self) -> AIOKafkaAdminClient:
        """Give the admin client of this process; for ``shared.kafka`` alone."""
        async with self._lock:
            if self._admin is None:
                admin = AIOKafkaAdminClient(**self._common)
                try:
                    await admin.start()
                except BaseException as error:
                    await _quietly(admin.close)
                    raise translate(error) from error
                self._admin = admin
        return self._admin

    async def close(self) -> None:
        """Close what the process shares; readers, producers and members are closed by their owners."""
        if self._admin is not None:
            await _quietly(self._admin.close)
        if self._offsets is not None:
            await _quietly(self._offsets.stop)


async def _quietly(close: Callable[[], Awaitable[object]]) -> None:
    try:
        async with asyncio.timeout(_STOP_S):
            await close()
    except (KafkaError, TimeoutError, KafkaUnavailable):
        return
