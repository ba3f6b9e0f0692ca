"""A reader of partitions that were assigned by hand: read_committed, from positions that are known, never reset silently.

A watchdog looks at position against high water: a consumer that should get records and gets none is made anew at the same position.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared.kafka.errors import translate

# Without a record for so long although the broker has some: the consumer is stuck (seen after broker restarts and long stalls).
_STUCK_S: Final = 30.0

Place = tuple[str, int]


class Received(Protocol):
    """One record, as aiokafka's ConsumerRecord has it."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int:
        """The broker's or the producer's stamp, ms since the epoch."""
        ...

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class Reader:
    """Read the partitions that it was given."""

    def __init__(
        self, make: Callable[[], AIOKafkaConsumer], positions: Mapping[Place, int]
    ) -> None:
        """``make`` builds a consumer; ``start`` begins at ``positions``."""
        self._make = make
        self._consumer: AIOKafkaConsumer | None = None
        self._positions = dict(positions)
        self._paused: set[Place] = set()
        self._heard_s = 0.0

    async def start(self) -> "Reader":
        """Connect and go to the positions."""
        consumer = self._make()
        try:
            await consumer.start()
        except BaseException as error:
            await consumer.stop()
            raise translate(error) from error
        consumer.assign([TopicPartition(*place) for place in self._positions])
        for place, offset in self._positions.items():
            consumer.seek(TopicPartition(*place), offset)
        if self._paused:
            consumer.pause(*(TopicPartition(*place) for place in self._paused))
        # aiokafka's stop() breaks off half-way when a task of its own has not had its first step yet.
        await asyncio.sleep(0)
        self._consumer = consumer
        self._heard_s = asyncio.get_running_loop().time()
        return self

    async def poll(self, *, max_records: int = 1000, wait_ms: int = 20) -> list[Received]:
        """Give what has come, waiting at most ``wait_ms``; raises OffsetOutOfRange, KafkaUnavailable."""
        consumer = self._running()
        try:
            batches = await consumer.getmany(timeout_ms=wait_ms, max_records=max_records)
        except KafkaError as error:
            raise translate(error) from error
        found: list[Received] = []
        for records in batches.values():
            found.extend(records)
        now = asyncio.get_running_loop().time()
        if found:
            self._heard_s = now
        elif now - self._heard_s > _STUCK_S:
            self._heard_s = now
            if any(
                (self.lag(place) or 0) > 0 for place in self._positions if place not in self._paused
            ):
                await self._again()
        return found

    async def _again(self) -> None:
        for place in self._positions:
            self._positions[place] = self.position(place)
        await self._running().stop()
        await self.start()

    def position(self, place: Place) -> int:
        """Give the next offset: past the markers of transactions, so that it can reach the log's end."""
        consumer, tp = self._running(), TopicPartition(*place)
        # aiokafka tells positions only through a coroutine that may wait for the broker; a sought partition always has one here.
        state = consumer._subscription.subscription.assignment.state_value(tp)  # noqa: SLF001
        return int(state.position) if state.has_valid_position else self._positions[place]

    def seek(self, place: Place, offset: int) -> None:
        """Read on from ``offset``; what was fetched from elsewhere is dropped."""
        self._positions[place] = offset
        self._running().seek(TopicPartition(*place), offset)

    def pause(self, place: Place) -> None:
        """Read nothing of this partition until ``resume``."""
        self._paused.add(place)
        self._running().pause(TopicPartition(*place))

    def resume(self, place: Place) -> None:
        """Read this partition again."""
        self._paused.discard(place)
        self._running().resume(TopicPartition(*place))

    def lag(self, place: Place) -> int | None:
        """Count the records behind the high water, as of the last fetch; None: nothing fetched yet."""
        high = self._running().highwater(TopicPartition(*place))
        return None if high is None else max(0, high - self.position(place))

    async def stop(self) -> None:
        """Close the consumer."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            # Gathered: a CancelledError of a task inside aiokafka is not a cancellation of ours.
            await asyncio.gather(consumer.stop(), return_exceptions=True)

    def _running(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("the reader is not running")
        return self._consumer
