"""Claims of the rotation: proportions, and no debts."""

import random

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.rotation import Rotation

Weights = st.lists(st.integers(1, 50), min_size=1, max_size=8)


def choose(rotation: Rotation, candidates: list[tuple[int, int]], rng: random.Random) -> int:
    slot, weight = rotation.first(candidates, rng)
    rotation.took(slot, weight)
    return slot


@given(Weights, st.integers(1, 400))
def test_every_slot_gets_its_share_of_any_run_within_the_bound(
    weights: list[int], grants: int
) -> None:
    candidates = list(enumerate(weights))
    rng = random.Random(grants)
    rotation, given_ = Rotation(), [0] * len(weights)
    for _ in range(grants):
        given_[choose(rotation, candidates, rng)] += 1
    for slot, weight in candidates:
        share = grants * weight / sum(weights)
        # Of start-time fair queueing: one, and for each other slot the part that a turn of it brings.
        bound = 1 + (len(weights) - 1) * weight / sum(weights)
        assert abs(given_[slot] - share) <= bound + 1e-3


def test_a_heavier_slot_does_not_take_its_share_in_one_run() -> None:
    rotation, rng = Rotation(), random.Random(1)
    slots = [choose(rotation, [(0, 3), (1, 1)], rng) for _ in range(8)]
    assert slots.count(1) == 2
    assert "".join(map(str, slots)).find("0000") < 0


@given(Weights, st.lists(st.sets(st.integers(0, 7), min_size=1), max_size=200))
def test_only_a_candidate_is_chosen(weights: list[int], rounds: list[set[int]]) -> None:
    rotation, rng = Rotation(), random.Random(1)
    for present in rounds:
        candidates = [(slot, weight) for slot, weight in enumerate(weights) if slot in present]
        if candidates:
            assert choose(rotation, candidates, rng) in {each for each, _ in candidates}


@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 9))
def test_a_slot_that_was_away_is_owed_nothing(away: int, first: int, second: int) -> None:
    rotation, rng = Rotation(), random.Random(1)
    for _ in range(away):
        choose(rotation, [(0, first)], rng)
    run = 0
    while choose(rotation, [(0, first), (1, second)], rng) != 0:
        run += 1
    assert run <= second / first + 2


@given(Weights, st.integers(0, 60))
def test_looking_whose_turn_it_is_changes_nothing(weights: list[int], grants: int) -> None:
    candidates = list(enumerate(weights))
    rotation, rng = Rotation(), random.Random(1)
    choose(rotation, candidates, rng)
    for _ in range(grants):
        first = rotation.first(candidates, rng)
        assert rotation.first(candidates, rng) == first
        rotation.took(*first)


def test_a_trickle_is_shared_by_weight_although_each_delivery_begins_anew() -> None:
    rng = random.Random(1)
    slots = [choose(Rotation(), [(0, 3), (1, 1)], rng) for _ in range(4_000)]
    assert abs(slots.count(1) - 1_000) < 100
