"""A limit of bytes at the wire: a receiver counts what begins in each minute from each source, while a scheduler is killed."""

import asyncio
import json
from collections import defaultdict

import pytest

from tests.support.config import submission
from tests.support.stack import Events
from tests.support.yard import Yard

PARTITIONS = 2
BYTES = 256 << 10
MINUTE_NS = 60 * 10**9
SMALL, LARGE = 20 << 10, 150 << 10
LINE = "x" * 70 + "\r\n"


def most_bytes(came: list[tuple[int, int]]) -> int:
    """Give the most bytes of any half-open window of a minute."""
    return max(
        sum(size for at, size in came if begins <= at < begins + MINUTE_NS) for begins, _ in came
    )


@pytest.mark.timeout(240)
async def test_no_minute_has_more_bytes_from_a_source_than_its_limit(yard: Yard) -> None:
    receiver = yard.receiver()
    stack = yard.stack(receiver, limits='[limits.local]\nbytes = "256KiB/min"')
    await asyncio.to_thread(stack.start_all)
    sizes = [LARGE if at % 6 == 0 else SMALL for at in range(48)]
    await stack.produce(
        submission(f"u{at}@{at % 5}.test", text=LINE * (size // len(LINE)))
        for at, size in enumerate(sizes)
    )
    async with Events(stack, PARTITIONS) as events:
        await events.until_accepted(len(sizes), 60)
        await asyncio.sleep(10)
        next(each for each in stack.services if each.kind == "scheduler").kill()
        await asyncio.to_thread(stack.start, "scheduler")
        # A whole minute: one that is half as full again shows only at its end.
        await asyncio.sleep(50)
        # It is used, by what is large too, which takes two thirds of a source's minute, and what is smaller does not pass it.
        async with asyncio.timeout(120):
            while (
                len(sizes := [seen["size"] for seen in receiver.seen("message")]) < 3
                or max(sizes) < LARGE
            ):
                await asyncio.sleep(0.2)
    queued = json.loads(
        (await asyncio.to_thread(stack.cli, "queue", "--by", "reason", "--json")).stdout
    )
    assert "byte_rate" in {row["reason"] for row in queued["rows"]}
    came = defaultdict(list)
    for seen in receiver.seen("message"):
        came[seen["peer"]].append((seen["mail_ns"], seen["size"]))
    assert len(came) == 2
    for source, messages in came.items():
        assert most_bytes(messages) <= BYTES, (source, messages)
