"""Idempotency keys on a real Kafka: what is produced again is accepted once, whoever reads it, after whatever death."""

import asyncio
import time

from shared.kafka.cluster import Cluster
from shared.kafka.partitioner import partition_of
from tests.integration.ingest.running import ingest, produce, stack_for
from tests.support.config import submission
from tests.support.reading import (
    PARTITIONS,
    Log,
    delivered,
    deliveries,
    events,
    put,
    rejections,
)
from tests.support.stack import Stack
from tests.support.yard import Yard


async def test_a_killed_ingest_leaves_its_keys_to_the_next_one(yard: Yard) -> None:
    stack = stack_for(yard)
    ids = [f"order-{at}" for at in range(40)]
    values = [submission(f"{id_}@a.test", id_=id_) for id_ in ids]
    others = [submission(f"else-{at}@a.test", id_=id_) for at, id_ in enumerate(ids[:5])]
    first = stack.start("ingest", "first")
    await produce(stack, values, "bulk", 0)
    async with (
        deliveries(stack) as log,
        Log(stack, [stack.topics.events]) as said,
        Log(stack, [stack.topics.rejected]) as bad,
    ):
        await log.until(40)
        await said.until(40)
        first.kill()
        # To the other topic, where half of them are strays; and other mail under keys that are taken.
        await produce(stack, values, "transactional", 1)
        await produce(stack, others, "bulk", 1)
        second = stack.start("ingest", "first")
        await said.until(85)
        await log.until(40)
        await bad.until(5)
        assert {(d.submission, d.to) for d, _ in delivered(log)} == {
            (id_, f"{id_}@a.test") for id_ in ids
        }
        again = [event for event in events(said) if event.type == "duplicate"]
        assert sorted(event.submission for event in again) == sorted(ids)
        assert {(found.reason, found.field) for found, _ in rejections(bad)} == {("conflict", "id")}
        refused = {event.submission for event in events(said) if event.type == "rejected"}
        assert len(refused) == 5
        assert not refused & set(ids)
    metrics = second.metrics()
    assert 'postyard_submissions_total{class="transactional",result="duplicate"} 40.0' in metrics
    assert 'postyard_submissions_total{class="transactional",result="forwarded"}' in metrics
    assert second.terminate() == 0


async def test_a_key_of_a_newer_version_is_kept_for_it_and_stops_its_partition_alone(
    yard: Yard,
) -> None:
    stack = stack_for(yard)
    newer = b'{"v": 9, "class": "bulk", "offset": 0, "means": "something else"}'
    await put(stack, stack.topics.keys, 0, [newer], b"acme/1")
    await produce(stack, [submission("u@a.test")], "bulk", 0)
    await produce(stack, [submission("u@b.test")], "bulk", 1)
    async with ingest(stack) as service, deliveries(stack) as log:
        async with asyncio.timeout(60):
            while not any("partition 0: NewerRecord" in said for said in service.not_ready()):
                await asyncio.sleep(0.1)
        await log.until(1)
        assert [d.to for d, _ in delivered(log)] == ["u@b.test"]
    # What nobody of us wrote is no reason to stop.
    await put(stack, stack.topics.keys, 0, [b'{"v": 1, "class": "b"}'], b"acme/1")
    await forget_before(stack, {(stack.topics.keys, 0): 1})
    async with ingest(stack) as service, deliveries(stack) as log:
        await log.until(2)
        assert service.not_ready() == []


async def forget_before(stack: Stack, offsets: dict[tuple[str, int], int]) -> None:
    """Let Kafka delete what lies before."""
    cluster = Cluster(stack.kafka, client_id="test")
    try:
        await cluster.delete_before(offsets)
    finally:
        await cluster.close()


async def test_a_stray_that_waited_for_ingest_does_not_live_longer_for_it(yard: Yard) -> None:
    stack = stack_for(yard)
    away = 1 - partition_of(b"acme/late", PARTITIONS)
    value = submission("late@a.test", id_="late").replace(b'"v": 1', b'"v": 1, "expires": "60s"', 1)
    await produce(stack, [value], "transactional", away)
    produced = time.time()
    await asyncio.sleep(3)
    stack.start("ingest")
    async with deliveries(stack) as log:
        await log.until(1)
        [(delivery, _)] = delivered(log)
    assert delivery.id.startswith(f"t{1 - away}-")
    assert delivery.expires_ns < (produced + 60) * 1e9
