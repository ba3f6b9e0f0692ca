"""Transactional mail comes first, bulk is never starved, and a round is bounded in records and bytes."""

import asyncio
import itertools
from dataclasses import dataclass
from typing import cast

import pytest

from services.ingest.doors.kafka import ROUND_BYTES, ROUND_RECORDS, Door, _Lane
from shared.kafka.reader import Reader, Received


@dataclass
class Record:
    topic: str
    partition: int
    offset: int
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = b"v"


class Feed:
    """A reader of one topic: its polls give these batches, then nothing."""

    def __init__(self, topic: str, batches: list[list[bytes]]) -> None:
        offsets = itertools.count()
        self.batches = [[Record(topic, 0, next(offsets), value=v) for v in b] for b in batches]
        self.polls = 0

    async def poll(self, *, max_records: int = 1000, wait_ms: int = 20) -> list[Received]:
        self.polls += 1
        await asyncio.sleep(0 if self.batches else 0.01)
        return cast("list[Received]", self.batches.pop(0)) if self.batches else []

    def lag(self, place: tuple[str, int]) -> int | None:
        return sum(map(len, self.batches))

    async def stop(self) -> None:
        pass


def door(transactional: list[list[bytes]], bulk: list[list[bytes]]) -> tuple[Door, Feed, Feed]:
    feeds = Feed("transactional", transactional), Feed("bulk", bulk)
    lanes = [
        _Lane(cast("Reader", feed), (name, 0))
        for name, feed in zip(("transactional", "bulk"), feeds, strict=True)
    ]
    return Door(lanes), *feeds


async def filled(one: Door) -> asyncio.Task[None]:
    pumping = asyncio.create_task(one.pump())
    await turns()
    return pumping


async def turns() -> None:
    """Let everybody get as far as they can without waiting."""
    for _ in range(100):
        await asyncio.sleep(0)


async def end(pumping: asyncio.Task[None]) -> None:
    pumping.cancel()
    await asyncio.gather(pumping, return_exceptions=True)


def topics(records: list[Received]) -> str:
    return "".join(record.topic[0] for record in records)


async def test_transactional_comes_first_and_bulk_gets_a_tenth() -> None:
    one, _, _ = door([[b"v"] * 2000], [[b"v"] * 2000])
    pumping = await filled(one)
    taken = await one.take(1000)
    assert topics(taken) == "t" * 900 + "b" * 100
    assert topics(await one.take(1)) == "t"
    await end(pumping)


async def test_each_alone_gets_the_whole_round() -> None:
    full = [b"v"] * 1000
    for one, _, _ in (door([full], []), door([], [full])):
        pumping = await filled(one)
        assert len(await one.take(1000)) == 1000
        await end(pumping)


async def test_a_round_holds_sixteen_mebibytes_or_one_record() -> None:
    big = b"x" * (ROUND_BYTES // 2 - 1)
    one, _, _ = door([[big, big, big]], [[b"x" * (ROUND_BYTES * 2), b"v"]])
    pumping = await filled(one)
    assert [topics(await one.take(1000)) for _ in range(4)] == ["tt", "t", "b", "b"]
    await end(pumping)


async def test_a_full_buffer_is_filled_no_further_until_there_is_room() -> None:
    one, _, bulk = door([], [[b"v"] * ROUND_RECORDS] * 5)
    pumping = await filled(one)
    assert len(bulk.batches) == 4
    assert one.behind("bulk") == 5 * ROUND_RECORDS
    await one.take(ROUND_RECORDS)
    await turns()
    assert len(bulk.batches) == 3
    await end(pumping)


async def test_what_is_put_back_comes_first_and_in_order() -> None:
    one, _, _ = door([[b"v"] * 3], [[b"v"] * 3])
    pumping = await filled(one)
    taken = await one.take(1000)
    one.put_back(taken[2:])
    again = await one.take(1000)
    assert [(r.topic, r.offset) for r in again] == [(r.topic, r.offset) for r in taken[2:]]
    await end(pumping)


async def test_take_waits_until_there_is_something() -> None:
    one, feed, _ = door([], [])
    pumping = await filled(one)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await one.take(10)
    feed.batches.append([Record("transactional", 0, 5)])
    assert [r.offset for r in await one.take(10)] == [5]
    await end(pumping)


async def test_every_record_is_given_once_and_each_topic_keeps_its_order() -> None:
    one, _, _ = door([[b"v"] * 700] * 5, [[b"v"] * 900] * 5)
    pumping = await filled(one)
    seen: list[tuple[str, int]] = []
    while len(seen) < 8000:
        taken = await one.take(333)
        back = taken[-7:] if len(taken) > 300 else []
        one.put_back(back)
        seen += [(r.topic, r.offset) for r in taken[: len(taken) - len(back)]]
    for name, count in (("transactional", 3500), ("bulk", 4500)):
        assert [offset for topic, offset in seen if topic == name] == list(range(count))
    await end(pumping)
