"""Claims of the rotation: proportions, and no debts."""

import json

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy import rotation

Weights = st.lists(st.integers(1, 50), min_size=1, max_size=8)


@given(Weights, st.integers(1, 400))
def test_every_slot_gets_its_share_of_any_run_within_two_turns(
    weights: list[int], grants: int
) -> None:
    candidates = list(enumerate(weights))
    state, given_ = rotation.START, [0] * len(weights)
    for _ in range(grants):
        slot, state = rotation.choose(candidates, state)
        given_[slot] += 1
    for slot, weight in candidates:
        share = grants * weight / sum(weights)
        assert -2 < given_[slot] - share < 2 + weight * len(weights) / sum(weights)


def test_a_heavier_slot_does_not_take_its_share_in_one_run() -> None:
    state, slots = rotation.START, []
    for _ in range(8):
        slot, state = rotation.choose([(0, 3), (1, 1)], state)
        slots.append(slot)
    assert slots.count(1) == 2
    assert "".join(map(str, slots)).find("0000") < 0


@given(Weights, st.lists(st.sets(st.integers(0, 7), min_size=1), max_size=200))
def test_only_a_candidate_is_chosen_and_the_state_stays_small(
    weights: list[int], rounds: list[set[int]]
) -> None:
    state = rotation.START
    for present in rounds:
        candidates = [(slot, weight) for slot, weight in enumerate(weights) if slot in present]
        if candidates:
            slot, state = rotation.choose(candidates, state)
            assert slot in {each for each, _ in candidates}
            assert len(state) <= len(weights)
            assert all(0 < ahead < 1 << 32 for _, ahead in state)


@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 9))
def test_a_slot_that_was_away_is_owed_nothing(away: int, first: int, second: int) -> None:
    state = rotation.START
    for _ in range(away):
        _, state = rotation.choose([(0, first)], state)
    run = 0
    while True:
        slot, state = rotation.choose([(0, first), (1, second)], state)
        if slot == 0:
            break
        run += 1
    assert run <= second / first + 2


def test_a_preferred_slot_is_taken_where_it_may_and_pays_for_it() -> None:
    candidates = [(0, 1), (1, 1)]
    slot, state = rotation.choose(candidates, rotation.START, preferred=1)
    assert slot == 1
    slot, state = rotation.choose(candidates, state)
    assert slot == 0
    slot, _ = rotation.choose([(0, 1)], state, preferred=1)
    assert slot == 0


@given(Weights, st.integers(0, 40))
def test_the_state_survives_json(weights: list[int], grants: int) -> None:
    candidates = list(enumerate(weights))
    state = rotation.START
    for _ in range(grants):
        _, state = rotation.choose(candidates, state)
    restored = tuple((slot, ahead) for slot, ahead in json.loads(json.dumps(state)))
    assert rotation.choose(candidates, restored) == rotation.choose(candidates, state)
