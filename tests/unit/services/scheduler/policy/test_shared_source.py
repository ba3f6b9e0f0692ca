"""Pools that share a source each have their turns of what it may send."""

from collections import Counter
from dataclasses import replace

import pytest

from shared.runtime.settings import LimitRow, Pool, Rate
from tests.unit.services.scheduler.policy.partitions import S, World, make_settings

POOLS = ("main", "other", "third")


@pytest.mark.parametrize("rate", [Rate(60, 60 * S), Rate(600, 60 * S), Rate(6000, 60 * S)])
def test_none_of_the_pools_that_share_a_source_starves_under_its_rate(rate: Rate) -> None:
    made = make_settings(LimitRow(50, 100, rate=rate))
    pools = {name: Pool(name, {"ip": 1}) for name in POOLS}
    world, of, sent = World(replace(made, pools=pools)), dict[str, str](), Counter[str]()
    for at in range(3000):
        of[f"d{at}"] = POOLS[at % len(POOLS)]
        world.deliver(0, f"d{at}", pool=of[f"d{at}"])
    for _ in range(60):
        world.turn(0, seconds=0.5)
        for _, grant in world.grants:
            sent[of[grant.id]] += 1
            # Each outcome wakes all that wait for the source.
            world.say(0, grant, "delivered")
        world.grants.clear()
    fair = sent.total() / len(POOLS)
    assert fair >= 10
    assert all(abs(sent[name] - fair) <= max(2, fair / 2) for name in POOLS), sent
