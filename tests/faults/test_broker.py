"""The broker dies and comes back in the middle of the run: the services recover by themselves, and nothing is lost."""

import asyncio
from pathlib import Path

import pytest

from services.cli.cluster.broker import LocalKafka
from tests.support.config import submission
from tests.support.nursery import Launch
from tests.support.stack import Events
from tests.support.yard import Yard

PARTITIONS = 2


@pytest.mark.timeout(400)
async def test_a_broker_restart_loses_nothing_and_needs_nobody(
    tmp_path: Path, launch: Launch
) -> None:
    with (
        LocalKafka(tmp_path / "kafka") as broker,
        Yard(tmp_path, broker.bootstrap, "", launch) as yard,
    ):
        receiver = yard.receiver()
        limits = '[limits.local]\nconnections = 4\nrate = "20/s"'
        stack = yard.stack(receiver, limits=limits)
        messages = 800
        stack.set_up()
        services = [stack.start(kind) for kind in ("ingest", "scheduler", "sender")]
        await stack.produce(submission(f"u{at}@a.test") for at in range(messages))
        async with Events(stack, PARTITIONS) as events:
            await events.until_final(60, 60)
        # Not kill -9: a broker without replicas may then forget the markers of a commit that it had acknowledged.
        broker.stop()
        await asyncio.sleep(5)
        broker.start()
        async with Events(stack, PARTITIONS) as events:
            await events.until_final(len(events.finals()) + 100, 90)
            await events.until_final(messages, 150)
            unknown = events.unknown()
            assert set(events.types()) == {"delivered"}
        assert all(service.alive for service in services), "nobody had to be restarted"
        copies = receiver.copies()
        assert len(copies) == messages
        assert {rcpt for rcpt, count in copies.items() if count > 1} <= unknown
