"""A sender that is told to go, with thousands of grants in hand and hundreds of connections open, leaves at once and loses nothing."""

import asyncio
import time

import pytest

from tests.support.config import submission
from tests.support.stack import Events, Service
from tests.support.yard import Yard

MESSAGES = 5_300
SOURCES = ("127.0.0.11", "127.0.0.12", "127.0.0.13")
CONNECTIONS = 70


def gauge(service: Service, name: str) -> float:
    lines = service.metrics().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))


@pytest.mark.timeout(400)
async def test_a_drain_hands_back_what_it_has_not_begun_and_another_sends_it(yard: Yard) -> None:
    receiver = yard.receiver("--dot-delay", "1")
    limits = f"[limits.local]\nconnections = {CONNECTIONS}\nmessages_per_connection = 1000"
    # Leases of a minute: a queue of thousands takes a while.
    stack = yard.stack(receiver, sources=SOURCES, limits=limits, timing="")
    stack.set_up()
    for kind in ("ingest", "scheduler"):
        stack.start(kind, wait=False)
    leaving = stack.start("sender", "sender-0")
    async with Events(stack, 2) as events:
        await stack.produce(submission(f"u{at}@a.test") for at in range(MESSAGES))
        async with asyncio.timeout(120):
            while (
                gauge(leaving, "postyard_grants_waiting") < 3_000
                or gauge(leaving, "postyard_attempts_under_way") < len(SOURCES) * CONNECTIONS - 10
            ):
                await events.read()
        stack.start("sender", "sender-1", wait=False)
        begun = time.monotonic()
        assert await asyncio.to_thread(leaving.terminate, 60) == 0
        left = time.monotonic() - begun
        # A second for the last replies; a sender that sent its queue would take twenty.
        assert left < 15
        await events.until_final(MESSAGES, 240)
        print(f"\nleft after {left:.1f} s")
        assert set(events.types()) == {"delivered"}
    assert set(receiver.copies().values()) == {1}
