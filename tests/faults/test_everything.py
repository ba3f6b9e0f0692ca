"""Everything that holds mail back at once, and kill -9: never above any limit, no warm-up beyond its day, nothing lost.

Two destinations: one keeps to itself, one warns of too much mail now and then. Three addresses, of which one is new. Limits of an
address, of a destination over all addresses, and of the tenant over both destinations.
"""

import asyncio
import random
from collections import Counter

import pytest

from tests.support.killing import Killing, account, feed, until_all
from tests.support.receiver import Receiver, most_in_window
from tests.support.stack import Events
from tests.support.yard import Yard

PARTITIONS, MESSAGES = 2, 600
SOURCES = ("127.0.0.11", "127.0.0.12", "127.0.0.13")
NEW, BUDGET = SOURCES[2], 40
EACH, TOTAL, TENANT = 240, 480, 800
#: A period is a minute; what a clock and a connection may move is left out.
WINDOW_S = 58
DAY_NS = 86_400 * 1_000_000_000
WARNING = "421 4.7.28 unusual rate of mail, try again later"

LIMITS = f"""
[limits.steady]
connections = 4
rate = "{EACH}/min"
total_rate = "{TOTAL}/min"

[limits.wary]
connections = 4
rate = "{EACH}/min"
total_rate = "{TOTAL}/min"

[limits."tenant:acme"]
total_rate = "{TENANT}/min"

[warmups.slow]
days = [{BUDGET}, {BUDGET}]
hours = 0
"""


@pytest.mark.timeout(3600)
async def test_limits_warm_up_and_back_off_hold_over_kills_and_nothing_is_lost(
    yard: Yard, request: pytest.FixtureRequest
) -> None:
    kills: int = request.config.getoption("--kills")
    steady = yard.receiver("--dot-delay", "0.2", name="steady")
    wary = yard.receiver(
        "--dot-delay",
        "0.2",
        "--script",
        f"30+2={WARNING}",
        "--script",
        f"120+2={WARNING}",
        name="wary",
    )
    stack = yard.stack(
        {"a0.test": (wary.target, "wary"), "*.test": (steady.target, "steady")},
        sources=SOURCES,
        limits=LIMITS,
    )
    head, mark, new = stack.config.partition(f'address = "{NEW}"')
    stack.config = head + mark + new.replace('warmup = "none"', 'warmup = "slow"', 1)
    messages = max(MESSAGES, 20 * kills)
    stack.set_up()
    killing = Killing(stack, random.Random(20261128))
    killing.start()
    feeding = asyncio.create_task(feed(stack, messages, kills, domains=3))
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(20, 120)
        await killing.kill(kills, events)
        assert await feeding == messages
        await until_all(events, messages)
        await asyncio.sleep(2)
        await events.read()
        account(events, steady.copies() + wary.copies(), messages)
        warned = [event for event in events.other if event.type == "slowed"]
    assert warned, "the destination's warnings were heeded"
    assert {event.provider for event in warned} == {"wary"}
    held(steady, wary)


def held(*receivers: Receiver) -> None:
    """Judge by what the receiving servers saw, each recipient that was tried."""
    everything: list[int] = []
    for receiver in receivers:
        seen = receiver.seen("rcpt")
        times = [line["ns"] for line in seen]
        everything += times
        assert most_in_window(times, WINDOW_S) <= TOTAL, receiver.log.name
        for address in SOURCES:
            own = [line["ns"] for line in seen if line["peer"] == address]
            assert most_in_window(own, WINDOW_S) <= EACH, (receiver.log.name, address)
        days = Counter(line["ns"] // DAY_NS for line in seen if line["peer"] == NEW)
        assert max(days.values(), default=0) <= BUDGET, (receiver.log.name, days)
        assert days, "the new address had its part"
    fullest = most_in_window(everything, WINDOW_S)
    print(f"most of the tenant's in {WINDOW_S} s: {fullest} of {TENANT}")
    assert fullest <= TENANT
