"""Group membership without records: a consumer of the empty topic mail.members, polled every second by a task of its own.

Ownership is what the rebalance callbacks said last, never ``assignment()``: a member that was thrown out still lists its partitions
there. ``wait_confirmed`` answers the question that a worker has after it was fenced: is the partition still mine?

While the group rebalances, what was owned stays owned until the new generation says otherwise: a partition that does not move is not
restarted. One that moves is fenced by its new owner, so a moment of two owners costs the old one a round and nothing else. Everything is
lost at once when the group no longer knows this member, or when it has not answered for a session: then others have it, or nobody.

A member may have a name that outlives its process (static membership, KIP-345). A process that was killed and started again in its pod then
has its partitions back at once, and nobody else hears of it; without a name it would be a stranger, for whom the whole group comes together
and waits up to a session for the dead one, and a pod that dies again and again would keep what it owns from everybody. Who leaves says so,
named or not. Whoever is thrown out comes back without the name: another process may bear it, and two would throw each other out for ever.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from shared.kafka.closing import close_consumer
from shared.kafka.errors import THEIRS, translate

SESSION_S: Final = 30.0
_POLL_S: Final = 1.0
# While the group rebalances, a poll waits for its end.
_POLL_MOST_S: Final = 0.5
_NOBODY: Final[frozenset[int]] = frozenset()


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]
    """This process's place in a group."""

    def __init__(
        self,
        make: Callable[[str | None], AIOKafkaConsumer],
        topic: str,
        *,
        instance: str | None = None,
        session_s: float = SESSION_S,
    ) -> None:
        """``make`` builds a consumer that is in the group, under a name or None; ``start`` joins."""
        self._make, self._topic, self._session_s = make, topic, session_s
        self._instance = instance
        self._consumer: AIOKafkaConsumer | None = None
        self._assigned = self._owned = _NOBODY
        #: Since when this member has been joining the next generation.
        self._rejoining_s: float | None = None
        #: When the last question was sent that the group answered; and the last that confirmed what is owned.
        self._heard_s = self._confirmed_s = 0.0
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        #: What ended the polling.
        self._bug: Exception | None = None
        self.generation = 0
        #: What Kafka complained about last, for the log.
        self.trouble: str | None = None

    def __repr__(self) -> str:
        """Say what is owned."""
        state = "rejoining" if self._rejoining_s is not None else f"generation {self.generation}"
        return f"<Membership {sorted(self._owned)} [{state} | {self.trouble or 'no trouble'}]>"

    async def start(self) -> "Membership":
        """Join the group and keep polling; raises KafkaUnavailable."""
        try:
            await self._join()
        except THEIRS as error:
            raise translate(error) from error
        self._task = asyncio.create_task(self._run())
        return self

    async def _join(self) -> None:
        consumer = self._make(self._instance)
        try:
            await consumer.start()
        except BaseException:
            await close_consumer(consumer, polite_s=0)
            raise
        self._consumer = consumer
        self._heard_s = asyncio.get_running_loop().time()
        consumer.subscribe([self._topic], listener=self)
        self._watch_heartbeats(consumer)

    def _watch_heartbeats(self, consumer: AIOKafkaConsumer) -> None:
        # aiokafka tells nobody when a heartbeat succeeded; wrapped here, in this one place. A heartbeat that was *sent* after a
        # fence and came back says that the group still counts this member, and so that its partitions are still its own.
        coordinator: Any = consumer._coordinator  # noqa: SLF001
        theirs = coordinator._do_heartbeat  # noqa: SLF001

        async def beat() -> bool:
            sent_s = asyncio.get_running_loop().time()
            alive: bool = await theirs()
            if coordinator.generation < 0:
                self._go_by_no_name(consumer)
            if alive:
                # "Rebalance in progress" is an answer too, but confirms nothing: the next generation may say otherwise.
                again = coordinator._rejoin_needed_fut.done()  # noqa: SLF001
                await self._hear(sent_s, None if again else sent_s)
            return alive

        coordinator._do_heartbeat = beat  # noqa: SLF001

    def _go_by_no_name(self, consumer: AIOKafkaConsumer) -> None:
        """Join as a stranger from now on; and leave when closed, which a named member of aiokafka does not."""
        self._instance = None
        consumer._coordinator._group_instance_id = None  # noqa: SLF001

    async def _run(self) -> None:
        try:
            await self._keep_polling()
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever follows this membership must hear of it
            self._bug = error
            await self._lose(for_good=True)

    async def _keep_polling(self) -> None:
        while True:
            if self._consumer is None:
                try:
                    await self._join()
                except THEIRS as error:
                    self.trouble = str(translate(error))
            else:
                await self._poll(self._consumer)
            await asyncio.sleep(_POLL_S)

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        coordinator: Any = consumer._coordinator  # noqa: SLF001
        if coordinator._coordination_task.done():  # noqa: SLF001
            # The task inside aiokafka that rejoins has itself ended: this client will never be in a group again.
            self.trouble = "the client's coordination ended"
            await self._lose(for_good=True)
            self._consumer = None
            self._go_by_no_name(consumer)
            await close_consumer(consumer)
            return
        try:
            async with asyncio.timeout(_POLL_MOST_S):
                # The topic is empty: this only tells the client that its user is alive.
                await consumer.getmany(timeout_ms=0)
        except TimeoutError:
            pass
        except THEIRS as error:
            # Told once; aiokafka then goes on trying to join.
            self.trouble = str(translate(error))
        silent_s = asyncio.get_running_loop().time() - self._heard_s
        if coordinator.generation < 0:
            # The group has said that it does not know this member.
            await self._lose(for_good=True)
        elif silent_s > self._session_s * (1 if self._rejoining_s is None else 2):
            # While the members of a group come together, which may take as long as a session, none is answered.
            await self._lose(for_good=False)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Keep what is owned until the next generation, unless this member was thrown out."""
        del revoked
        self._rejoining_s = asyncio.get_running_loop().time()
        if self._consumer is None or self._consumer._coordinator.generation < 0:  # noqa: SLF001
            await self._lose(for_good=True)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Own what the new generation gives."""
        now_s = asyncio.get_running_loop().time()
        asked_s, self._rejoining_s = self._rejoining_s, None
        self._assigned = frozenset(tp.partition for tp in assigned)
        self.generation += 1
        self.trouble = None
        # The answer may have lain here while the loop was blocked: it confirms what was so when it was asked for.
        await self._hear(now_s, now_s if asked_s is None else asked_s)

    async def _hear(self, heard_s: float, confirmed_s: float | None) -> None:
        async with self._changed:
            self._heard_s = max(self._heard_s, heard_s)
            if confirmed_s is not None:
                self._confirmed_s = max(self._confirmed_s, confirmed_s)
                # Also what a silent session had taken away, where the group has been more patient.
                self._owned = self._assigned
            self._changed.notify_all()

    async def _lose(self, *, for_good: bool) -> None:
        async with self._changed:
            self._owned = _NOBODY
            if for_good:
                self._assigned = _NOBODY
            self._changed.notify_all()

    def owned(self) -> frozenset[int]:
        """Give the partitions that this process owns."""
        return self._owned

    async def changed(self, known: frozenset[int]) -> frozenset[int]:
        """Wait until what is owned differs from ``known``, and give it; raises what ended the polling: nothing would change any more."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._bug is not None or self._owned != known)
            if self._bug is not None:
                raise self._bug
            return self._owned

    async def wait_owned(self, partition: int) -> None:
        """Wait until ``partition`` is owned."""
        async with self._changed:
            await self._changed.wait_for(lambda: partition in self._owned)

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
        await self._lose(for_good=True)
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            self._go_by_no_name(consumer)
            await close_consumer(consumer)
