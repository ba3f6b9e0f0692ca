"""Whoever is stopped and continued finds that others went on: not one of its grants is acted on, not one mail of its slot is sent twice."""

import asyncio
import signal

import pytest

from tests.support.config import submission
from tests.support.receiver import most_in_window
from tests.support.stack import Events
from tests.support.yard import Yard

PARTITIONS = 2


@pytest.mark.timeout(400)
async def test_a_stopped_scheduler_is_replaced_and_its_old_grants_are_not_acted_on(
    yard: Yard,
) -> None:
    receiver = yard.receiver()
    limits = '[limits.local]\nconnections = 4\nrate = "5/s"'
    stack = yard.stack(receiver, limits=limits)
    messages = 500
    stack.set_up()
    stack.start("ingest")
    first = stack.start("scheduler")
    stack.start("sender")
    await stack.produce(submission(f"u{at}@a.test") for at in range(messages))
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(30, 60)
        first.signal(signal.SIGSTOP)
        second = stack.start("scheduler", wait=False)
        before = len(events.finals())
        await events.until_final(before + 60, 120)
        first.signal(signal.SIGCONT)
        await events.until_final(messages, 150)
        assert second.alive
    copies = receiver.copies()
    assert len(copies) == messages
    assert set(copies.values()) == {1}
    for address in ("127.0.0.11", "127.0.0.12"):
        times = [line["ns"] for line in receiver.seen("rcpt") if line["peer"] == address]
        assert times
        # The spacing is the sender's; half a second is what a receiver's clock and a busy machine may blur.
        assert most_in_window(times, 10) <= 5 * 10.5


@pytest.mark.timeout(300)
async def test_of_two_senders_that_claim_a_slot_exactly_one_sends(yard: Yard) -> None:
    receiver = yard.receiver("--dot-delay", "0.3")
    stack = yard.stack(receiver, sources=("127.0.0.13",), limits="[limits.local]\nconnections = 3")
    messages = 250
    stack.set_up()
    stack.start("ingest")
    stack.start("scheduler")
    first = stack.start("sender")
    second = stack.start("sender", wait=False)
    await stack.produce(submission(f"u{at}@a.test") for at in range(messages))
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(40, 60)
        assert not second.ready(), "the slot has one owner"
        first.signal(signal.SIGSTOP)
        before = len(events.finals())
        await events.until_final(before + 40, 90)
        assert second.ready()
        first.signal(signal.SIGCONT)
        await events.until_final(messages, 120)
        assert not first.ready(), "the slot has one owner"
        unknown = events.unknown()
    copies = receiver.copies()
    assert len(copies) == messages
    assert {rcpt for rcpt, count in copies.items() if count > 1} <= unknown
    # Three connections had each at most one attempt under way when the first was stopped.
    assert len(unknown) <= 3
    assert {line["peer"] for line in receiver.seen("rcpt")} == {"127.0.0.13"}
    await asyncio.sleep(0)
