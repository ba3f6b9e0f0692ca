"""Every test has a cluster under its own prefix, and fails when anything was left running or unheard in its loop."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.kafka.cluster import Cluster
from tests.support.kafka import Log


@pytest.fixture
async def unheard() -> AsyncIterator[list[str]]:
    """What the loop had to say that nobody was told: exceptions of tasks and futures that were never looked at."""
    found: list[str] = []

    def hear(_: object, context: dict[str, Any]) -> None:
        found.append(f"{context['message']}: {context.get('exception')!r}")

    asyncio.get_running_loop().set_exception_handler(hear)
    yield found
    gc.collect()
    await asyncio.sleep(0)
    assert not found


@pytest.fixture
async def log(kafka: str, prefix: str, unheard: list[str]) -> AsyncIterator[Log]:
    """The session's broker."""
    cluster = Cluster(kafka, client_id="test")
    yield Log(cluster, prefix)
    await cluster.close()
    mine = asyncio.current_task()
    left = [task for task in asyncio.all_tasks() if task is not mine and "aiokafka" in repr(task)]
    assert not left
