"""A provider's lane moves to another partition and back while its mail flows: `postyard config apply`, real processes."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.config import config, submission
from tests.support.receiver import start_receiver
from tests.support.stack import Events, Stack

PARTITIONS = 2
MESSAGES = 150
LANE = "provider:local"


@pytest.mark.timeout(240)
async def test_a_lane_moves_there_and_back_and_every_message_is_delivered_once(
    tmp_path: Path, kafka: str, prefix: str
) -> None:
    receiver = start_receiver(tmp_path, "receiver")
    limits = '[limits.local]\nconnections = 2\nrate = "600/min"\ntotal_rate = "1000/min"'
    text = config(
        tmp_path, kafka, prefix, routes={"*.test": (receiver.target, "local")}, limits=limits
    )
    stack = Stack(tmp_path, kafka, prefix, text)
    try:
        stack.set_up()
        move(stack, 0)
        schedulers = [stack.start("scheduler", wait=False) for _ in range(2)]
        stack.wait_ready(
            *schedulers, *(stack.start(kind, wait=False) for kind in ("ingest", "sender"))
        )
        await stack.produce(submission(f"u{at}@a.test") for at in range(MESSAGES))
        async with Events(stack, PARTITIONS) as events:
            await events.until_final(20, 90)
            move(stack, 1)
            await until_taken(stack, events, 1)
            await events.until_final(60, 90)
            move(stack, 0)
            # Its partitions change hands too, before or after the lane does.
            assert schedulers[0].terminate() == 0
            await events.until_final(MESSAGES, 150)
            assert events.types() == {"delivered": MESSAGES}
            await until_taken(stack, events, 0)
        assert told(stack, "lane_handed_over")[-2:] == [1, 0]
        assert told(stack, "lane_taken")[-2:] == [1, 0]
        assert set(receiver.copies().values()) == {1}
    finally:
        stack.stop()
        receiver.stop()


async def until_taken(stack: Stack, events: Events, partition: int) -> None:
    """Wait until ``partition`` says that it has the lane."""
    end = time.monotonic() + 90
    while told(stack, "lane_taken")[-1:] != [partition]:
        assert time.monotonic() < end, "the lane was not handed over"
        await events.read()


def move(stack: Stack, partition: int) -> None:
    """Write the lane's partition into the configuration, and put it in force."""
    stack.config_path.write_text(f'{stack.config}\n\n[lanes]\n"{LANE}" = {partition}\n')
    stack.cli("config", "apply", str(stack.config_path))


def told(stack: Stack, event: str) -> list[int]:
    """Give the partitions that the lane went to, in the order of the map's versions."""
    lines = [line for line in _lines(stack) if line.get("event") == event]
    lines.sort(key=lambda line: int(line["map"]))
    return [int(line.get("to_partition", line["partition"])) for line in lines]


def _lines(stack: Stack) -> Iterator[dict[str, Any]]:
    for service in stack.services:
        if service.kind == "scheduler":
            # The last line may be half written.
            whole, _, _ = service.log.read_text().rpartition("\n")
            yield from map(json.loads, whole.splitlines())
