"""Workers take partitions over from each other, die, stall and disagree about who owns what; each log is one unbroken count.

Every worker does what ours do: fence, read the state, then write rounds that build on it. A round that was lost, done twice, or built on
an old state would break the count.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

import pytest
import structlog
from structlog.typing import FilteringBoundLogger

from shared.kafka.cluster import Cluster
from shared.kafka.workers import PartitionWorkers
from tests.support.kafka import Aside, Log

SESSION_S = 6.0


def _silent() -> FilteringBoundLogger:
    def drop(*_: object) -> NoReturn:
        raise structlog.DropEvent

    logger: FilteringBoundLogger = structlog.wrap_logger(
        None,
        processors=[drop],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    return logger


@dataclass(slots=True)
class Counting:
    """A process that counts in each partition that it owns."""

    cluster: Cluster
    group: str
    members: str
    topic: str
    #: Two groups of one topic know nothing of each other's offsets.
    only_group: bool = True
    workers: PartitionWorkers | None = None
    committed: int = 0
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        membership = await self.cluster.membership(self.group, self.members, session_s=SESSION_S)
        self.workers = PartitionWorkers(membership, self._count, random.Random(1), _silent())
        self._tasks.append(asyncio.create_task(self._run(self.workers)))

    async def _run(self, workers: PartitionWorkers) -> None:
        try:
            await workers.run()
        finally:
            await workers.membership.stop()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _count(self, partition: int) -> None:
        tx = await self.cluster.transactor(f"{self.topic}-{partition}")
        try:
            at = await self._last(partition)
            while True:
                async with tx.round() as round_:
                    for _ in range(3):
                        at += 1
                        await round_.send(self.topic, partition, b"%d" % at)
                    round_.commit_offsets(self.group, {(self.members, partition): at})
                self.committed += 1
                await asyncio.sleep(0.02)
        finally:
            await tx.stop()

    async def _last(self, partition: int) -> int:
        here = (self.topic, partition)
        end = (await self.cluster.end_offsets([here]))[here]
        reader = await self.cluster.reader({here: "start"})
        last = 0
        try:
            while reader.position(here) < end:
                for record in await reader.poll():
                    last = int(record.value or b"0")
        finally:
            await reader.stop()
        # The group's offset was written in the same rounds.
        committed = (await self.cluster.committed(self.group, [(self.members, partition)]))[
            self.members, partition
        ]
        assert (committed or 0) == last or not self.only_group
        return last


async def _until(seen: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not seen():
            await asyncio.sleep(0.02)


async def _at_work(*processes: Counting) -> None:
    """Wait until each of them has committed some rounds more."""
    before = [each.committed for each in processes]
    await _until(
        lambda: all(
            each.committed > known + 25 for each, known in zip(processes, before, strict=True)
        )
    )


def _owned(process: Counting) -> int:
    return len(process.workers.membership.owned()) if process.workers else 0


def _shares(partitions: int, processes: int) -> list[int]:
    return sorted((partitions + at) // processes for at in range(processes))


async def _check(log: Log, topic: str, partitions: int, least: int) -> None:
    for partition in range(partitions):
        counted = [int(value or b"0") for value in await log.values(topic, partition)]
        assert counted == list(range(1, len(counted) + 1))
        assert len(counted) >= least


@pytest.mark.timeout(120)
async def test_a_stalled_owner_comes_back_as_a_zombie_and_no_round_is_lost_or_done_twice(
    log: Log, kafka: str
) -> None:
    members, topic = await log.topic(4), await log.topic(4)
    async with Aside(kafka) as aside:
        here = Counting(log.cluster, log.prefix + "group", members, topic)
        there = Counting(aside.cluster, log.prefix + "group", members, topic)
        await here.start()
        await aside.run(there.start())
        await _until(lambda: _owned(here) == _owned(there) == 2)
        for _ in range(2):
            # Both work, and so again after each stall.
            await _at_work(here, there)
            aside.block(SESSION_S + 4)
            await _until(lambda: _owned(here) == 4)
            await _until(lambda: _owned(here) == _owned(there) == 2)
        await _at_work(here, there)
        # Neither was fenced more often than it was taken from, two partitions each time: there at both stalls, here as there came and
        # came back.
        assert there.workers is not None
        assert here.workers is not None
        assert there.workers.fencings <= 4
        assert here.workers.fencings <= 6
        await aside.run(there.stop())
        await here.stop()
    await _check(log, topic, 4, 100)


@pytest.mark.timeout(120)
async def test_partitions_move_between_processes_that_come_and_go(log: Log) -> None:
    members, topic = await log.topic(6), await log.topic(6)
    processes = [Counting(log.cluster, log.prefix + "group", members, topic) for _ in range(4)]
    running: list[Counting] = []

    async def shared_out_and_at_work() -> None:
        await _until(lambda: sorted(map(_owned, running)) == _shares(6, len(running)))
        await _at_work(*running)

    for process in processes:
        await process.start()
        running.append(process)
        await shared_out_and_at_work()
    for process in processes[:3]:
        running.remove(process)
        await process.stop()
        await shared_out_and_at_work()
    fencings = [process.workers.fencings for process in processes if process.workers]
    await processes[3].stop()
    # Whoever loses a partition to a rebalance may lose its last round, once for each partition that moved.
    assert sum(fencings) <= 12
    await _check(log, topic, 6, 60)


@pytest.mark.timeout(120)
async def test_two_that_both_believe_for_ever_to_own_a_partition_do_not_fence_each_other_to_a_standstill(
    log: Log,
) -> None:
    # Two groups by mistake: each confirms its member once a second.
    members, topic = await log.topic(1), await log.topic(1)
    one = Counting(log.cluster, log.prefix + "one", members, topic, only_group=False)
    two = Counting(log.cluster, log.prefix + "two", members, topic, only_group=False)
    await one.start()
    await two.start()
    began = time.monotonic()
    await _until(lambda: _owned(one) == _owned(two) == 1)
    assert one.workers is not None
    assert two.workers is not None
    # Long enough for each to have been fenced again and again, and to have worked in between.
    await _until(lambda: time.monotonic() - began >= 5 and one.committed + two.committed > 60)
    seconds = time.monotonic() - began
    fencings = one.workers.fencings + two.workers.fencings
    # A worker begins again at most once for each confirmation, and is fenced at most once for each beginning.
    assert 1 <= fencings <= 2 * (seconds + 1)
    await one.stop()
    await two.stop()
    await _check(log, topic, 1, 100)
