"""A destination that nobody knows is given little at first, and more only as it takes it."""

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy import growth
from shared.records.outcome import Outcome, Result
from shared.runtime.settings import Limit, Rate

S = 1_000_000_000
STARTS = st.builds(
    Rate, st.integers(1, 600), st.sampled_from([10 * S, 60 * S, 3600 * S]), st.just(1)
)
TOPS = st.none() | st.builds(Rate, st.integers(1, 9000), st.sampled_from([60 * S, 3600 * S]))


def outcome(result: Result, scope: str = "") -> Outcome:
    return Outcome(id="d", n=1, slot=0, epoch=0, result=result, scope=scope)


def per_day(rate: Rate) -> float:
    return rate.count * 86_400 * S / rate.period_ns


@given(STARTS, st.integers(0, 5000), st.integers(0, 5000))
def test_more_good_answers_never_give_less(start: Rate, one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert growth.rate(start, low).count <= growth.rate(start, high).count
    assert growth.rate(start, 0) == start


@given(STARTS, TOPS)
def test_what_is_enough_reaches_the_top_and_one_less_does_not(
    start: Rate, top: Rate | None
) -> None:
    most = growth.enough(start, top)
    goal = per_day(growth.GROWN if top is None else top)
    assert per_day(growth.rate(start, most)) >= goal
    if most:
        assert per_day(growth.rate(start, most - 1)) < goal


@given(STARTS)
def test_it_doubles_in_ten_seconds_of_its_whole_rate(start: Rate) -> None:
    good = start.count * 10 * S // start.period_ns
    assert growth.rate(start, good).count <= 2 * start.count
    assert growth.rate(start, good + 1).count + 1 >= 2 * start.count


@given(STARTS, TOPS, st.integers(0, 10**6))
def test_what_was_learnt_is_bounded_and_a_refusal_of_the_pair_halves_it(
    start: Rate, top: Rate | None, good: int
) -> None:
    whole = Limit(5, 20, top, start_rate=start)
    assert growth.heard(good, whole, outcome("delivered")) <= growth.enough(start, top)
    assert growth.heard(good, whole, outcome("deferred", "pair")) == good // 2
    assert growth.heard(good, whole, outcome("pair_failed")) == good // 2
    for scope in ("recipient", "message", "domain"):
        assert growth.heard(good, whole, outcome("bounced", scope)) == good


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_of_two_that_know_the_more_careful_holds(one: int, other: int) -> None:
    assert growth.merged(one, other) == min(one, other)
    assert growth.merged(one, 0) == growth.merged(0, one) == one
