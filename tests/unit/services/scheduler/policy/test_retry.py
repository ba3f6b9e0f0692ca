"""Claims of the retry schedule."""

import random

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy import retry

_MINUTE = 60_000_000_000
Schedules = st.lists(st.integers(1, 10**15), min_size=1, max_size=8)


@given(Schedules, st.floats(0, 1), st.integers(0, 20), st.integers(0, 2**32))
def test_every_delay_lies_within_the_jitter_of_its_step(
    schedule: list[int], jitter: float, step: int, seed: int
) -> None:
    planned = schedule[min(step, len(schedule) - 1)]
    delay = retry.next_delay(schedule, jitter, step, random.Random(seed))
    assert abs(delay - planned) <= planned * jitter


@given(Schedules, st.integers(0, 20), st.integers(0, 2**32))
def test_greylisting_is_never_tried_again_too_early(
    schedule: list[int], step: int, seed: int
) -> None:
    rng = random.Random(seed)
    assert retry.next_delay(schedule, 0.2, step, rng, least_ns=5 * _MINUTE) >= 5 * _MINUTE


def test_the_last_delay_repeats() -> None:
    rng = random.Random(1)
    assert [retry.next_delay((1, 2, 3), 0, step, rng) for step in range(6)] == [1, 2, 3, 3, 3, 3]


def test_jitter_keeps_the_mean_and_spreads_what_failed_together() -> None:
    rng = random.Random(1)
    delays = [retry.jittered(10 * _MINUTE, 0.2, rng) for _ in range(4_000)]
    assert abs(sum(delays) / len(delays) - 10 * _MINUTE) < 0.05 * _MINUTE
    assert max(delays) - min(delays) > 3.9 * _MINUTE


def test_a_delivery_expires_at_its_time_and_not_before() -> None:
    assert not retry.expired(100, 99)
    assert retry.expired(100, 100)
