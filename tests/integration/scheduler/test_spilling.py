"""Mail that waits too long spills over to another pool: so much and no more, whatever is killed."""

import asyncio
from collections import Counter

import pytest

from tests.support.config import submission
from tests.support.yard import Yard

DAILY = 12
DAY_NS = 86_400 * 1_000_000_000
SPILL = f'spill = {{ to = "spare", after = "3s", daily = {DAILY} }}'
SPARE = "[pools.spare]\nsources = { ip-2 = 1 }"


@pytest.mark.timeout(240)
async def test_no_more_than_the_daily_amount_spills_over_a_kill_of_the_scheduler(
    yard: Yard,
) -> None:
    receiver = yard.receiver()
    limits = '[limits."local/ip-1"]\nrate = "1/d"\n[limits."local/ip-2"]\nrate = "120/min"'
    stack = yard.stack(receiver, limits=limits, more=SPARE)
    stack.config = stack.config.replace(
        "sources = { ip-1 = 1, ip-2 = 1 }", f"sources = {{ ip-1 = 1 }}\n{SPILL}"
    ).replace("[tenants.acme]", '[tenants.acme]\nspill_to = ["spare"]')
    stack.set_up()
    stack.wait_ready(stack.start("ingest", wait=False), stack.start("sender", wait=False))
    scheduler = stack.start("scheduler", "scheduler-0")
    await stack.produce(submission(f"u{at}@a.test") for at in range(40))

    def spilled() -> list[int]:
        return [line["ns"] for line in receiver.seen("rcpt") if line["peer"] == "127.0.0.12"]

    for sent in (4, DAILY):
        async with asyncio.timeout(90):
            while len(spilled()) < sent:
                await asyncio.sleep(0.1)
        if sent < DAILY:
            scheduler.kill()
            scheduler = stack.start("scheduler", "scheduler-0")
    # It looks every 5 s.
    await asyncio.sleep(12)
    days = Counter(at // DAY_NS for at in spilled())
    assert max(days.values()) == DAILY, days
    assert 'spilled_today{pool="main",provider="local"}' in scheduler.metrics()
    assert '"spilled_over"' in scheduler.log.read_text()
