"""Claims of the stickiness: a key keeps its source, by weight, and little moves when sources do."""

from collections import Counter
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy import stickiness
from services.scheduler.policy.entries import waiting
from services.scheduler.policy.stickiness import Homes
from shared.runtime.settings import LimitRow, Pool, Rate, Source
from tests.unit.services.scheduler.policy.making import delivery
from tests.unit.services.scheduler.policy.partitions import World, make_settings

S = 1_000_000_000
Slots = st.dictionaries(st.integers(0, 127), st.integers(1, 50), min_size=1, max_size=10)
KEYS = [f"user-{number}@example.com" for number in range(40)]


def places(slots: dict[int, int]) -> dict[str, int]:
    return {key: stickiness.first(key, slots.items()) for key in KEYS}


@given(Slots, st.integers(0, 127), st.integers(1, 50))
def test_a_source_that_joins_takes_and_nothing_else_moves(
    slots: dict[int, int], new: int, weight: int
) -> None:
    before = places({slot: each for slot, each in slots.items() if slot != new} or {128 - 1: 1})
    after = places(
        {slot: each for slot, each in slots.items() if slot != new} | {new: weight}
        if set(slots) - {new}
        else {128 - 1: 1, new: weight}
    )
    assert all(after[key] in (before[key], new) for key in KEYS)


@given(Slots, st.randoms(use_true_random=False))
def test_a_source_that_leaves_gives_its_own_away_and_nothing_else_moves(
    slots: dict[int, int], rng: "object"
) -> None:
    gone = min(slots)
    left = {slot: weight for slot, weight in slots.items() if slot != gone}
    if not left:
        return
    before, after = places(slots), places(left)
    assert all(before[key] in (after[key], gone) for key in KEYS)


@given(Slots, st.integers(1, 50))
def test_a_weight_that_grows_moves_only_towards_it(slots: dict[int, int], more: int) -> None:
    grown = max(slots)
    before = places(slots)
    after = places(slots | {grown: slots[grown] + more})
    assert all(after[key] in (before[key], grown) for key in KEYS)


@given(Slots)
def test_the_order_in_which_sources_are_written_means_nothing(slots: dict[int, int]) -> None:
    assert places(slots) == places(dict(reversed(slots.items())))


def test_keys_are_shared_out_by_weight() -> None:
    slots = {3: 1, 7: 2, 90: 5}
    found = Counter(stickiness.first(f"k{at}", slots.items()) for at in range(8_000))
    for slot, weight in slots.items():
        assert abs(found[slot] - 1_000 * weight) < 5 * (1_000 * weight) ** 0.5


@pytest.mark.parametrize(
    ("sticky", "key"),
    [("none", None), ("tenant", "acme"), ("domain", "x.example"), ("recipient", "bob@x.example")],
)
def test_a_key_is_what_the_pool_says(
    sticky: Literal["none", "tenant", "domain", "recipient"], key: str | None
) -> None:
    record = delivery("d", 0, S, to="Bob@X.example")
    assert stickiness.key_of(Pool("main", {}, sticky), waiting(record, "bulk", 0)) == key


def test_what_is_remembered_is_bounded() -> None:
    homes = Homes({"main": Pool("main", {}, "recipient")}, most=3)
    slots = ((0, 1), (1, 1))
    for number in range(20):
        entry = waiting(delivery(f"d{number}", 0, S), "bulk", 0)
        assert homes.of(entry, slots) == stickiness.first(f"d{number}@x.example", slots)
        assert len(homes._known) <= 3


# -- in a partition


def sticky(limit: LimitRow | None = None) -> World:
    """Give a world with three sources in a pool that ties recipients to them."""
    base = make_settings(limit or LimitRow(100, 100))
    sources = {
        f"ip-{at}": Source(f"ip-{at}", at, "bind", "none", "m.example.com", f"127.0.0.{11 + at}")
        for at in range(3)
    }
    pool = Pool("main", dict.fromkeys(sources, 1), "recipient")
    world = World(replace(base, sources=sources, pools={"main": pool}))
    for part in world.parts:
        part.own(1)
        part.own(2)
    return world


def home(id_: str) -> int:
    return stickiness.first(f"{id_}@x.example", ((0, 1), (1, 1), (2, 1)))


def test_every_recipient_has_mail_from_its_own_source() -> None:
    world = sticky()
    for number in range(60):
        world.deliver(0, f"d{number}")
    world.turn()
    assert {grant.id: grant.slot for _, grant in world.grants} == {
        f"d{number}": home(f"d{number}") for number in range(60)
    }


def test_a_source_that_is_only_busy_is_waited_for() -> None:
    world = sticky(LimitRow(100, 100, Rate(1, 60 * S)))
    for number in range(12):
        world.deliver(0, f"d{number}")
    world.turn(seconds=120)
    for _ in range(130):
        world.turn(seconds=10)
    assert {grant.id: grant.slot for _, grant in world.grants} == {
        f"d{number}": home(f"d{number}") for number in range(12)
    }


def test_others_stand_in_for_a_source_that_is_away_and_the_rest_stays() -> None:
    world = sticky()
    for part in world.parts:
        part.slots.remove(1)
    for number in range(60):
        world.deliver(0, f"d{number}")
    world.turn(seconds=30)
    for _, grant in world.grants:
        own = home(grant.id)
        ranked = stickiness.first(f"{grant.id}@x.example", ((0, 1), (2, 1)))
        assert grant.slot == (own if own != 1 else ranked)
    assert len(world.grants) == 60


def test_others_stand_in_for_a_source_that_the_destination_does_not_let_in() -> None:
    world = sticky()
    world.deliver(0, "d0")
    world.turn()
    [(_, grant)] = world.grants
    world.say(0, grant, "pair_failed")
    world.turn()
    assert [each.slot for _, each in world.grants] == [grant.slot, world.grants[-1][1].slot]
    assert world.grants[-1][1].slot != grant.slot


def test_a_delivery_that_ends_is_found_where_it_waits() -> None:
    world = sticky()
    for number in range(10):
        world.deliver(0, f"d{number}", not_before_ns=world.now + 900 * S)
    world.turn()
    world.turn(seconds=3601)
    assert world.said == ["expired"] * 10
    assert world.parts[0].ledger.entries == {}
