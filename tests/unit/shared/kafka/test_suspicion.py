"""Which record is to blame: found by ever smaller rounds, and never because of Kafka."""

import random

from hypothesis import given
from hypothesis import strategies as st

from shared.kafka.errors import Fenced, KafkaUnavailable, RoundFailed
from shared.kafka.suspicion import Mark, Suspicion

MOST = 64


def marks(first: int, count: int) -> list[Mark]:
    return [("t", at) for at in range(first, first + count)]


@given(
    bad=st.sets(st.integers(0, 199), max_size=4),
    sure=st.booleans(),
    rng=st.randoms(use_true_random=True),
)
def test_exactly_the_records_that_break_rounds_are_rejected(
    bad: set[int], sure: bool, rng: random.Random
) -> None:
    suspicion, position, failures = Suspicion(MOST), 0, 0
    rejected: list[int] = []
    error = RoundFailed(ValueError(), too_large=True) if sure else ValueError("a bug")
    for turn in range(1000):
        # Another topic's record comes first, and may fill the round.
        batch = [("other", turn)] if rng.random() < 1 / 2 else []
        batch += marks(position, min(suspicion.limit - len(batch), 200 - position))
        mine = [at for name, at in batch if name == "t"]
        if any(at in bad and ("t", at) not in suspicion.bad for at in mine):
            failures += 1
            suspicion.learn(batch, error)
            # Whoever begins anew has a round without records first.
            suspicion.passed([])
            continue
        rejected += [at for at in mine if ("t", at) in suspicion.bad]
        position += len(mine)
        suspicion.passed(batch)
        if position == 200:
            break
    assert set(rejected) == bad
    assert not suspicion.bad
    # Twice, then at a quarter, a sixteenth, ... and alone.
    assert failures <= 6 * len(bad)


def test_kafkas_trouble_makes_rounds_smaller_and_blames_nobody() -> None:
    suspicion = Suspicion(MOST)
    for _ in range(20):
        suspicion.learn(marks(0, suspicion.limit), RoundFailed(TimeoutError()))
    assert suspicion.limit == 1
    assert not suspicion.bad
    suspicion.passed(marks(0, 1))
    assert suspicion.limit == 2


def test_a_partition_that_went_to_another_says_nothing_of_its_records() -> None:
    suspicion = Suspicion(MOST)
    for error in (Fenced(), KafkaUnavailable()):
        for _ in range(3):
            suspicion.learn(marks(0, 1), error)
    assert (suspicion.limit, suspicion.bad) == (MOST, set())


def test_a_round_without_records_accuses_and_acquits_nobody() -> None:
    suspicion = Suspicion(MOST)
    for _ in range(3):
        suspicion.learn([], ValueError())
    assert suspicion.limit == MOST
    suspicion.learn(marks(0, 8), ValueError())
    suspicion.passed([])
    suspicion.learn(marks(0, 8), ValueError())
    assert suspicion.limit == 2


def test_what_passes_beside_a_record_does_not_acquit_it() -> None:
    suspicion = Suspicion(MOST)
    for at in range(2):
        suspicion.learn(marks(0, 1), ValueError())
        suspicion.passed([("other", at)])
    assert suspicion.bad == set(marks(0, 1))


def test_the_round_after_a_condemned_record_ends_before_it() -> None:
    suspicion = Suspicion(MOST)
    suspicion.condemn(marks(0, 8), ("t", 5))
    assert suspicion.limit == 5
    suspicion.passed(marks(0, 5))
    assert suspicion.bad == {("t", 5)}
    suspicion.passed(marks(5, 3))
    assert suspicion.bad == set()
    suspicion.condemn(marks(8, 8), ("t", 8))
    assert suspicion.limit == 1
