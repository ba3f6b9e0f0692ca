"""What a tenant may send in all holds over partitions that know nothing of each other, whoever deals and whoever is killed."""

import asyncio
from collections import Counter

import pytest

from tests.support.config import submission
from tests.support.receiver import most_in_window
from tests.support.yard import Yard

PROVIDERS = ("left", "middle", "right")
MINUTE = 60


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_tenants_total_over_three_partitions_holds_over_kills(yard: Yard) -> None:
    receiver = yard.receiver()
    stack = yard.stack(
        {f"*.{name}.test": (receiver.target, name) for name in PROVIDERS},
        partitions=len(PROVIDERS),
        limits='[limits."tenant:acme"]\ntotal_rate = "60+10/min"',
        more="[lanes]\n"
        + "\n".join(f'"provider:{name}" = {at}' for at, name in enumerate(PROVIDERS)),
    )
    stack.set_up()
    first = stack.start("scheduler", "scheduler-0", wait=False)
    second = stack.start("scheduler", "scheduler-1", wait=False)
    stack.wait_ready(
        first, second, *(stack.start(kind, wait=False) for kind in ("ingest", "sender"))
    )
    await stack.produce(
        submission(f"u{at}@{name}.{name}.test") for at in range(60) for name in PROVIDERS
    )
    async with asyncio.timeout(60):
        while len(receiver.seen("rcpt")) < 12:
            await asyncio.sleep(0.2)
    assert "tenant_rate" in first.metrics() + second.metrics()
    await asyncio.sleep(10)
    # One of the two deals: both are killed, one after the other.
    first.kill()
    first = stack.start("scheduler", "scheduler-0", wait=False)
    await asyncio.sleep(20)
    second.kill()
    second = stack.start("scheduler", "scheduler-1", wait=False)
    await asyncio.sleep(35)
    rcpts = receiver.seen("rcpt")
    counts = Counter(line["rcpt"].partition("@")[2].partition(".")[0] for line in rcpts)
    most = most_in_window([line["ns"] for line in rcpts], MINUTE)
    print(f"\nmost in a minute: {most} of 60, {len(rcpts)} RCPT: {dict(counts)}")
    assert most <= 60
    assert set(counts) == set(PROVIDERS), "none of them was left with nothing"
    assert len(rcpts) >= 25, "it did send, however busy the machine is"
    assert set(receiver.copies().values()) == {1}
