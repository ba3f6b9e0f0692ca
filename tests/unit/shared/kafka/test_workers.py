"""One worker a partition, started again only when the group has confirmed it, and never two of one.

The membership is the real one; the group is played by calling what aiokafka would call.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import NoReturn

import pytest
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from structlog.typing import FilteringBoundLogger

from shared.kafka.errors import Fenced, KafkaUnavailable, ProducerBroken, RoundFailed
from shared.kafka.membership import Membership
from shared.kafka.workers import PartitionWorkers, WorkersGaveUp
from shared.records.codec import NewerRecord


def _no_client(_: str | None) -> AIOKafkaConsumer:
    raise AssertionError("nobody joins here")


def _silent() -> FilteringBoundLogger:
    def drop(*_: object) -> NoReturn:
        raise structlog.DropEvent

    logger: FilteringBoundLogger = structlog.wrap_logger(
        None,
        processors=[drop],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    return logger


class Group:
    """What the group says to its member."""

    def __init__(self) -> None:
        self.member = Membership(_no_client, "members")

    async def give(self, *partitions: int) -> None:
        await self.member.on_partitions_assigned([TopicPartition("members", p) for p in partitions])

    async def throw_out(self) -> None:
        await self.member.on_partitions_revoked([])

    async def keep_answering(self) -> None:
        while True:
            await self.answer()
            await asyncio.sleep(0.01)

    async def answer(self, *, asked_s: float | None = None) -> None:
        asked_s = asyncio.get_running_loop().time() if asked_s is None else asked_s
        await self.member._hear(asked_s, asked_s)


class Work:
    """Counts who runs; a partition's worker ends with what `fate` says."""

    def __init__(self) -> None:
        self.running: Counter[int] = Counter()
        self.most: Counter[int] = Counter()
        self.starts: Counter[int] = Counter()
        self.fate: dict[int, list[BaseException | None]] = {}
        self.leaving_s = 0.0

    async def __call__(self, partition: int) -> None:
        self.starts[partition] += 1
        self.running[partition] += 1
        self.most[partition] = max(self.most[partition], self.running[partition])
        try:
            if self.fate.get(partition):
                fate = self.fate[partition].pop(0)
                if fate is not None:
                    raise fate
                return
            await asyncio.Event().wait()
        finally:
            try:
                if self.leaving_s:
                    await asyncio.sleep(self.leaving_s)
            finally:
                self.running[partition] -= 1


@pytest.fixture
def group() -> Group:
    return Group()


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
async def workers(group: Group, work: Work) -> AsyncIterator[PartitionWorkers]:
    made = PartitionWorkers(group.member, work, random.Random(1), _silent())
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not +work.running
    assert set(work.most.values()) <= {1}


async def _until(condition: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def _never(condition: Callable[[], bool], seconds: float) -> None:
    with pytest.raises(TimeoutError):
        await _until(condition, seconds)


@pytest.mark.usefixtures("workers")
async def test_every_owned_partition_has_a_worker_and_no_other(group: Group, work: Work) -> None:
    await group.give(0, 1, 2)
    await _until(lambda: +work.running == Counter([0, 1, 2]))
    await group.give(1, 3)
    await _until(lambda: +work.running == Counter([1, 3]))
    # The one that stayed was not started anew.
    assert work.starts == Counter([0, 1, 2, 3])
    await group.throw_out()
    await _until(lambda: not +work.running)


@pytest.mark.usefixtures("workers")
async def test_a_partition_that_comes_back_waits_for_its_old_worker_to_end(
    group: Group, work: Work
) -> None:
    work.leaving_s = 1
    await group.give(0)
    await _until(lambda: work.running[0] == 1)
    await group.throw_out()
    await asyncio.sleep(0.05)
    await group.give(0)
    await asyncio.sleep(0.05)
    assert work.starts[0] == 1
    await _until(lambda: work.starts[0] == 2)


@pytest.mark.parametrize(
    "error",
    [
        Fenced("x"),
        RoundFailed(KafkaUnavailable("x")),
        KafkaUnavailable("x"),
        ProducerBroken("x"),
        ExceptionGroup("", [Fenced("x")]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_failed_worker_starts_again_only_when_the_group_was_asked_after_its_end(
    workers: PartitionWorkers, group: Group, work: Work, error: Exception
) -> None:
    work.fate[0] = [error]
    before = asyncio.get_running_loop().time()
    await group.give(0)
    await _until(lambda: workers.restarts == 1)
    await _never(lambda: work.starts[0] > 1, 0.5)
    # An answer to a heartbeat that was sent before the end says nothing.
    await group.answer(asked_s=before)
    await _never(lambda: work.starts[0] > 1, 0.3)
    await group.answer()
    await _until(lambda: work.starts[0] == 2)
    assert workers.restarts == 1


async def test_a_failed_worker_of_a_partition_that_was_lost_never_starts_again(
    workers: PartitionWorkers, group: Group, work: Work
) -> None:
    work.fate[0] = [Fenced("x")]
    await group.give(0, 1)
    await _until(lambda: workers.fencings == 1)
    await group.give(1)
    await group.answer()
    await _never(lambda: work.starts[0] > 1, 0.6)
    await group.give(0, 1)
    await _until(lambda: work.starts[0] == 2)
    assert work.starts[1] == 1


async def test_a_loss_that_is_made_good_at_once_does_not_leave_a_partition_without_worker(
    workers: PartitionWorkers, group: Group, work: Work
) -> None:
    work.fate[0] = [Fenced("x")]
    await group.give(0)
    await _until(lambda: workers.restarts == 1)
    await asyncio.sleep(0.3)
    await asyncio.gather(group.throw_out(), group.give(0))
    await group.answer()
    await _until(lambda: work.running[0] == 1)
    assert work.starts[0] == 2


async def test_kafkas_troubles_are_tried_again_for_ever_but_ever_more_slowly(
    workers: PartitionWorkers, group: Group, work: Work
) -> None:
    work.fate[0] = [KafkaUnavailable("x")] * 100
    answering = asyncio.create_task(group.keep_answering())
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await group.give(0)
    await _until(lambda: work.starts[0] == 5)
    answering.cancel()
    # 0.2, 0.4, 0.8, 1.6 s, each halved at most by the jitter.
    assert loop.time() - began_s >= 3 / 2
    assert workers.restarts in {4, 5}


@pytest.mark.parametrize(
    "fate", [KeyError("ours"), None], ids=["an error of ours", "an end without a reason"]
)
async def test_too_many_failures_of_ours_end_the_process(
    group: Group, work: Work, fate: Exception | None
) -> None:
    work.fate = {p: [fate, fate] for p in range(5)}
    made = PartitionWorkers(group.member, work, random.Random(1), _silent())
    running = asyncio.create_task(made.run())
    await group.give(*range(6))
    answering = asyncio.create_task(group.keep_answering())
    with pytest.raises(WorkersGaveUp, match="10 failures"):
        await asyncio.wait_for(running, 30)
    answering.cancel()
    assert not +work.running


async def test_what_was_cancelled_inside_a_worker_is_a_failure_and_not_an_order_to_stop(
    workers: PartitionWorkers, group: Group, work: Work
) -> None:
    work.fate[0] = [asyncio.CancelledError()]
    await group.give(0)
    await _until(lambda: workers.restarts == 1)
    await group.answer()
    await _until(lambda: work.running[0] == 1)
    assert (workers.restarts, work.starts[0]) == (1, 2)


async def test_stopping_waits_for_every_worker(group: Group, work: Work) -> None:
    work.leaving_s = 0.2
    made = PartitionWorkers(group.member, work, random.Random(1), _silent())
    running = asyncio.create_task(made.run())
    await group.give(0, 1, 2)
    await _until(lambda: len(+work.running) == 3)
    # Even where it was just about to let some go.
    await group.give(0)
    await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not +work.running


async def test_a_partition_whose_worker_failed_in_a_task_group_can_still_be_taken_away(
    group: Group,
) -> None:
    """In Python 3.11 a task whose TaskGroup failed counts as cancelled for ever after."""
    began = running = 0

    async def fail_once(_: int) -> None:
        nonlocal began, running
        began += 1
        running += 1
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_broken() if began == 1 else asyncio.Event().wait())
        finally:
            running -= 1

    async def _broken() -> None:
        raise KafkaUnavailable("no broker")

    made = PartitionWorkers(group.member, fail_once, random.Random(1), _silent())
    task = asyncio.create_task(made.run())
    await group.give(0)
    await _until(lambda: made.restarts == 1)
    await group.answer()
    await _until(lambda: began == 2 and running == 1)
    await group.throw_out()
    await _until(lambda: running == 0)
    task.cancel()
    await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 30)
    assert (began, made.restarts) == (2, 1)


async def test_a_newer_versions_record_is_waited_for_and_is_no_bug(
    group: Group, work: Work, workers: PartitionWorkers
) -> None:
    """More often than bugs may be; the other partition goes on."""
    work.fate[1] = [ExceptionGroup("rounds", [NewerRecord("v: 2")])] * 100
    confirming = asyncio.create_task(group.keep_answering())
    await group.give(0, 1)
    async with asyncio.timeout(20):
        while work.starts[1] < 4:
            await asyncio.sleep(0.01)
    assert workers.newer == {1: "NewerRecord: v: 2"}
    assert work.starts[0] == 1
    # A process of that version takes it.
    await group.give(0)
    async with asyncio.timeout(20):
        while workers.newer:
            await asyncio.sleep(0.01)
    confirming.cancel()
