"""A provider's lane moves to another partition and back while its mail flows: `postyard config apply`, real processes."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.config import submission
from tests.support.stack import Events, Stack
from tests.support.yard import Yard

PARTITIONS = 2
MESSAGES = 150
LANE = "provider:local"


@pytest.mark.timeout(240)
async def test_a_lane_moves_there_and_back_and_every_message_is_delivered_once(yard: Yard) -> None:
    receiver = yard.receiver()
    stack = yard.stack(
        receiver,
        limits='[limits.local]\nconnections = 2\nrate = "600/min"\ntotal_rate = "1000/min"',
    )
    stack.set_up()
    move(stack, 0)
    schedulers = [stack.start("scheduler", wait=False) for _ in range(2)]
    stack.wait_ready(*schedulers, *(stack.start(kind, wait=False) for kind in ("ingest", "sender")))
    await stack.produce(submission(f"u{at}@a.test") for at in range(MESSAGES))
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(20, 90)
        move(stack, 1)
        await until_taken(stack, events, 1)
        await events.until_final(60, 90)
        move(stack, 0)
        await until_taken(stack, events, 0)
        # Whoever takes its partition next reads back what that holds.
        assert schedulers[0].terminate() == 0
        await events.until_final(MESSAGES, 150)
        assert events.types() == {"delivered": MESSAGES}
    assert told(stack, "lane_handed_over")[-2:] == [1, 0]
    assert told(stack, "lane_taken")[-2:] == [1, 0]
    assert set(receiver.copies().values()) == {1}


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
