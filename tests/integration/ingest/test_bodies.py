"""A large message to many is stored once; small ones ride along."""

from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.records.codec import split
from tests.integration.ingest.running import ingest, produce, stack_for
from tests.support.config import submission
from tests.support.reading import Log, delivered, deliveries
from tests.support.yard import Yard


async def test_a_20_mb_message_to_100_recipients_is_stored_once(yard: Yard) -> None:
    stack = stack_for(yard)
    text = ("0123456789abcdef" * 4 + "\r\n") * (20_000_000 // 66)
    recipients = [f"u{at}@a.test" for at in range(100)]
    values = [
        submission("before@a.test"),
        submission(recipients, text=text),
        submission("x@a.test"),
    ]
    await produce(stack, values, "bulk", 1)
    async with (
        ingest(stack),
        deliveries(stack) as log,
        Log(stack, [stack.topics.bodies]) as bodies,
    ):
        await log.until(102)
        await bodies.until(1)
        [(_, partition, offset, _, value)] = bodies.records
        assert partition == 1
        body = split(value)[1]
        assert text.encode() in body
        shared = [(d, inline) for d, inline in delivered(log) if d.body is not None]
        assert {d.to for d, _ in shared} == set(recipients)
        for delivery, inline in shared:
            assert delivery.body is not None
            assert (delivery.body.partition, delivery.body.offset) == (partition, offset)
            assert delivery.body.size_bytes == delivery.size_bytes == len(body)
            assert inline == b""
            assert delivery.prepend.startswith("Message-ID: ")
        assert len({d.prepend for d, _ in shared}) == 100
        for delivery, inline in delivered(log):
            if delivery.body is None:
                assert len(inline) == delivery.size_bytes
    # And what the reference points at is what a reader of that place gets.
    consumer = AIOKafkaConsumer(
        bootstrap_servers=yard.kafka, isolation_level="read_committed", fetch_max_bytes=64 << 20
    )
    await consumer.start()
    try:
        place = TopicPartition(stack.topics.bodies, partition)
        consumer.assign([place])
        consumer.seek(place, offset)
        record = await consumer.getone()
        assert (record.offset, split(record.value)[1]) == (offset, body)
    finally:
        await consumer.stop()
