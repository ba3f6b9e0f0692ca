"""A day's budget of a source that is being warmed up holds in the receiver's own log, whatever is killed."""

import asyncio
import re
from collections import Counter

import pytest

from tests.support.config import submission
from tests.support.stack import Service
from tests.support.yard import Yard

BUDGET = 30
DAY_NS = 86_400 * 1_000_000_000
WARMUP = f"[warmups.slow]\ndays = [{BUDGET}, 40]\nhours = 0"


def metric(service: Service, name: str, labels: str) -> float:
    found = re.search(
        rf"^postyard_{name}\{{{re.escape(labels)}\}} (\S+)$", service.metrics(), re.MULTILINE
    )
    return float(found[1]) if found else 0.0


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_no_day_passes_its_budget_over_kills_of_the_scheduler(yard: Yard) -> None:
    receiver = yard.receiver()
    limits = '[limits.local]\nrate = "120/min"'
    stack = yard.stack(receiver, limits=limits, sources=("127.0.0.11",), more=WARMUP)
    stack.config = stack.config.replace('warmup = "none"', 'warmup = "slow"')
    stack.set_up()
    stack.wait_ready(stack.start("ingest", wait=False), stack.start("sender", wait=False))
    scheduler = stack.start("scheduler", "scheduler-0")
    await stack.produce(submission(f"u{at}@a.test") for at in range(100))
    for sent in (10, BUDGET):
        async with asyncio.timeout(90):
            while len(receiver.seen("rcpt")) < sent:
                await asyncio.sleep(0.1)
        scheduler.kill()
        scheduler = stack.start("scheduler", "scheduler-0")
    async with asyncio.timeout(60):
        waits = 'class="bulk",provider="local",reason="warmup"'
        while metric(scheduler, "deliveries", waits) < 100 - BUDGET:
            await asyncio.sleep(0.5)
    # Long enough for ten more.
    await asyncio.sleep(5)
    days = Counter(line["ns"] // DAY_NS for line in receiver.seen("rcpt"))
    assert max(days.values()) == BUDGET, days
    assert metric(scheduler, "warmup_used", 'provider="local",source="ip-1"') == BUDGET
    assert metric(scheduler, "warmup_budget", 'provider="local",source="ip-1"') == BUDGET
