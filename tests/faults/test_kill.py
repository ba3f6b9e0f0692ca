"""Nothing is lost, whatever is killed: the services die by kill -9 while mail flows, and every message ends exactly once."""

import asyncio
import random

import pytest

from tests.support.config import submission
from tests.support.stack import Events, Service, Stack
from tests.support.yard import Yard

MESSAGES = 1000
SENDERS = ["sender-0", "sender-1"]
PARTITIONS = 2


@pytest.mark.timeout(1800)
async def test_kills_lose_nothing_and_double_only_what_was_unknown(
    yard: Yard, request: pytest.FixtureRequest
) -> None:
    kills: int = request.config.getoption("--kills")
    rng = random.Random(20261124)
    receiver = yard.receiver("--dot-delay", "0.3")
    limits = '[limits.local]\nconnections = 4\nmessages_per_connection = 20\nrate = "60+20/s"'
    stack = yard.stack(receiver, limits=limits)
    messages = max(MESSAGES, 20 * kills)
    stack.set_up()
    running: dict[str, Service] = {}
    for name in ("ingest-0", "scheduler-0", "scheduler-1", "sender-0", "sender-1"):
        running[name] = stack.start(name.rpartition("-")[0], name, wait=False)
    feeding = asyncio.create_task(feed(stack, messages, kills))
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(20, 90)
        for number in range(kills):
            await events.read()
            await asyncio.sleep(rng.uniform(0.5, 4))
            # The first time both senders at once, with mail between `started` and the reply: one of them owns the slots.
            count = 2 if number % 4 == 3 else 1
            victims = rng.sample(sorted(running), count) if number else SENDERS
            for name in victims:
                running[name].kill()
            await asyncio.sleep(rng.uniform(0.1, 3))
            for name in victims:
                running[name] = stack.start(name.rpartition("-")[0], name, wait=False)
        assert await feeding == messages
        await until_all(events, messages)
        await asyncio.sleep(2)
        await events.read()
        report(events, receiver.copies(), messages)


async def until_all(events: Events, messages: int) -> None:
    """Wait as long as it goes on, however slow the machine is."""
    while (done := len(events.finals())) < messages:
        await events.until_final(done + 1, 120)


async def feed(stack: Stack, messages: int, kills: int) -> int:
    """Produce in small portions, so that mail is under way all the time."""
    produced, portion = 0, 40
    pause = max(0.5, kills * 3.0 / (messages / portion))
    while produced < messages:
        count = min(portion, messages - produced)
        values = [
            submission(f"u{produced + at}@a{at % 5}.test", id_=f"m{produced + at}")
            for at in range(count)
        ]
        produced += await stack.produce(values, "transactional" if produced % 80 else "bulk")
        await asyncio.sleep(pause)
    return produced


def report(events: Events, copies: "dict[str, int]", messages: int) -> None:
    """State lost, duplicate and unknown, and that the events account for every copy."""
    finals = events.finals()
    assert len(finals) == messages
    by_rcpt = {event.to: id_ for id_, event in finals.items()}
    unknown = {
        events.by_delivery[id_][0].to
        for id_ in finals
        if any(event.type == "unknown" for event in events.by_delivery[id_])
    }
    lost = [
        rcpt
        for rcpt, id_ in by_rcpt.items()
        if finals[id_].type == "delivered" and not copies.get(rcpt)
    ]
    doubled = {rcpt for rcpt, count in copies.items() if count > 1}
    print(f"\nmessages {messages} lost {len(lost)} duplicate {len(doubled)} unknown {len(unknown)}")
    assert len(by_rcpt) == messages, "every message has exactly one final event"
    assert set(events.types()) == {"delivered"}
    assert lost == []
    assert unknown, "senders died with mail under way"
    assert doubled <= unknown, f"doubled without having been unknown: {sorted(doubled - unknown)}"
