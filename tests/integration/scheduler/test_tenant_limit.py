"""A tenant's limit by order on a real cluster: cluster-wide within a second, exact over two partitions, counted before and said after."""

import asyncio
import json

import pytest

from tests.support.config import submission
from tests.support.stack import Events
from tests.support.yard import Yard

PARTITIONS = 2
SIGNED = ("--reason", "complaints rise", "--author", "ada")


@pytest.mark.timeout(240)
async def test_a_tenants_limit_holds_over_all_partitions_until_it_is_resumed(yard: Yard) -> None:
    receiver = yard.receiver()
    stack = yard.stack(receiver)
    stack.start_all()
    stack.cli("limit", "--tenant", "acme", "--rate", "60/h", *SIGNED)
    listed = stack.cli("directives").stdout
    assert "tenant=acme" in listed
    assert "60/h" in listed
    await asyncio.sleep(3)
    await stack.produce(submission(f"u{at}@{at % 7}.test") for at in range(60))
    async with Events(stack, PARTITIONS) as events:
        await events.until_accepted(60, 60)
        # Without a limit all were there within two seconds.
        await asyncio.sleep(8)
        await events.read()
        # One a minute at most, and a token may be used for a while after it was dealt.
        assert len(events.finals()) <= 2
        said = stack.cli("limit", "--tenant", "acme", "--rate", "1/h", "--dry-run").stdout
        assert int(said.split()[3]) >= 58
        queued = json.loads(stack.cli("queue", "--by", "reason", "--json").stdout)
        assert "tenant_rate" in {row["reason"] for row in queued["rows"]}
        stack.cli("resume", "--tenant", "acme", *SIGNED)
        await events.until_final(60, 60)
        assert {event.type for event in events.finals().values()} == {"delivered"}
