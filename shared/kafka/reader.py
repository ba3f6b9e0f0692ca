"""A reader of partitions that were assigned by hand: read_committed, from positions that are known, never reset silently.

Stuck consumers exist (broker restarts, long stalls). So a watchdog compares positions with the log's end, which another client asks the
broker for: a partition that stood still although there is more has its client made anew, at the same positions. If that changes nothing,
``poll`` raises KafkaUnavailable, and whoever owns the reader starts over.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.kafka.closing import close_consumer
from shared.kafka.errors import THEIRS, KafkaUnavailable, translate

# Standing still for so long although the broker has more: the consumer is stuck.
STUCK_S: Final = 30.0
_STUCK_CLOSE_S: Final = 1.0

Place = tuple[str, int]


class Received(Protocol):
    """One record, as aiokafka's ConsumerRecord has it."""

    @property
    def topic(self) -> str:
        """Where it lies."""
        ...

    @property
    def partition(self) -> int:
        """Where it lies."""
        ...

    @property
    def offset(self) -> int:
        """Where it lies."""
        ...

    @property
    def timestamp(self) -> int:
        """The broker's or the producer's stamp, ms since the epoch."""
        ...

    @property
    def key(self) -> bytes | None:
        """None: it has none."""
        ...

    @property
    def value(self) -> bytes | None:
        """None: a tombstone."""
        ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """What its producer said beside it."""
        ...


class Reader:
    """Read the partitions that it was given."""

    def __init__(
        self,
        make: Callable[[], AIOKafkaConsumer],
        positions: Mapping[Place, int],
        ends: Callable[[Iterable[Place]], Awaitable[Mapping[Place, int]]],
        *,
        stuck_s: float = STUCK_S,
    ) -> None:
        """``make`` builds a consumer; ``start`` begins at ``positions``; ``ends`` asks the broker where the logs end."""
        self._make = make
        self._ends = ends
        self._consumer: AIOKafkaConsumer | None = None
        self._positions = dict(positions)
        self._paused: set[Place] = set()
        self._stuck_s = stuck_s
        self._polled_s = 0.0
        self._looked_s = 0.0
        self._looked_at: dict[Place, int] = {}
        #: Partitions for which the client was made anew, at which position.
        self._remade: dict[Place, int] = {}

    def __repr__(self) -> str:
        """Say where it is."""
        where = ", ".join(
            f"{topic}/{partition}@{self._positions[topic, partition] if self._consumer is None else self.position((topic, partition))}"
            for topic, partition in self._positions
        )
        return f"<Reader {where} [{len(self._paused)} paused]>"

    async def start(self) -> "Reader":
        """Connect and go to the positions; raises KafkaUnavailable."""
        consumer = self._make()
        try:
            await consumer.start()
        except BaseException as error:
            await close_consumer(consumer)
            raise translate(error) from error
        self._consumer = consumer
        self._go_to_positions()
        return self

    def assign(self, positions: Mapping[Place, int]) -> None:
        """Read these partitions from now on, and no others; what was fetched of them is dropped, and none of them is paused.

        A fetch that is under way may delay the first record by as long as the broker waits for it.
        """
        self._positions = dict(positions)
        self._paused, self._remade = set(), {}
        self._go_to_positions()

    def _go_to_positions(self) -> None:
        consumer = self._running()
        consumer.assign([TopicPartition(*place) for place in self._positions])
        for place, offset in self._positions.items():
            consumer.seek(TopicPartition(*place), offset)
        if self._paused:
            consumer.pause(*(TopicPartition(*place) for place in self._paused))
        self._look()

    async def poll(self, *, max_records: int = 1000, wait_ms: int = 20) -> list[Received]:
        """Give what has come, waiting at most ``wait_ms``; raises OffsetOutOfRange, KafkaUnavailable."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._polled_s > self._stuck_s / 3:
            # Whoever does not ask is not given anything.
            self._look()
        self._polled_s = now_s
        if now_s - self._looked_s >= self._stuck_s:
            await self._watch()
        try:
            batches = await self._running().getmany(timeout_ms=wait_ms, max_records=max_records)
        except THEIRS as error:
            raise translate(error) from error
        found: list[Received] = []
        for records in batches.values():
            found.extend(records)
        return found

    def _look(self) -> None:
        self._looked_s = asyncio.get_running_loop().time()
        self._looked_at = {
            place: self.position(place) for place in self._positions if place not in self._paused
        }

    async def _watch(self) -> None:
        """Make the client anew if a partition has stood still although the broker has more for it."""
        still = [
            place
            for place, before in self._looked_at.items()
            if place not in self._paused and self.position(place) == before
        ]
        self._look()
        if not still:
            return
        try:
            # The client's own high water is as old as its last answer: a stuck one believes that there is no more.
            ends = await self._ends(still)
        except KafkaUnavailable:
            # Nobody gets anything: that is no sign of a client that is stuck.
            return
        stuck = [place for place in still if self.position(place) < ends[place]]
        if not stuck:
            return
        again = [place for place in stuck if self._remade.get(place) == self.position(place)]
        if again:
            raise KafkaUnavailable(f"a new client does not get on either: {again}")
        self._remade = {place: self.position(place) for place in stuck}
        await self._again()

    async def _again(self) -> None:
        for place in self._positions:
            self._positions[place] = self.position(place)
        stuck = self._running()
        await self.start()
        await close_consumer(stuck, polite_s=_STUCK_CLOSE_S)

    def position(self, place: Place) -> int:
        """Give the next offset: past the markers of transactions, so that it can reach the log's end."""
        consumer, tp = self._running(), TopicPartition(*place)
        # aiokafka tells positions only through a coroutine that may wait for the broker; a sought partition always has one here.
        state = consumer._subscription.subscription.assignment.state_value(tp)  # noqa: SLF001
        return int(state.position) if state.has_valid_position else self._positions[place]

    def seek(self, place: Place, offset: int) -> None:
        """Read on from ``offset``; what was fetched from elsewhere is dropped."""
        self._positions[place] = offset
        self._looked_at.pop(place, None)
        self._running().seek(TopicPartition(*place), offset)

    def pause(self, place: Place) -> None:
        """Read nothing of this partition until ``resume``."""
        self._paused.add(place)
        self._looked_at.pop(place, None)
        self._running().pause(TopicPartition(*place))

    def resume(self, place: Place) -> None:
        """Read this partition again."""
        self._paused.discard(place)
        self._running().resume(TopicPartition(*place))

    def paused(self, place: Place) -> bool:
        """Say whether nothing of this partition is read now."""
        return place in self._paused

    def lag(self, place: Place) -> int | None:
        """Count the records behind the high water, as of the last fetch; None: nothing fetched yet."""
        high = self._running().highwater(TopicPartition(*place))
        return None if high is None else max(0, high - self.position(place))

    async def stop(self) -> None:
        """Close the consumer."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await close_consumer(consumer)

    def _running(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("the reader is not running")
        return self._consumer
