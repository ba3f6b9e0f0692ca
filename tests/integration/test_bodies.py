"""Large bodies are stored once; waiting mail keeps no body in memory; the log is trimmed behind what ended."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.support.config import QUICK_TIMING, submission
from tests.support.stack import Events, Stack
from tests.support.yard import Yard

PARTITIONS = 2


@pytest.mark.timeout(500)
async def test_a_large_message_to_many_is_stored_once_and_reaches_them_all(yard: Yard) -> None:
    receiver = yard.receiver()
    # 2 GB in all: an attempt may take its time on a busy machine.
    timing = QUICK_TIMING.replace('attempt_max = "15s"', 'attempt_max = "120s"')
    stack = yard.stack(receiver, timing=timing)
    stack.start_all()
    text = ("0123456789" * 7 + "\r\n") * (20_000_000 // 72)
    recipients = [f"u{at}@a.test" for at in range(100)]
    await stack.produce([submission(recipients, text=text)])
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(100, 400)
        assert events.types() == {"delivered": 100}
    assert len(receiver.copies()) == 100
    assert (
        len({line["sha256"] for line in receiver.seen("message") if line["size"] < 20_000_000}) == 0
    )
    assert await stored(stack) == 1


async def stored(stack: Stack) -> int:
    """Count the records of mail.bodies."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=stack.kafka,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_bytes=64 << 20,
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(stack.topics.bodies, p) for p in range(PARTITIONS)])
        count = 0
        for _ in range(10):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                count += len(records)
        return count
    finally:
        await consumer.stop()


@pytest.mark.timeout(240)
async def test_deferred_mail_is_read_again_and_the_log_is_trimmed_behind_it(yard: Yard) -> None:
    receiver = yard.receiver()
    # No cache for bodies: what waits is read again from its offset.
    more = '[scheduler]\nbody_cache = "1B"'
    stack = yard.stack(receiver, more=more)
    stack.start_all()
    texts = {f"defer1.u{at}@a.test": f"this is for number {at}" for at in range(60)}
    texts |= {f"u{at}@a.test": f"and this for {at}" for at in range(60)}
    await stack.produce(submission(rcpt, text=text) for rcpt, text in texts.items())
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(120, 90)
        assert events.types() == {"delivered": 120}
        deferred = [
            said for said in events.by_delivery.values() if any(e.type == "deferred" for e in said)
        ]
        assert len(deferred) == 60
    end = asyncio.get_running_loop().time() + 30
    while await waiting(stack):
        assert asyncio.get_running_loop().time() < end, "the log is not trimmed"
        await asyncio.sleep(0.5)


async def waiting(stack: Stack) -> int:
    """Count the records that mail.deliveries still holds, but for the markers of the last transactions."""
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.kafka)
    await consumer.start()
    try:
        partitions = [
            TopicPartition(stack.topics.deliveries(class_), p)
            for class_ in ("bulk", "transactional")
            for p in range(PARTITIONS)
        ]
        starts, ends = (
            await consumer.beginning_offsets(partitions),
            await consumer.end_offsets(partitions),
        )
        return sum(max(0, ends[tp] - starts[tp] - 2) for tp in partitions)
    finally:
        await consumer.stop()
