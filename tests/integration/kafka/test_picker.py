"""What is picked is what lies at the offsets, however it lies in the log."""

import random

import pytest

from shared.kafka.errors import OffsetOutOfRange
from tests.support.kafka import Log

COUNT = 3_000
#: A marker follows each transaction and takes an offset.
EACH = 250


async def test_what_lies_at_the_offsets_is_given_and_nothing_else(log: Log) -> None:
    topic = await log.topic()
    placed: dict[int, bytes | None] = {}
    transactor = await log.cluster.transactor("picker")
    for first in range(0, COUNT, EACH):
        async with transactor.round() as round_:
            for at in range(first, first + EACH):
                value = None if at % 100 == 99 else b"%d %s" % (at, random.Random(at).randbytes(50))
                await round_.send(topic, 0, value, key=b"k")
                placed[at + first // EACH] = value
    await transactor.stop()
    picker = await log.cluster.picker()
    try:
        there = sorted(placed)
        for wanted in (
            there,
            there[::400],
            [there[0]],
            [there[-1], there[0], there[0]],
            random.Random(1).sample(there, 300),
            # Close together, and far behind it another.
            [*there[100:180], there[-5]],
        ):
            found = await picker.pick(topic, 0, wanted)
            expected = {at: value for at in wanted if (value := placed[at]) is not None}
            assert found == expected
    finally:
        await picker.close()


async def test_what_was_deleted_is_not_looked_for_in_what_follows(log: Log) -> None:
    topic = await log.topic()
    producer = await log.cluster.producer()
    for at in range(10):
        await producer.send(topic, 0, b"%d" % at)
    await producer.stop()
    await log.cluster.delete_before({(topic, 0): 5})
    picker = await log.cluster.picker()
    try:
        with pytest.raises(OffsetOutOfRange):
            await picker.pick(topic, 0, [7, 2])
        assert await picker.pick(topic, 0, [7]) == {7: b"7"}
    finally:
        await picker.close()
