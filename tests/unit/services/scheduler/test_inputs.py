"""When a round begins: new mail at once, outcomes when they have been gathered, and no class or topic stands before another."""

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self, cast

import structlog

from services.scheduler.inputs import Inputs
from shared.kafka.reader import Place, Received
from shared.records.topics import CLASSES, Topics
from tests.support.virtualtime import LoopClock, run

if TYPE_CHECKING:
    from services.scheduler.policy.ledger import Ledger
    from shared.kafka.cluster import Cluster

MS = 1_000_000
FAR_NS = 1 << 62
TOPICS = Topics("")
BULK, FIRST = (TOPICS.deliveries(class_) for class_ in ("bulk", "transactional"))


@dataclass
class Record:
    topic: str
    offset: int
    partition: int = 0
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = b"v"


@dataclass
class Log:
    """One topic's partition as aiokafka's client gives it: what a fetch brought, and the rest an answer later."""

    topic: str
    waiting: list[Record] = field(default_factory=list)
    paused: bool = False
    came: asyncio.Event = field(default_factory=asyncio.Event)
    polls: int = 0
    _offsets: "itertools.count[int]" = field(default_factory=itertools.count)

    def put(self, count: int = 1) -> None:
        self.waiting += [Record(self.topic, next(self._offsets)) for _ in range(count)]
        self.came.set()

    async def poll(self, *, max_records: int = 1000, wait_ms: int = 20) -> list[Received]:
        assert max_records > 0
        self.polls += 1
        end = asyncio.get_running_loop().time() + wait_ms / 1000
        while not self.waiting or self.paused:
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                return []
            self.came.clear()
            try:
                async with asyncio.timeout(left):
                    await self.came.wait()
            except TimeoutError:
                return []
        found, self.waiting = self.waiting[:max_records], self.waiting[max_records:]
        return cast("list[Received]", found)

    def pause(self, _: Place) -> None:
        self.paused = True

    def resume(self, _: Place) -> None:
        self.paused = False
        self.came.set()

    async def stop(self) -> None:
        pass


class Broker:
    """Gives a reader of each topic."""

    def __init__(self) -> None:
        self.logs: dict[str, Log] = {}

    async def start_offsets(self, places: list[Place]) -> dict[Place, int]:
        return dict.fromkeys(places, 0)

    async def reader(self, positions: Mapping[Place, int], **_: object) -> Log:
        ((topic, _partition),) = positions
        return self.logs.setdefault(topic, Log(topic))


@dataclass
class Decider:
    """As much of a ledger as inputs ask."""

    gather: int = 400 * MS
    begins: int = FAR_NS
    full: bool = False

    def __post_init__(self) -> None:
        self.intake = SimpleNamespace(
            parking=SimpleNamespace(scanning=lambda _: False),
            full=lambda _: self.full,
            easy=lambda _: not self.full,
        )

    def gather_ns(self) -> int:
        return self.gather

    def begin_ns(self) -> int:
        return self.begins

    def awaited(self) -> list[str]:
        return []

    def count(self, _: str) -> int:
        return 0


class Room:
    def __init__(self) -> None:
        self.broker, self.decider, self.clock = Broker(), Decider(), LoopClock()
        self.inputs = Inputs(
            0,
            cast("Ledger", self.decider),
            TOPICS,
            cast("Cluster", self.broker),
            cast("Any", self.clock),
            structlog.get_logger(),
        )

    async def __aenter__(self) -> Self:
        await self.inputs.open({})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.inputs.close()

    def log(self, topic: str) -> Log:
        return self.broker.logs[topic]

    async def gather(self, most: int = 100) -> tuple[list[str], float]:
        """Give the topics of what came, and how long it was waited for."""
        began = asyncio.get_running_loop().time()
        found = await self.inputs.gather(most)
        waited = asyncio.get_running_loop().time() - began
        return [each.topic for each in found], round(waited, 6)


async def later(seconds: float, log: Log, count: int = 1) -> None:
    await asyncio.sleep(seconds)
    log.put(count)


def test_outcomes_are_gathered_and_new_mail_ends_it_at_once() -> None:
    async def story() -> None:
        async with Room() as room:
            outcomes = room.log(TOPICS.outcomes)
            outcomes.put(3)
            adding = asyncio.create_task(later(0.2, outcomes, 2))
            found, waited = await room.gather()
            assert found == [TOPICS.outcomes] * 5
            assert 0.4 <= waited < 0.41
            outcomes.put(3)
            mail = asyncio.create_task(later(0.05, room.log(BULK)))
            found, waited = await room.gather()
            assert sorted(found) == [BULK, *[TOPICS.outcomes] * 3]
            assert 0.05 <= waited < 0.06
            await asyncio.gather(adding, mail)

    run(story())


def test_what_the_ledger_has_to_do_ends_the_waiting() -> None:
    async def story() -> None:
        async with Room() as room:
            room.decider.begins = room.clock.now_ns() + 70 * MS
            found, waited = await room.gather()
            assert not found
            assert 0.07 <= waited < 0.08

    run(story())


def test_a_backlog_of_outcomes_is_not_waited_for() -> None:
    async def story() -> None:
        async with Room() as room:
            room.log(TOPICS.outcomes).put(250)
            await room.gather()
            for left in (150, 50):
                assert len(room.log(TOPICS.outcomes).waiting) == left
                _, waited = await room.gather()
                assert waited < 0.01

    run(story())


def test_neither_class_nor_outcomes_stand_before_the_others() -> None:
    async def story(most: int) -> None:
        async with Room() as room:
            for log in room.broker.logs.values():
                log.put(40 * most)
            await asyncio.sleep(0.01)
            taken: list[str] = []
            for _ in range(12):
                found, _ = await room.gather(most)
                assert len(found) <= most
                taken += found
            assert len(taken) >= 9 * most
            for topic in (TOPICS.outcomes, FIRST, BULK):
                assert taken.count(topic) >= most, (topic, taken)

    for most in (100, 7, 2):
        run(story(most))


def test_one_at_a_time_means_one() -> None:
    async def story() -> None:
        async with Room() as room:
            for log in room.broker.logs.values():
                log.put(2)
            found: list[str] = []
            while len(found) < 6:
                came, _ = await room.gather(1)
                assert len(came) <= 1
                found += came
            assert {topic: found.count(topic) for topic in found} == dict.fromkeys(
                (TOPICS.outcomes, FIRST, BULK), 2
            )

    run(story())


def test_a_class_that_is_paused_gives_nothing_and_loses_nothing() -> None:
    async def story() -> None:
        async with Room() as room:
            # Its poll is under way when the memory turns out to be full.
            await room.gather()
            room.log(BULK).put(5)
            await asyncio.sleep(0.01)
            room.decider.full = True
            room.inputs.throttle()
            room.log(FIRST).put(5)
            found, waited = await room.gather()
            assert not found
            assert waited >= 0.4
            room.decider.full = False
            room.inputs.throttle()
            found = []
            while len(found) < 10:
                came, _ = await room.gather()
                found += came
            assert [found.count(TOPICS.deliveries(class_)) for class_ in CLASSES] == [5, 5]

    run(story())
