"""A round happens as a whole or not at all, and a transactor that failed, or was replaced, never commits again."""

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import suppress

import pytest

from shared.kafka.errors import Fenced, RecordTooLarge, RoundFailed, TopicProblem
from shared.kafka.transactor import ROUND_BYTES, Transactor
from tests.support.kafka import Log


@pytest.fixture
async def group(prefix: str) -> str:
    return f"{prefix}group"


async def _round(
    tx: Transactor,
    *records: tuple[str, int, bytes],
    pause: float = 0,
    group: str = "",
    offsets: Mapping[tuple[str, int], int] | None = None,
) -> None:
    async with tx.round() as round_:
        for topic, partition, value in records:
            await round_.send(topic, partition, value)
            await asyncio.sleep(pause)
        if offsets:
            round_.commit_offsets(group, offsets)


async def test_a_round_is_seen_as_a_whole_with_its_offsets(log: Log, group: str) -> None:
    topic = await log.topic(2)
    tx = await log.cluster.transactor(log.prefix + "tx")
    async with tx.round() as round_:
        await round_.send(topic, 0, b"one", key=b"k")
        await round_.send(topic, 1, None, key=b"k")
        await round_.send(topic, 0, b"two")
        round_.commit_offsets(group, {(topic, 1): 7})
        assert await log.values(topic) == []
    await tx.stop()
    await log.settle(log.prefix + "tx")
    await log.see([b"one", b"two"], topic)
    await log.see([None], topic, 1)
    assert [record.key for record in await log.records(topic, 1)] == [b"k"]
    assert await log.cluster.committed(group, [(topic, 0), (topic, 1)]) == {
        (topic, 0): None,
        (topic, 1): 7,
    }


@pytest.mark.parametrize("at", [0, 1, 2])
async def test_a_record_that_the_broker_refuses_fails_the_round_wherever_it_stands(
    log: Log, group: str, at: int
) -> None:
    topic, strict = await log.topic(), await log.topic(max_message_bytes="10000")
    tx = await log.cluster.transactor(log.prefix + "tx")
    records = [(topic, 0, b"before"), (topic, 0, b"after")]
    records.insert(at, (strict, 0, random.Random(1).randbytes(20_000)))
    with pytest.raises(RoundFailed) as failed:
        await _round(tx, *records, group=group, offsets={(topic, 0): 99})
    assert failed.value.too_large
    assert isinstance(failed.value.cause, RecordTooLarge)
    assert await log.values(topic) == await log.values(strict) == []
    await tx.stop()
    # The next owner sees that nothing happened, and does it again without the culprit.
    tx = await log.cluster.transactor(log.prefix + "tx")
    assert await log.cluster.committed(group, [(topic, 0)]) == {(topic, 0): None}
    async with tx.round() as round_:
        await round_.send(topic, 0, b"before")
        round_.commit_offsets(group, {(topic, 0): 1})
    await tx.stop()
    await log.see([b"before"], topic)


async def test_a_record_of_100_mb_is_refused_before_it_is_sent(log: Log) -> None:
    topic = await log.topic()
    tx = await log.cluster.transactor(log.prefix + "tx")
    with pytest.raises(RoundFailed) as failed:
        await _round(tx, (topic, 0, b"small"), (topic, 0, bytes(100_000_000)))
    assert failed.value.too_large
    await tx.stop()
    assert await log.values(topic) == []


async def test_a_round_larger_than_a_request_may_be_is_refused(log: Log) -> None:
    topic = await log.topic(8, max_message_bytes=str(36 << 20))
    tx = await log.cluster.transactor(log.prefix + "tx")
    part = random.Random(1).randbytes(ROUND_BYTES // 8 + 1)
    with pytest.raises(RoundFailed) as failed:
        await _round(tx, *((topic, partition, part) for partition in range(8)))
    assert failed.value.too_large
    await tx.stop()


async def test_a_failure_that_the_caller_swallows_still_fails_the_round(
    log: Log, group: str
) -> None:
    topic = await log.topic()
    tx = await log.cluster.transactor(log.prefix + "tx")

    async def careless() -> None:
        async with tx.round() as round_:
            await round_.send(topic, 0, b"small")
            with suppress(RoundFailed):
                await round_.send(topic, 0, bytes(40 << 20))
            round_.commit_offsets(group, {(topic, 0): 1})

    with pytest.raises(RoundFailed):
        await careless()
    await tx.stop()
    assert await log.values(topic) == []


async def test_a_partition_that_is_not_there_fails_the_round(log: Log) -> None:
    topic = await log.topic()
    tx = await log.cluster.transactor(log.prefix + "tx")
    with pytest.raises(RoundFailed) as failed:
        await _round(tx, (topic, 0, b"x"), (topic, 5, b"x"))
    assert isinstance(failed.value.cause, TopicProblem)
    await tx.stop()
    assert await log.values(topic) == []


async def test_what_the_caller_raises_aborts_at_once_and_comes_out_as_it_is(log: Log) -> None:
    topic = await log.topic()
    tx = await log.cluster.transactor(log.prefix + "tx")

    async def wrong() -> None:
        async with tx.round() as round_:
            await round_.send_and_place(topic, 0, b"never")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await wrong()
    assert tx.dead
    with pytest.raises(RoundFailed, match="dead"):
        await _round(tx)
    # Aborted, not left to the time-out of 10 s: others' records are seen at once.
    producer = await log.cluster.producer()
    await producer.send(topic, 0, b"other")
    began = time.monotonic()
    await log.see([b"other"], topic)
    assert time.monotonic() - began < 9
    await producer.stop()
    await tx.stop()


async def test_a_cancelled_round_aborts(log: Log) -> None:
    topic = await log.topic()
    tx = await log.cluster.transactor(log.prefix + "tx")
    inside = asyncio.Event()

    async def work() -> None:
        async with tx.round() as round_:
            await round_.send(topic, 0, b"never")
            inside.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tx.dead
    await tx.stop()
    assert await log.values(topic) == []


async def test_an_empty_round_writes_nothing(log: Log) -> None:
    topic = await log.topic()
    tx = await log.cluster.transactor(log.prefix + "tx")
    await _round(tx)
    await _round(tx, (topic, 0, b"x"))
    await tx.stop()
    # The record and the marker of one transaction.
    await log.see([b"x"], topic)
    assert await log.cluster.end_offsets([(topic, 0)]) == {(topic, 0): 2}


async def test_rounds_are_one_at_a_time(log: Log) -> None:
    tx = await log.cluster.transactor(log.prefix + "tx")
    async with tx.round():
        with pytest.raises(RuntimeError, match="one round"):
            await _round(tx)
    await tx.stop()


async def test_a_round_commits_the_offsets_of_one_group(log: Log, group: str) -> None:
    topic = await log.topic(2)
    tx = await log.cluster.transactor(log.prefix + "tx")

    async def two_groups() -> None:
        async with tx.round() as round_:
            round_.commit_offsets(group, {(topic, 0): 1})
            round_.commit_offsets(group, {(topic, 1): 1})
            round_.commit_offsets(group + "-other", {(topic, 0): 1})

    with pytest.raises(ValueError, match="not of"):
        await two_groups()
    await tx.stop()


@pytest.mark.parametrize("pause", [0, 0.3], ids=["all at once", "slowly"])
async def test_a_zombies_round_raises_fenced_however_it_writes(log: Log, pause: float) -> None:
    topic = await log.topic()
    old = await log.cluster.transactor(log.prefix + "tx")
    async with old.round() as round_:
        await round_.send(topic, 0, b"mine")
    new = await log.cluster.transactor(log.prefix + "tx")
    with pytest.raises(Fenced):
        await _round(old, *((topic, 0, value) for value in (b"z1", b"z2", b"z3")), pause=pause)
    assert old.dead
    async with new.round() as round_:
        await round_.send(topic, 0, b"its")
    await old.stop()
    await new.stop()
    await log.see([b"mine", b"its"], topic)


@pytest.mark.parametrize("turns", range(4))
async def test_one_that_stops_is_closed_although_who_waits_for_that_is_cancelled(
    log: Log, turns: int
) -> None:
    # A worker that was fenced is ending when it hears that its partition was taken away. ``log`` sees what is left of it.
    topic = await log.topic()
    old = await log.cluster.transactor(log.prefix + "tx")
    new = await log.cluster.transactor(log.prefix + "tx")

    stopping = asyncio.Event()

    async def work() -> None:
        try:
            await _round(old, (topic, 0, b"never"))
        finally:
            stopping.set()
            await old.stop()

    working = asyncio.create_task(work())
    await stopping.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    await new.stop()


async def test_one_cancelled_while_its_batch_is_refused_as_a_zombies_leaves_nothing_unheard(
    log: Log,
) -> None:
    # ``log`` hears what is left. A worker waits for its batch, is told to end, and then the broker answers that another has taken over.
    topic = await log.topic()
    old = await log.cluster.transactor(log.prefix + "tx")
    queue = old._producer._message_accumulator
    new: list[Transactor] = []

    async def work() -> None:
        async with old.round() as round_:
            # The partition is part of the transaction, so it is the batch that will be refused.
            await round_.send_and_place(topic, 0, b"half")
            new.append(await log.cluster.transactor(log.prefix + "tx"))
            await round_.send(topic, 0, b"rest")

    working = asyncio.create_task(work())
    async with asyncio.timeout(30):
        while not new or not queue._pending_batches:
            await asyncio.sleep(0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    await old.stop()
    await new[0].stop()
    assert await log.values(topic) == []


async def test_an_owner_fenced_in_the_middle_of_a_round_loses_the_round(
    log: Log, group: str
) -> None:
    topic = await log.topic()
    old = await log.cluster.transactor(log.prefix + "tx")
    new: list[Transactor] = []

    async def half() -> None:
        async with old.round() as round_:
            await round_.send_and_place(topic, 0, b"half")
            new.append(await log.cluster.transactor(log.prefix + "tx"))
            round_.commit_offsets(group, {(topic, 0): 5})

    with pytest.raises(Fenced):
        await half()
    assert await log.values(topic) == []
    assert await log.cluster.committed(group, [(topic, 0)]) == {(topic, 0): None}
    await old.stop()
    await new[0].stop()


async def test_after_a_fence_the_committed_offsets_are_those_of_the_last_round(
    log: Log, group: str
) -> None:
    topic = await log.topic()
    for at in range(1, 31):
        tx = await log.cluster.transactor(log.prefix + "tx")
        before = await log.cluster.committed(group, [(topic, 0)])
        assert before == {(topic, 0): at - 1 or None}
        async with tx.round() as round_:
            await round_.send(topic, 0, b"x")
            round_.commit_offsets(group, {(topic, 0): at})
        # As a process that is killed: the next one starts while the last round's markers are being written.
        await tx.stop()


@pytest.mark.timeout(120)
async def test_a_hung_transaction_is_reaped_and_readers_go_on(log: Log) -> None:
    topic = await log.topic()
    hung = await log.cluster.transactor(log.prefix + "hung")
    written, seen = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        async with hung.round() as round_:
            await round_.send_and_place(topic, 0, b"never")
            written.set()
            await seen.wait()
            await round_.send(topic, 0, b"late")

    began = time.monotonic()
    hanging = asyncio.create_task(hang())
    await written.wait()
    producer = await log.cluster.producer()
    sent = await producer.send(topic, 0, b"behind")
    reader = await log.cluster.reader({(topic, 0): "start"})
    while not (found := await reader.poll(wait_ms=200)) and time.monotonic() - began < 60:
        pass
    waited = time.monotonic() - began
    assert [(record.offset, record.value) for record in found] == [(sent.offset, b"behind")]
    # transaction_timeout_ms is 10 s; the broker looks for what has timed out every few seconds.
    assert 9 < waited < 40
    seen.set()
    with pytest.raises((Fenced, RoundFailed)):
        await hanging
    assert hung.dead
    await reader.stop()
    await producer.stop()
    await hung.stop()
    await log.see([b"behind"], topic)


async def test_the_brokers_refuse_nothing_that_a_round_with_offsets_sends(
    log: Log, group: str, caplog: pytest.LogCaptureFixture
) -> None:
    topic = await log.topic(3)
    tx = await log.cluster.transactor(log.prefix + "tx")
    for at in range(60):
        if at == 1:
            # A topic this new may be refused once by a broker that does not know yet that it leads it.
            caplog.clear()
        records = [(topic, partition, b"%d" % at) for partition in range(3)]
        await _round(tx, *records, group=group, offsets={(topic, 0): at})
    await tx.stop()
    # "Not enough replicas" of a cluster that has them all: whoever is paged reads that.
    assert [line.getMessage() for line in caplog.records if line.levelname == "WARNING"] == []
