"""How a scheduler ends that is not told to."""

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from services.scheduler.worker import GROUP
from shared.records.control import Control, Directive
from shared.runtime.loading import load
from tests.integration.scheduler.running import scheduler_on
from tests.support.stack import Stack
from tests.support.yard import Yard


def stumble(_: int, record: Control) -> None:
    if isinstance(record, Directive):
        raise ZeroDivisionError("a bug of ours")


async def state(stack: Stack) -> str:
    """Ask the broker how the schedulers' group is."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await admin.start()
    try:
        (answer,) = await admin.describe_consumer_groups([stack.topics.prefix + GROUP])
        ((_, _, found, *_),) = answer.groups
    finally:
        await admin.close()
    return str(found)


async def test_a_scheduler_that_ends_by_a_bug_leaves_its_group_to_the_others(yard: Yard) -> None:
    """Else nobody would have its partitions until its session is over."""
    stack = yard.stack(yard.receiver())
    stack.set_up()
    settings = load(stack.config_path, {})
    async with scheduler_on(stack, settings, stumble) as (service, running):
        while len(service.workers) < settings.kafka.partitions:
            await asyncio.sleep(0.1)
        assert await state(stack) == "Stable"
        await asyncio.to_thread(
            stack.cli, "pause", "--tenant", "acme", "--reason", "x", "--author", "ada"
        )
        with pytest.raises(ExceptionGroup) as ended:
            await running
        assert ended.group_contains(ZeroDivisionError)
        assert await state(stack) == "Empty"
