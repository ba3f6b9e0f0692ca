"""Group membership without records: a consumer of the empty topic mail.members, polled every second.

Ownership is what the rebalance callbacks said last, never ``assignment()``: a member that was thrown out still lists its partitions
there. ``wait_confirmed`` answers the question that a worker has after it fenced the older owner: is the partition still mine?
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from shared.kafka.errors import translate

_POLL_S: Final = 1.0


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]
    """This process's place in a group."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        """``start`` joins."""
        self._consumer, self._topic = consumer, topic
        self._owned: frozenset[int] = frozenset()
        self._confirmed_s = 0.0
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.generation = 0

    async def start(self) -> "Membership":
        """Join the group and keep polling."""
        try:
            await self._consumer.start()
        except BaseException as error:
            await self._consumer.stop()
            raise translate(error) from error
        self._consumer.subscribe([self._topic], listener=self)
        self._watch_heartbeats()
        self._task = asyncio.create_task(self._poll())
        return self

    def _watch_heartbeats(self) -> None:
        # aiokafka tells nobody when a heartbeat succeeded; wrapped here, in this one place. A heartbeat that was *sent* after a
        # fence and came back says that the group still counts this member, and so that its partitions are still its own.
        coordinator: Any = self._consumer._coordinator  # noqa: SLF001
        theirs = coordinator._do_heartbeat  # noqa: SLF001

        async def beat() -> bool:
            sent = asyncio.get_running_loop().time()
            alive: bool = await theirs()
            if alive:
                await self._confirm(sent)
            return alive

        coordinator._do_heartbeat = beat  # noqa: SLF001

    async def _poll(self) -> None:
        while True:
            try:
                # The topic is empty: this only tells the client that its user is alive.
                await self._consumer.getmany(timeout_ms=0)
            except KafkaError as error:
                # No membership without Kafka: the session decides when others take over.
                del error
            await asyncio.sleep(_POLL_S)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Lose everything: what is kept comes back with the assignment."""
        del revoked
        await self._set(frozenset())

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Own what the new generation gives."""
        self.generation += 1
        await self._set(frozenset(tp.partition for tp in assigned))
        await self._confirm(asyncio.get_running_loop().time())

    async def _set(self, owned: frozenset[int]) -> None:
        async with self._changed:
            self._owned = owned
            self._changed.notify_all()

    async def _confirm(self, sent_s: float) -> None:
        async with self._changed:
            self._confirmed_s = max(self._confirmed_s, sent_s)
            self._changed.notify_all()

    def owned(self) -> frozenset[int]:
        """Give the partitions that this process owns."""
        return self._owned

    async def changed(self, known: frozenset[int]) -> frozenset[int]:
        """Wait until what is owned differs from ``known``."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._owned != known)
            return self._owned

    async def wait_confirmed(self, partition: int, since_s: float) -> bool:
        """Wait for a heartbeat or a generation after ``since_s`` (the loop's time); False: the partition is no longer owned."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: partition not in self._owned or self._confirmed_s > since_s
            )
            return partition in self._owned

    async def stop(self) -> None:
        """Leave the group."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._consumer.stop()
