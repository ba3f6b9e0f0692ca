"""What is acknowledged is in the log, in order; a broken producer says so to everybody and sends nothing more."""

import asyncio
import random
import time

import pytest

from shared.kafka.errors import ProducerBroken, RecordTooLarge, TopicProblem
from tests.support.kafka import Log


async def test_records_of_a_partition_keep_their_order_and_say_where_they_lie(log: Log) -> None:
    topic = await log.topic()
    producer = await log.cluster.producer(linger_ms=2)
    sendings = [await producer.put(topic, 0, b"%d" % at) for at in range(2000)]
    stamps = [await sending.done() for sending in sendings]
    await producer.stop()
    assert [stamp.offset for stamp in stamps] == list(range(2000))
    await log.see([b"%d" % at for at in range(2000)], topic)


async def test_a_stamp_is_the_brokers_where_the_topic_says_so(log: Log) -> None:
    topic = await log.topic(message_timestamp_type="LogAppendTime")
    producer = await log.cluster.producer()
    stamped = await producer.send(topic, 0, b"x")
    await producer.stop()
    assert [record.timestamp for record in await log.records(topic)] == [stamped.timestamp_ms]
    assert abs(stamped.timestamp_ms / 1000 - time.time()) < 5


async def test_what_is_too_large_for_any_topic_is_refused_and_breaks_nothing(log: Log) -> None:
    topic = await log.topic()
    producer = await log.cluster.producer()
    with pytest.raises(RecordTooLarge):
        await producer.send(topic, 0, bytes(100_000_000))
    assert not producer.broken
    await producer.send(topic, 0, b"next")
    await producer.stop()
    await log.see([b"next"], topic)


async def test_a_refused_batch_breaks_the_producer_for_everybody(log: Log) -> None:
    strict = await log.topic(max_message_bytes="10000")
    producer = await log.cluster.producer()
    # So that the broker knows this producer's sequence.
    await producer.send(strict, 0, b"first")
    culprit = await producer.put(strict, 0, random.Random(1).randbytes(20_000))
    with pytest.raises(RecordTooLarge):
        await culprit.done()
    assert producer.broken
    with pytest.raises(ProducerBroken, match="TooLarge"):
        await producer.put(strict, 0, b"never")
    await producer.stop()
    fresh = await log.cluster.producer()
    await fresh.send(strict, 0, b"again")
    await fresh.stop()
    await log.see([b"first", b"again"], strict)


async def test_everything_open_fails_when_one_batch_does_though_nobody_waits_for_it(
    log: Log,
) -> None:
    topic, strict = await log.topic(), await log.topic(max_message_bytes="10000")
    producer = await log.cluster.producer(linger_ms=30_000)
    other = await producer.put(topic, 0, b"lingers")
    # A full batch does not linger: the second record sends the first off.
    for _ in range(2):
        await producer.put(strict, 0, random.Random(1).randbytes(600_000))
    began = time.monotonic()
    with pytest.raises(ProducerBroken):
        await other.done()
    assert time.monotonic() - began < 20
    await producer.stop()


async def test_a_partition_that_is_not_there_is_said_and_breaks_nothing(log: Log) -> None:
    topic = await log.topic()
    producer = await log.cluster.producer()
    with pytest.raises(TopicProblem):
        await producer.send(topic, 9, b"x")
    await producer.send(topic, 0, b"x")
    await producer.stop()


async def test_a_waiter_that_gives_up_does_not_take_the_record_back(log: Log) -> None:
    topic = await log.topic()
    producer = await log.cluster.producer(linger_ms=300)
    sending = await producer.put(topic, 0, b"x")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await sending.done()
    assert (await sending.done()).offset == 0
    await producer.stop()


async def test_stop_sends_what_is_left(log: Log) -> None:
    topic = await log.topic()
    producer = await log.cluster.producer(linger_ms=500)
    sending = await producer.put(topic, 0, b"x")
    await producer.stop()
    assert (await sending.done()).offset == 0
    await log.see([b"x"], topic)
    with pytest.raises(ProducerBroken, match="stopped"):
        await producer.send(topic, 0, b"y")
