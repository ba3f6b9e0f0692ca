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


class _Asked:
    """Whose turn it is, by its definition: everybody is looked at each time."""

    def __init__(self) -> None:
        self._turn = 0
        self._next: dict[int, int] = {}

    def first(self, candidates: tuple[tuple[int, int], ...]) -> tuple[int, int]:
        turn = self._turn
        return min(
            candidates,
            key=lambda each: (max(turn, self._next.get(each[0], turn)), -each[1], each[0]),
        )

    def took(self, slot: int, weight: int) -> None:
        self._turn = max(self._turn, self._next.get(slot, 0))
        self._next[slot] = self._turn + (720_720 << 10) // weight


@given(
    st.lists(st.lists(st.integers(0, 50), min_size=8, max_size=8), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=200),
)
def test_an_order_that_is_known_from_before_is_the_one_that_looking_at_everybody_gives(
    pools: list[list[int]], steps: list[tuple[int, int, bool]]
) -> None:
    """Candidates, weights and who of them takes the turn change in any way; the same tuple comes again and again, as from a pool."""
    several = [
        tuple((slot, weight) for slot, weight in enumerate(pool) if weight) for pool in pools
    ]
    rotation, asked, rng = Rotation(), _Asked(), random.Random(1)
    for which, other, first in steps:
        candidates = several[which % len(several)]
        if not candidates:
            continue
        chosen = rotation.first(candidates, rng)
        if asked._next:
            assert chosen == asked.first(candidates)
        if not first:
            # The first had no room, or was too late for this delivery.
            chosen = candidates[other % len(candidates)]
        rotation.took(*chosen)
        asked.took(*chosen)
