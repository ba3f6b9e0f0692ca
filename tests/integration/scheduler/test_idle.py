"""A partition with nothing to do costs the broker next to nothing: its own marks are no reason for a transaction."""

import asyncio
from collections.abc import Iterable

import pytest

from shared.kafka.cluster import Cluster
from tests.support.yard import Yard

MARKS = 8


@pytest.mark.timeout(120)
async def test_marks_alone_are_not_committed_each(yard: Yard) -> None:
    stack = yard.stack({"*.test": ("127.0.0.1:9", "local")}, partitions=1)
    stack.set_up()
    stack.start("scheduler")
    cluster = Cluster(yard.kafka, client_id="test")
    state, outcomes = (stack.topics.state, 0), (stack.topics.outcomes, 0)

    async def ends(places: Iterable[tuple[str, int]]) -> list[int]:
        found = await cluster.end_offsets(places)
        return [found[place] for place in places]

    try:
        async with asyncio.timeout(90):
            # What it began with is committed with the first of them.
            while not (await ends([state]))[0]:
                await asyncio.sleep(0.2)
            before, marked = await ends([state, outcomes])
            while (await ends([outcomes]))[0] < marked + MARKS:
                await asyncio.sleep(0.2)
            after, _ = await ends([state, outcomes])
    finally:
        await cluster.close()
    # One record and its marker, where ten seconds were over.
    assert after - before <= 2
