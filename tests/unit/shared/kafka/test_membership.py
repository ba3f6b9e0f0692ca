"""What a membership does when its client has a bug. How it lives with a real group: tests/integration/kafka."""

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from aiokafka import TopicPartition

from shared.kafka.membership import Membership
from shared.kafka.workers import PartitionWorkers


class Client:
    """A consumer in a group, until it is polled."""

    def __init__(self) -> None:
        self.polled = asyncio.Event()
        self.stopped = False
        self._coordinator: Any = SimpleNamespace(
            generation=1,
            _do_heartbeat=None,
            _group_instance_id=None,
            _coordination_task=asyncio.Future(),
        )

    async def start(self) -> None:
        pass

    def subscribe(self, topics: list[str], listener: Membership) -> None:
        pass

    async def getmany(self, timeout_ms: int) -> None:
        await self.polled.wait()
        raise ZeroDivisionError("a bug of its own")

    async def stop(self) -> None:
        self.stopped = True


async def test_who_follows_a_membership_hears_that_its_client_polls_no_more() -> None:
    """Else a process would go on for ever as the owner of what the group has given to others."""
    client = Client()
    member = await Membership(lambda _: client, "members").start()
    began, ended = asyncio.Event(), asyncio.Event()

    async def work(partition: int) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    workers = PartitionWorkers(member, work, random.Random(1), structlog.get_logger())
    following = asyncio.create_task(workers.run())
    await member.on_partitions_assigned([TopicPartition("members", 3)])
    async with asyncio.timeout(30):
        await began.wait()
        client.polled.set()
        with pytest.raises(ZeroDivisionError):
            await following
    assert ended.is_set()
    assert member.owned() == frozenset()
    await member.stop()
    assert client.stopped
