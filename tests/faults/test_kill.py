"""Nothing is lost, whatever is killed: the services die by kill -9 while mail flows, and every message ends exactly once."""

import asyncio
import random

import pytest

from tests.support.killing import Killing, account, feed, until_all
from tests.support.stack import Events
from tests.support.yard import Yard

MESSAGES = 1000
PARTITIONS = 2


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_kills_lose_nothing_and_double_only_what_was_unknown(
    yard: Yard, request: pytest.FixtureRequest
) -> None:
    kills: int = request.config.getoption("--kills")
    receiver = yard.receiver("--dot-delay", "0.3")
    limits = '[limits.local]\nconnections = 4\nmessages_per_connection = 20\nrate = "60+20/s"'
    stack = yard.stack(receiver, limits=limits)
    messages = max(MESSAGES, 20 * kills)
    stack.set_up()
    killing = Killing(stack, random.Random(20261124))
    killing.start()
    feeding = asyncio.create_task(feed(stack, messages, kills))
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(20, 90)
        await killing.kill(kills, events)
        assert await feeding == messages
        await until_all(events, messages)
        await asyncio.sleep(2)
        await events.read()
        account(events, receiver.copies(), messages)
