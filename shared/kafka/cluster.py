"""Makes clients, with every setting that aiokafka's defaults get wrong for us in one place.

No auto commit, no silent reset of offsets, read_committed, acks=all and idempotence, zstd, batches large enough for a round, short
back-offs, and room for a message of 25 MiB. The session of a group member is long enough for a loop that was blocked for a while.

aiokafka waits for ever for a topic that is not there, and for a coordinator that does not answer: here both end in an error.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, Literal, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CoordinatorLoadInProgressError, KafkaConnectionError

from shared.kafka.closing import close_consumer, close_producer
from shared.kafka.errors import THEIRS, KafkaUnavailable, TopicProblem, refuse_unseen, translate
from shared.kafka.membership import SESSION_S, Membership
from shared.kafka.picker import Picker
from shared.kafka.producer import Producer
from shared.kafka.reader import STUCK_S, Place, Reader
from shared.kafka.security import PLAINTEXT, Security, security_of
from shared.kafka.transactor import Transactor
from shared.runtime.workings import Kafka

T = TypeVar("T")
Position = int | Literal["start", "end"]

MAX_RECORD_BYTES: Final = 36 << 20
FETCH_BYTES: Final = 16 << 20
#: How long the broker holds a fetch that finds nothing. Shorter ones cost it more when idle than mail does, and bring no record sooner.
FETCH_WAIT_MS: Final = 500
#: For a reader that is sent back and forth: a fetch that still waits at the end of the log holds up the next seek.
SEEK_FETCH_WAIT_MS: Final = 50
#: For a reader that only goes on: an idle fetch costs the broker two milliseconds of CPU, and there is one for each partition and slot.
PATIENT_FETCH_WAIT_MS: Final = 5_000
_BATCH_BYTES: Final = 512 << 10
# Between two tries while something is wrong. Shorter would be a storm of tries and of log lines while Kafka is away; where a round waits
# for it in good times, the transactor has its own.
_BACKOFF_MS: Final = 100
_TRANSACTION_MS: Final = 10_000
_HEARTBEAT_MS: Final = 1_000
_POLL_INTERVAL_MS: Final = 300_000
_START_S: Final = 30.0
_ASK_S: Final = 15.0
_ASK_AGAIN_S: Final = 0.1
_STOP_S: Final = 5.0
# A topic that was just created is not known to every broker yet.
_APPEARS_S: Final = 3.0


def connect(kafka: Kafka, *, client_id: str) -> "Cluster":
    """Give the cluster that the settings name, as they say to speak with it; raises CredentialsUnusable."""
    return Cluster(kafka.bootstrap, client_id=client_id, security=security_of(kafka))


class Cluster:
    """One Kafka cluster, as this process sees it."""

    def __init__(self, bootstrap: str, *, client_id: str, security: Security = PLAINTEXT) -> None:
        """``bootstrap``: host:port, or several with commas."""
        self._security = security
        self._common: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "client_id": client_id,
            "retry_backoff_ms": _BACKOFF_MS,
            **security.arguments(),
        }
        self._admin: AIOKafkaAdminClient | None = None
        self._offsets: AIOKafkaConsumer | None = None
        self._known: set[Place] = set()
        self._admin_lock = asyncio.Lock()
        self._offsets_lock = asyncio.Lock()

    # -- clients

    async def reader(
        self,
        positions: Mapping[Place, Position],
        *,
        fetch_wait_ms: int = FETCH_WAIT_MS,
        fetch_max_bytes: int = FETCH_BYTES,
        stuck_s: float = STUCK_S,
    ) -> Reader:
        """Make a reader of these partitions, each from its position; raises TopicProblem, KafkaUnavailable.

        A new record ends the broker's wait: a long ``fetch_wait_ms`` delays only ``seek`` and ``resume`` while a fetch is under way.
        """
        known = await self._resolve(positions)
        reader = Reader(
            lambda: self._consumer(fetch_wait_ms, fetch_max_bytes),
            known,
            self.end_offsets,
            stuck_s=stuck_s,
        )
        return await reader.start()

    async def picker(self) -> Picker:
        """Make one that reads records by their offsets; raises KafkaUnavailable, NotAllowed."""
        client = AIOKafkaClient(**self._common)
        try:
            async with asyncio.timeout(_START_S):
                await client.bootstrap()
        except BaseException as error:
            await client.close()
            raise translate(error) from error
        return Picker(client)

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
                # What takes longer is aborted by the broker anyhow.
                request_timeout_ms=_TRANSACTION_MS,
            )
        )

    async def membership(
        self,
        group: str,
        members_topic: str,
        *,
        instance: str | None = None,
        session_s: float = SESSION_S,
    ) -> Membership:
        """Join ``group`` on the empty topic that carries membership; as ``instance``, in place of the dead process that was it before."""
        await self._see_topics([(members_topic, 0)])

        def make(instance: str | None) -> AIOKafkaConsumer:
            # aiokafka keeps what a member had in the assignor's class: one of its own for each member.
            sticky = type("Sticky", (StickyPartitionAssignor,), {})
            return AIOKafkaConsumer(
                **self._common,
                group_id=group,
                group_instance_id=instance,
                enable_auto_commit=False,
                auto_offset_reset="latest",
                session_timeout_ms=int(session_s * 1000),
                heartbeat_interval_ms=_HEARTBEAT_MS,
                max_poll_interval_ms=_POLL_INTERVAL_MS,
                rebalance_timeout_ms=int(session_s * 1000),
                partition_assignment_strategy=(sticky,),
            )

        member = Membership(make, members_topic, instance=instance, session_s=session_s)
        return await member.start()

    def _consumer(
        self, fetch_wait_ms: int = FETCH_WAIT_MS, fetch_max_bytes: int = FETCH_BYTES
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
            **more,
            acks="all",
            enable_idempotence=True,
            # aiokafka compresses with lz4 at level 9: 15 MB/s of text, three quarters of what a round costs. zstd: 160 MB/s, and smaller.
            compression_type="zstd",
            max_batch_size=_BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
        )
        try:
            async with asyncio.timeout(_START_S):
                await producer.start()
        except BaseException as error:
            await close_producer(producer, polite_s=0)
            raise translate(error) from error
        return producer

    # -- offsets

    async def end_offsets(self, places: Iterable[Place]) -> dict[Place, int]:
        """Give the last stable offsets: where a read_committed reader has read everything."""
        return await self._offsets_of(places, lambda consumer, tps: consumer.end_offsets(tps))

    async def start_offsets(self, places: Iterable[Place]) -> dict[Place, int]:
        """Give the first offsets that are still there."""
        return await self._offsets_of(places, lambda consumer, tps: consumer.beginning_offsets(tps))

    async def _offsets_of(
        self,
        places: Iterable[Place],
        what: Callable[[AIOKafkaConsumer, list[TopicPartition]], Awaitable[Any]],
    ) -> dict[Place, int]:
        places = list(places)
        if not places:
            return {}
        await self._see_topics(places)
        async with self._offsets_lock:
            found = await self._ask(
                lambda: self._with_consumer(lambda c: what(c, [TopicPartition(*p) for p in places]))
            )
        return {(tp.topic, tp.partition): int(offset) for tp, offset in found.items()}

    async def _with_consumer(self, what: Callable[[AIOKafkaConsumer], Awaitable[T]]) -> T:
        if self._offsets is None:
            consumer = self._consumer()
            try:
                await consumer.start()
            except BaseException:
                await close_consumer(consumer, polite_s=0)
                raise
            self._offsets = consumer
        return await what(self._offsets)

    async def _resolve(self, positions: Mapping[Place, Position]) -> dict[Place, int]:
        await self._see_topics(positions)
        starts = await self.start_offsets([p for p, at in positions.items() if at == "start"])
        ends = await self.end_offsets([p for p, at in positions.items() if at == "end"])
        return {
            place: at if isinstance(at, int) else (starts | ends)[place]
            for place, at in positions.items()
        }

    async def committed(self, group: str, places: Iterable[Place]) -> dict[Place, int | None]:
        """Give a group's committed offsets; the partition must be fenced before, else they may be old."""
        admin, places = await self.admin(), list(places)
        tps = [TopicPartition(*place) for place in places]

        async def question() -> dict[TopicPartition, Any]:
            found: dict[TopicPartition, Any] = await admin.list_consumer_group_offsets(
                group, partitions=tps
            )
            if any(tp not in found for tp in tps):
                # aiokafka overlooks the error of the answer as a whole ("still loading"), and gives an empty one. A group
                # without offsets is told as -1 for each partition; taking the one for the other would start it all over.
                raise CoordinatorLoadInProgressError
            return found

        found = await self._ask(question)
        offsets = {place: int(found[tp].offset) for place, tp in zip(places, tps, strict=True)}
        return {place: None if offset < 0 else offset for place, offset in offsets.items()}

    async def delete_before(self, offsets: Mapping[Place, int]) -> None:
        """Delete the records before each offset (delete_records)."""
        admin = await self.admin()
        await self._see_topics(offsets)
        wanted = {
            TopicPartition(*place): RecordsToDelete(before_offset=at)
            for place, at in offsets.items()
        }
        await self._ask(lambda: admin.delete_records(wanted))

    async def admin(self) -> AIOKafkaAdminClient:
        """Give the admin client of this process; for ``shared.kafka`` alone."""
        async with self._admin_lock:
            if self._admin is None:
                admin = AIOKafkaAdminClient(**self._common)
                try:
                    await admin.start()
                except BaseException as error:
                    with suppress(*THEIRS):
                        await admin.close()
                    if isinstance(error, KafkaConnectionError):
                        await self._knock()
                    raise translate(error) from error
                self._admin = admin
        return self._admin

    async def _knock(self) -> None:
        """Connect once, to hear why that fails: aiokafka tells it to its log alone, and a wrong password is no outage."""
        host, port, _ = collect_hosts(self._common["bootstrap_servers"])[0]
        try:
            async with asyncio.timeout(_ASK_S):
                connection = await create_conn(
                    host,
                    port,
                    client_id=self._common["client_id"],
                    **self._security.arguments(),
                )
        except (*THEIRS, OSError) as error:
            raise translate(error) from error
        connection.close()

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer, for a while: coordinators and leaders move."""
        last: BaseException = TimeoutError()
        try:
            async with asyncio.timeout(_ASK_S):
                while True:
                    try:
                        return await question()
                    except THEIRS as error:
                        last = translate(error)
                        if not isinstance(last, KafkaUnavailable):
                            raise last from error
                        await asyncio.sleep(_ASK_AGAIN_S)
        except TimeoutError as error:
            raise translate(last) from error

    async def _see_topics(self, places: Iterable[Place]) -> None:
        """Raise TopicProblem for a partition that is not there; aiokafka would wait for it for ever."""
        missing = set(places) - self._known
        admin = await self.admin() if missing else None
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _APPEARS_S
        while missing and admin is not None:
            names = sorted({topic for topic, _ in missing})
            topics = await self._ask(lambda: admin.describe_topics(names))  # noqa: B023 - awaited here
            refuse_unseen(topics)
            for topic in topics:
                self._known |= {
                    (topic["topic"], partition["partition"]) for partition in topic["partitions"]
                }
            missing -= self._known
            if missing and loop.time() > until_s:
                what = ", ".join(f"{topic}/{partition}" for topic, partition in sorted(missing))
                raise TopicProblem(f"there is no {what}: run `postyard topics apply`")
            if missing:
                await asyncio.sleep(_ASK_AGAIN_S)

    async def close(self) -> None:
        """Close what the process shares; readers, producers and members are closed by their owners."""
        if self._admin is not None:
            admin, self._admin = self._admin, None
            with suppress(*THEIRS, TimeoutError):
                async with asyncio.timeout(_STOP_S):
                    await admin.close()
        if self._offsets is not None:
            consumer, self._offsets = self._offsets, None
            await close_consumer(consumer)
