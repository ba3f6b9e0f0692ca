"""The reader of a sender's grants: each comes once and in order to the line of its slot, whoever else comes, goes or has too much."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest
import structlog
from structlog.testing import capture_logs

from services.sender.dispatch import Dispatch
from shared.kafka.cluster import Cluster
from shared.records.codec import encode
from shared.records.grant import Grant
from shared.runtime.clock import SystemClock
from tests.support.grants import grant
from tests.support.kafka import Log

if TYPE_CHECKING:
    from services.sender.line import Line

SLOTS = 5


@dataclass
class Taken:
    """A line that notes what it is offered, and says how much it has in hand."""

    ids: list[str] = field(default_factory=list)
    bodies: set[bytes] = field(default_factory=set)
    in_hand: int = 0

    def offer(self, grant: Grant, body: bytes) -> None:
        self.ids.append(grant.id)
        self.bodies.add(body)

    def waiting(self) -> int:
        return self.in_hand


@dataclass
class Greedy(Taken):
    """One that has more in hand with every grant."""

    each: int = 20

    def waiting(self) -> int:
        return len(self.ids) * self.each


@pytest.fixture
async def log(kafka: str, prefix: str) -> AsyncIterator[Log]:
    cluster = Cluster(kafka, client_id="test")
    yield Log(cluster, prefix)
    await cluster.close()


@asynccontextmanager
async def dispatching(log: Log, topic: str) -> AsyncIterator[Dispatch]:
    dispatch = Dispatch(log.cluster, topic, SystemClock(), structlog.get_logger())
    running = asyncio.create_task(dispatch.run())
    try:
        yield dispatch
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def follow(dispatch: Dispatch, slot: int, start: int, taken: Taken) -> None:
    dispatch.follow(slot, start, cast("Line", taken))


async def put(log: Log, topic: str, slot: int, numbers: Iterable[int]) -> None:
    producer = await log.cluster.producer(linger_ms=0)
    values = [encode(grant(id=f"{slot}-{at}", slot=slot)) + b"\nbody" for at in numbers]
    for sending in [await producer.put(topic, slot, value) for value in values]:
        await sending.done()
    await producer.stop()


def ids(slot: int, numbers: Iterable[int]) -> list[str]:
    return [f"{slot}-{at}" for at in numbers]


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not done():
            await asyncio.sleep(0.02)


async def test_each_slot_gets_its_own_grants_in_order_while_others_come_and_go(log: Log) -> None:
    topic = await log.topic(SLOTS)
    lines = [Taken() for _ in range(SLOTS)]
    async with dispatching(log, topic) as dispatch:
        for slot in range(SLOTS):
            await put(log, topic, slot, range(20))
            follow(dispatch, slot, 10 if slot == 1 else 0, lines[slot])
        await until(lambda: all(line.ids[-1:] == [f"{n}-19"] for n, line in enumerate(lines)))
        dispatch.leave(2)
        assert [dispatch.follows(slot) for slot in (1, 2)] == [True, False]
        for slot in range(SLOTS):
            await put(log, topic, slot, range(20, 40))
        others = [line for n, line in enumerate(lines) if n != 2]
        await until(lambda: all(line.ids[-1].endswith("-39") for line in others))
        # Another epoch of the slot begins where the partition ends now.
        again = Taken()
        follow(dispatch, 2, 40, again)
        await put(log, topic, 2, range(40, 60))
        await until(lambda: again.ids[-1:] == ["2-59"])
    assert lines[0].bodies == {b"body"}
    assert [line.ids for line in lines] == [
        ids(0, range(40)),
        ids(1, range(10, 40)),
        ids(2, range(20)),
        ids(3, range(40)),
        ids(4, range(40)),
    ]
    assert again.ids == ids(2, range(40, 60))


async def test_a_line_with_much_in_hand_is_not_read_for_and_holds_up_nobody(log: Log) -> None:
    topic = await log.topic(2)
    full, free = Taken(in_hand=5_000), Taken()
    async with dispatching(log, topic) as dispatch:
        await put(log, topic, 0, range(5))
        follow(dispatch, 0, 0, full)
        follow(dispatch, 1, 0, free)
        await until(lambda: len(full.ids) == 5)
        await put(log, topic, 0, range(5, 10))
        await put(log, topic, 1, range(100))
        await until(lambda: len(free.ids) == 100)
        assert full.ids == ids(0, range(5))
        # Less, and not yet little.
        full.in_hand = 3_000
        await put(log, topic, 1, range(100, 200))
        await until(lambda: len(free.ids) == 200)
        assert full.ids == ids(0, range(5))
        full.in_hand = 0
        await until(lambda: len(full.ids) == 10)
    assert full.ids == ids(0, range(10))


async def test_what_was_fetched_for_a_line_that_has_too_much_meanwhile_is_given_later(
    log: Log,
) -> None:
    topic = await log.topic(2)
    full, free = Greedy(), Taken()
    await put(log, topic, 0, range(2_000))
    async with dispatching(log, topic) as dispatch:
        follow(dispatch, 0, 0, full)
        follow(dispatch, 1, 0, free)
        await until(lambda: len(full.ids) > 200)
        await put(log, topic, 1, range(50))
        await until(lambda: len(free.ids) == 50)
        # One portion more than it could take, at most.
        assert len(full.ids) <= 800
        full.each = 0
        await until(lambda: len(full.ids) == 2_000)
    assert (full.ids, free.ids) == (ids(0, range(2_000)), ids(1, range(50)))


async def test_grants_that_were_deleted_are_passed_over_with_an_error_and_stop_no_other_slot(
    log: Log,
) -> None:
    topic = await log.topic(2)
    await put(log, topic, 0, range(10))
    await log.cluster.delete_before({(topic, 0): 6})
    behind, beside = Taken(), Taken()
    with capture_logs() as said:
        async with dispatching(log, topic) as dispatch:
            follow(dispatch, 0, 0, behind)
            follow(dispatch, 1, 0, beside)
            await put(log, topic, 1, range(10))
            await until(lambda: len(behind.ids) == 4 and len(beside.ids) == 10)
    assert (behind.ids, beside.ids) == (ids(0, range(6, 10)), ids(1, range(10)))
    [error] = [each for each in said if each["log_level"] == "error"]
    assert (error["event"], error["slot"], error["at"], error["there"]) == (
        "dispatch_passed_over",
        0,
        0,
        6,
    )


async def test_a_grant_that_nobody_can_read_is_said_and_the_next_ones_come(log: Log) -> None:
    topic = await log.topic(1)
    producer = await log.cluster.producer(linger_ms=0)
    await producer.send(topic, 0, b"not a grant")
    await producer.stop()
    await put(log, topic, 0, range(3))
    taken = Taken()
    with capture_logs() as said:
        async with dispatching(log, topic) as dispatch:
            follow(dispatch, 0, 0, taken)
            await until(lambda: len(taken.ids) == 3)
    assert [each["event"] for each in said if each["log_level"] == "error"] == ["grant_unreadable"]
