"""What the tests of shared/kafka share: topics of their own, all records of a partition, a member in a thread whose loop can be blocked."""

import asyncio
import itertools
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from shared.kafka.admin import apply_topics
from shared.kafka.cluster import Cluster
from shared.kafka.membership import Membership
from shared.kafka.reader import Received
from shared.records.topics import TopicSpec

T = TypeVar("T")
Place = tuple[str, int]


@dataclass(slots=True)
class Log:
    """A cluster under a prefix of the test's own."""

    cluster: Cluster
    prefix: str
    _names: "itertools.count[int]" = field(default_factory=itertools.count)

    async def topic(self, partitions: int = 1, **config: str) -> str:
        """Create a topic; `max_message_bytes="1000"` is max.message.bytes."""
        name = f"{self.prefix}topic-{next(self._names)}"
        spec = TopicSpec(
            name, partitions, 1, {key.replace("_", "."): value for key, value in config.items()}
        )
        applied = await apply_topics(self.cluster, [spec])
        assert not applied.problems
        return name

    async def records(self, topic: str, partition: int = 0) -> list[Received]:
        """Read everything that is committed."""
        here = (topic, partition)
        end = (await self.cluster.end_offsets([here]))[here]
        reader = await self.cluster.reader({here: "start"})
        found: list[Received] = []
        try:
            async with asyncio.timeout(60):
                while reader.position(here) < end:
                    found += await reader.poll(wait_ms=50)
        finally:
            await reader.stop()
        return found

    async def settle(self, transactional_id: str) -> None:
        """Fence the id, and with it wait until its last round is there to be read: a commit returns before that."""
        await (await self.cluster.transactor(transactional_id)).stop()

    async def see(self, expected: list[bytes | None], topic: str, partition: int = 0) -> None:
        """Wait until the partition holds just this."""
        until = time.monotonic() + 30
        while (found := await self.values(topic, partition)) != expected:
            assert time.monotonic() < until, found
            await asyncio.sleep(0.05)

    async def values(self, topic: str, partition: int = 0) -> list[bytes | None]:
        return [record.value for record in await self.records(topic, partition)]


class Aside:
    """A loop in a thread of its own, with a cluster: another process, as far as Kafka can see."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.cluster: Cluster

    async def __aenter__(self) -> Self:
        self._thread.start()
        self.cluster = await self.run(self._make())
        return self

    async def _make(self) -> Cluster:
        return Cluster(self._bootstrap, client_id="aside")

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it there, and wait here."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    def block(self, seconds: float) -> None:
        """Let nothing else run there for so long."""
        self._loop.call_soon_threadsafe(time.sleep, seconds)

    async def __aexit__(self, *_: object) -> None:
        await self.run(self.cluster.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join, 20)
        self._loop.close()


async def owns(membership: Membership, count: int, seconds: float = 30) -> frozenset[int]:
    """Wait until so many partitions are owned."""
    async with asyncio.timeout(seconds):
        while len(membership.owned()) != count:
            await asyncio.sleep(0.02)
    return membership.owned()
