"""A reader gives every committed record once, in order, from where it was told to; and it says so when it cannot."""

import asyncio
import time
from collections.abc import Iterable

import pytest
from aiokafka import AIOKafkaConsumer

from shared.kafka.errors import KafkaUnavailable, OffsetOutOfRange, TopicProblem
from shared.kafka.reader import Reader
from tests.support.kafka import Log


async def _fill(log: Log, topic: str, count: int, partition: int = 0) -> None:
    producer = await log.cluster.producer()
    for sending in [await producer.put(topic, partition, b"%d" % at) for at in range(count)]:
        await sending.done()
    await producer.stop()


async def _read(reader: Reader, count: int, seconds: float = 30) -> list[bytes | None]:
    found: list[bytes | None] = []
    async with asyncio.timeout(seconds):
        while len(found) < count:
            found += [record.value for record in await reader.poll(max_records=count - len(found))]
    return found


async def test_a_reader_starts_where_it_was_told_to_in_each_partition(log: Log) -> None:
    topic = await log.topic(3)
    for partition in range(3):
        await _fill(log, topic, 10, partition)
    reader = await log.cluster.reader({(topic, 0): 7, (topic, 1): "start", (topic, 2): "end"})
    assert sorted(map(int, filter(None, await _read(reader, 13)))) == sorted(
        [*range(7, 10), *range(10)]
    )
    assert await reader.poll(wait_ms=100) == []
    assert [reader.position((topic, partition)) for partition in range(3)] == [10, 10, 10]
    assert [reader.lag((topic, partition)) for partition in range(3)] == [0, 0, 0]
    await reader.stop()


@pytest.mark.parametrize("at", [0, 99], ids=["deleted", "not there yet"])
async def test_a_position_that_is_not_in_the_log_stops_the_reader(log: Log, at: int) -> None:
    topic = await log.topic()
    await _fill(log, topic, 10)
    await log.cluster.delete_before({(topic, 0): 5})
    assert await log.cluster.start_offsets([(topic, 0)]) == {(topic, 0): 5}
    reader = await log.cluster.reader({(topic, 0): at})
    for _ in range(2):
        with pytest.raises(OffsetOutOfRange):
            await _read(reader, 1)
    reader.seek((topic, 0), 5)
    assert await _read(reader, 5) == [b"5", b"6", b"7", b"8", b"9"]
    await reader.stop()


async def test_out_of_range_costs_no_record_of_another_partition(log: Log) -> None:
    topic = await log.topic(2)
    await _fill(log, topic, 10, 0)
    await _fill(log, topic, 10, 1)
    await log.cluster.delete_before({(topic, 0): 5})
    reader = await log.cluster.reader({(topic, 0): 0, (topic, 1): 0})
    found: list[bytes | None] = []
    refused = 0
    async with asyncio.timeout(30):
        while len(found) < 10 or not refused:
            try:
                found += [record.value for record in await reader.poll(max_records=3)]
            except OffsetOutOfRange:
                refused += 1
    assert found == [b"%d" % at for at in range(10)]
    await reader.stop()


async def test_positions_reach_the_end_past_markers_and_what_was_aborted(log: Log) -> None:
    topic = await log.topic()
    here = (topic, 0)
    tx = await log.cluster.transactor(log.prefix + "tx")
    async with tx.round() as round_:
        await round_.send(topic, 0, b"seen")

    async def aborted() -> None:
        async with tx.round() as round_:
            await round_.send_and_place(topic, 0, b"unseen")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await aborted()
    await tx.stop()
    end = (await log.cluster.end_offsets([here]))[here]
    reader = await log.cluster.reader({here: "start"})
    assert await _read(reader, 1) == [b"seen"]
    async with asyncio.timeout(30):
        while reader.position(here) < end:
            assert await reader.poll(wait_ms=50) == []
    assert end == 4
    await reader.stop()


async def test_the_end_is_the_last_stable_offset(log: Log) -> None:
    topic = await log.topic()
    await _fill(log, topic, 3)
    tx = await log.cluster.transactor(log.prefix + "tx")
    async with tx.round() as round_:
        await round_.send_and_place(topic, 0, b"open")
        assert await log.cluster.end_offsets([(topic, 0)]) == {(topic, 0): 3}
    await log.settle(log.prefix + "tx")
    assert await log.cluster.end_offsets([(topic, 0)]) == {(topic, 0): 5}
    await tx.stop()


async def test_positions_reach_the_end_of_a_compacted_partition(log: Log) -> None:
    topic = await log.topic(
        cleanup_policy="compact",
        segment_ms="100",
        min_cleanable_dirty_ratio="0.01",
        delete_retention_ms="0",
    )
    producer = await log.cluster.producer(linger_ms=0)
    for at in range(50):
        await producer.send(topic, 0, b"%d" % at, key=b"k")
    await producer.send(topic, 0, None, key=b"k")
    await producer.stop()
    records = await log.records(topic)
    # Whatever the cleaner has done so far, the last word is the tombstone, and the end was reached.
    assert records[-1].value is None


async def test_paused_partitions_give_nothing_and_lose_nothing(log: Log) -> None:
    topic = await log.topic(2)
    await _fill(log, topic, 20, 0)
    await _fill(log, topic, 20, 1)
    reader = await log.cluster.reader({(topic, 0): "start", (topic, 1): "start"})
    reader.pause((topic, 0))
    assert await _read(reader, 20) == [b"%d" % at for at in range(20)]
    assert await reader.poll(wait_ms=200) == []
    reader.pause((topic, 1))
    reader.resume((topic, 0))
    assert await _read(reader, 20) == [b"%d" % at for at in range(20)]
    await reader.stop()


async def test_a_seek_drops_what_was_fetched_from_elsewhere(log: Log) -> None:
    topic = await log.topic()
    await _fill(log, topic, 100)
    reader = await log.cluster.reader({(topic, 0): "start"})
    assert await _read(reader, 10) == [b"%d" % at for at in range(10)]
    reader.seek((topic, 0), 50)
    assert await _read(reader, 2) == [b"50", b"51"]
    reader.seek((topic, 0), 3)
    assert await _read(reader, 2) == [b"3", b"4"]
    await reader.stop()


async def test_a_record_larger_than_a_fetch_is_read(log: Log) -> None:
    topic = await log.topic(max_message_bytes=str(36 << 20))
    producer = await log.cluster.producer()
    await producer.send(topic, 0, bytes(20 << 20))
    await producer.send(topic, 0, b"next")
    await producer.stop()
    reader = await log.cluster.reader({(topic, 0): "start"}, fetch_max_bytes=1 << 20)
    assert [len(value or b"") for value in await _read(reader, 2)] == [20 << 20, 4]
    await reader.stop()


async def test_a_topic_that_is_not_there_is_said_at_once(log: Log) -> None:
    topic = await log.topic()
    began = time.monotonic()
    with pytest.raises(TopicProblem, match=r"topics apply"):
        await log.cluster.reader({(topic, 1): 0})
    with pytest.raises(TopicProblem):
        await log.cluster.end_offsets([(log.prefix + "nowhere", 0)])
    with pytest.raises(TopicProblem):
        await log.cluster.membership(log.prefix + "group", log.prefix + "nowhere")
    # Not after the 40 s that a client goes on asking.
    assert time.monotonic() - began < 30


async def test_a_stuck_client_is_made_anew_where_it_stood(log: Log) -> None:
    topic = await log.topic(2)
    await _fill(log, topic, 10, 0)
    reader = await log.cluster.reader({(topic, 0): "start", (topic, 1): "start"}, stuck_s=1)
    assert len(await _read(reader, 10)) == 10
    reader.pause((topic, 1))
    # As it is after some broker restarts: the client believes that it is well, and asks for nothing any more.
    reader._running()._fetcher._fetch_task.cancel()
    stuck = reader._consumer
    await _fill(log, topic, 5, 0)
    await _fill(log, topic, 5, 1)
    assert await _read(reader, 5) == [b"0", b"1", b"2", b"3", b"4"]
    assert reader._consumer is not stuck
    # What was paused still is.
    assert await reader.poll(wait_ms=500) == []
    await reader.stop()


async def test_a_reader_that_a_new_client_does_not_help_says_so(log: Log) -> None:
    topic = await log.topic()
    made = []

    def make() -> AIOKafkaConsumer:
        made.append(log.cluster._consumer())
        return made[-1]

    async def more_than_anybody_gets(
        places: Iterable[tuple[str, int]],
    ) -> dict[tuple[str, int], int]:
        return dict.fromkeys(places, 5)

    reader = await Reader(make, {(topic, 0): 0}, more_than_anybody_gets, stuck_s=0.4).start()

    async def read() -> None:
        while True:
            await reader.poll()

    with pytest.raises(KafkaUnavailable, match="new client"):
        await asyncio.wait_for(read(), 10)
    assert len(made) == 2
    await reader.stop()


async def test_a_quiet_partition_is_no_sign_of_a_stuck_client(log: Log) -> None:
    topic = await log.topic()
    await _fill(log, topic, 3)
    reader = await log.cluster.reader({(topic, 0): "start"}, stuck_s=0.3)
    assert len(await _read(reader, 3)) == 3
    first = reader._consumer
    for _ in range(20):
        assert await reader.poll(wait_ms=50) == []
    assert reader._consumer is first
    await reader.stop()
