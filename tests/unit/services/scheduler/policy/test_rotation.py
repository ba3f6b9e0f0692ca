"""Claims of the rotation: proportions, and no debts."""

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy import rotation

Weights = st.lists(st.integers(1, 50), min_size=1, max_size=8)


@given(Weights, st.integers(1, 400))
def test_every_slot_gets_its_share_of_any_run_within_the_bound(
    weights: list[int], grants: int
) -> None:
    candidates = list(enumerate(weights))
    rng = random.Random(grants)
    state, given_ = rotation.START, [0] * len(weights)
    for _ in range(grants):
        slot, state = rotation.choose(candidates, state, rng)
        given_[slot] += 1
    for slot, weight in candidates:
        share = grants * weight / sum(weights)
        # Of start-time fair queueing: one, and for each other slot the part that a turn of it brings.
        bound = 1 + (len(weights) - 1) * weight / sum(weights)
        assert abs(given_[slot] - share) <= bound + 1e-3


def test_a_heavier_slot_does_not_take_its_share_in_one_run() -> None:
    rng = random.Random(1)
    state, slots = rotation.START, []
    for _ in range(8):
        slot, state = rotation.choose([(0, 3), (1, 1)], state, rng)
        slots.append(slot)
    assert slots.count(1) == 2
    assert "".join(map(str, slots)).find("0000") < 0


@given(Weights, st.lists(st.sets(st.integers(0, 7), min_size=1), max_size=200))
def test_only_a_candidate_is_chosen_and_the_state_stays_small(
    weights: list[int], rounds: list[set[int]]
) -> None:
    rng = random.Random(1)
    state = rotation.START
    for present in rounds:
        candidates = [(slot, weight) for slot, weight in enumerate(weights) if slot in present]
        if candidates:
            slot, state = rotation.choose(candidates, state, rng)
            assert slot in {each for each, _ in candidates}
            assert len(state) <= len(weights)
            assert all(0 < ahead < 1 << 32 for _, ahead in state)


@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 9))
def test_a_slot_that_was_away_is_owed_nothing(away: int, first: int, second: int) -> None:
    rng = random.Random(1)
    state = rotation.START
    for _ in range(away):
        _, state = rotation.choose([(0, first)], state, rng)
    run = 0
    while True:
        slot, state = rotation.choose([(0, first), (1, second)], state, rng)
        if slot == 0:
            break
        run += 1
    assert run <= second / first + 2


def test_a_trickle_is_shared_by_weight_although_each_delivery_begins_anew() -> None:
    rng = random.Random(1)
    slots = [rotation.choose([(0, 3), (1, 1)], rotation.START, rng)[0] for _ in range(4_000)]
    assert abs(slots.count(1) - 1_000) < 100


@given(Weights, st.integers(0, 40))
def test_the_state_survives_json(weights: list[int], grants: int) -> None:
    candidates = list(enumerate(weights))
    rng = random.Random(1)
    state = rotation.START
    for _ in range(grants):
        _, state = rotation.choose(candidates, state, rng)
    restored = tuple((slot, ahead) for slot, ahead in json.loads(json.dumps(state)))
    if state:
        assert rotation.choose(candidates, restored, rng) == rotation.choose(candidates, state, rng)
    assert restored == state
