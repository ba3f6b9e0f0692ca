"""Whoever is killed, whenever: each recipient gets one delivery and one event, no more and no fewer."""

import asyncio
import random
import signal
from collections import Counter

import pytest

from tests.integration.ingest.running import produce, stack_for
from tests.support.config import submission
from tests.support.reading import PARTITIONS, Log, delivered, deliveries, events
from tests.support.yard import Yard

MESSAGES = 1500
KILLS = 3


@pytest.mark.timeout(280)
async def test_kill_and_restart_of_ingest_loses_nothing_and_doubles_nothing(yard: Yard) -> None:
    stack = stack_for(yard)
    rng = random.Random(1)
    stack.start("ingest", "one")
    stack.start("ingest", "two")

    async def feed() -> None:
        for batch in range(MESSAGES // 100):
            for p in range(PARTITIONS):
                values = [
                    submission(f"u{batch * 100 + at}@a.test", id_=f"{batch * 100 + at}")
                    for at in range(p * 50, p * 50 + 50)
                ]
                # As a platform does that is killed as well: it produces again what it has no answer for, to whatever partition.
                for _ in range(2):
                    class_ = rng.choice(["bulk", "transactional"])
                    await produce(stack, values, class_, rng.randrange(PARTITIONS))
            await asyncio.sleep(0.3)

    async def kill() -> None:
        for _ in range(KILLS):
            await asyncio.sleep(rng.uniform(1, 3))
            victim = rng.choice([service for service in stack.services if service.alive])
            victim.kill()
            await asyncio.sleep(rng.uniform(0, 1))
            stack.start("ingest", victim.name, wait=False)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(feed())
        tasks.create_task(kill())
    async with deliveries(stack) as log, Log(stack, [stack.topics.events]) as said:
        await log.until(MESSAGES, 150)
        counts = Counter(d.submission for d, _ in delivered(log))
        assert set(counts) == {str(at) for at in range(MESSAGES)}
        assert max(counts.values()) == 1
        assert len({d.id for d, _ in delivered(log)}) == MESSAGES
        await said.until(2 * MESSAGES)
        assert Counter(e.type for e in events(said)) == {
            "accepted": MESSAGES,
            "duplicate": MESSAGES,
        }
        # Each event of a delivery lies where the scheduler will say more about it.
        where = {key: p for _, p, _, key, _ in log.records}
        assert all(where.get(key, p) == p for _, p, _, key, _ in said.records)


@pytest.mark.timeout(200)
async def test_a_stopped_owner_that_wakes_up_doubles_nothing(yard: Yard) -> None:
    stack = stack_for(yard)
    first = stack.start("ingest", "first")
    await produce(stack, [submission(f"a{at}@a.test") for at in range(200)], "bulk", 0)
    async with deliveries(stack) as log:
        await log.until(200)
    first.signal(signal.SIGSTOP)
    second = stack.start("ingest", "second")
    await produce(stack, [submission(f"b{at}@a.test") for at in range(200)], "bulk", 0)
    # The group waits for the session of the one that says nothing.
    async with deliveries(stack) as log:
        await log.until(400, 120)
        first.signal(signal.SIGCONT)
        await produce(stack, [submission(f"c{at}@a.test") for at in range(200)], "bulk", 0)
        await log.until(600, 60)
        assert max(Counter(d.to for d, _ in delivered(log)).values()) == 1
    assert second.terminate() == 0
    assert first.terminate() == 0


async def test_sigterm_ends_a_busy_process_soon_and_the_next_one_goes_on(yard: Yard) -> None:
    stack = stack_for(yard)
    await produce(stack, [submission(f"u{at}@a.test") for at in range(4000)], "bulk", 1)
    first = stack.start("ingest", "first")
    assert first.terminate(20) == 0
    stack.start("ingest", "second")
    async with deliveries(stack) as log:
        await log.until(4000, 60)
        order = [d.to for d, _ in delivered(log)]
        assert len(set(order)) == 4000
