"""What is counted in passing is what looking at each delivery would find, and nobody waits for it."""

import asyncio
from collections import Counter
from dataclasses import dataclass

from services.scheduler.census import FEW, Census
from services.scheduler.policy.ledger import Ledger
from shared.runtime.clock import SystemClock
from tests.unit.services.scheduler.policy.test_ledger import S, World


@dataclass
class Holder:
    ledger: Ledger


def world(count: int) -> World:
    """Give one in which some are out, some wait for credit, and most sleep."""
    made = World()
    made.turn()
    for at in range(count):
        # Of every four, three are not due for an hour.
        made.deliver(f"d{at}", not_before_ns=made.now + 3_600 * S if at % 4 else 0)
    made.turn()
    return made


def census(made: World) -> Census:
    return Census({0: Holder(made.ledger)}, SystemClock())


def looked_at(made: World) -> Counter[tuple[str, str | None, str]]:
    return Counter(
        (entry.class_, entry.provider, reason) for entry, reason in made.ledger.reasons()
    )


def test_where_there_are_few_a_question_is_answered_at_once() -> None:
    made = world(400)
    tally = census(made).tally()
    assert tally is not None
    assert tally.counts == looked_at(made)
    assert {reason for _, _, reason in tally.counts} >= {"granted", "not_before"}
    assert sum(tally.out.values()) == tally.counts["bulk", "big", "granted"]
    for which, count in tally.counts.items():
        accepted = [
            entry.accepted_ns
            for entry, reason in made.ledger.reasons()
            if (entry.class_, entry.provider, reason) == which
        ]
        assert count == len(accepted)
        assert 0 <= min(accepted) - tally.oldest[which] < 40 * S


def test_where_there_are_many_nobody_waits_for_the_count() -> None:
    made = world(FEW + 500)
    counting = census(made)
    assert counting.tally() is None

    async def once() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside, run = asyncio.create_task(other()), asyncio.create_task(counting.run())
        while counting.tally() is None:
            await asyncio.sleep(0)
        for task in (beside, run):
            task.cancel()
        await asyncio.gather(beside, run, return_exceptions=True)
        # Once for each slice at least.
        assert turns > len(made.ledger.entries) // 500

    asyncio.run(once())
    tally = counting.tally()
    assert tally is not None
    assert tally.counts == looked_at(made)
