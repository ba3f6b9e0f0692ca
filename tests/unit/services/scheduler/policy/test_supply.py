"""Claims of the forecast of a source: it sends as the rules let it, and nobody waits for what never comes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy import allowance, growth, warmup
from services.scheduler.policy.supply import Supply, budgeted, drained_ns, growing, rising
from services.scheduler.policy.warmup import DAY_NS, Plan, Token
from shared.records.backoff import Allowance
from shared.records.outcome import Outcome
from shared.records.state import WarmupState
from shared.runtime.settings import Limit, Rate
from shared.runtime.warmups import Warmup

S = 1_000_000_000
MINUTE = 60 * S
SKEW = 2 * S
DELIVERED = Outcome(id="d", n=1, slot=0, epoch=1, result="delivered")


def times(supplies: list[Supply], most: int) -> list[int]:
    """List the first ``most`` grants."""
    found = [
        first + turn * interval
        for first, interval, some in supplies
        for turn in range(min(some, most))
    ]
    return sorted(found)[:most]


@given(
    st.lists(
        st.builds(
            Supply, st.integers(0, 50), st.integers(1, 20), st.integers(0, 5) | st.just(1 << 62)
        ),
        max_size=4,
    ),
    st.integers(0, 40),
)
def test_what_is_before_is_sent_by_all_sources_each_from_its_time_on(
    supplies: list[Supply], before: int
) -> None:
    goes = drained_ns(supplies, before)
    all_of_them = times(supplies, before + 1)
    assert goes == (all_of_them[before] if len(all_of_them) > before else None)


@given(st.integers(30_000, 150_000), st.integers(0, 5 * MINUTE))
def test_a_rate_that_was_cut_rises_as_the_allowance_raises_it(hurt: int, from_ns: int) -> None:
    pace = Allowance(
        level=hurt // 2,
        hurt=hurt,
        careful_ns=90 * MINUTE,
        memory_ns=90 * MINUTE,
        raised_ns=from_ns,
    )
    found = list(rising(pace, 1, from_ns, MINUTE))
    assert found[0].first_ns == from_ns
    assert found[-1].most == 1 << 62
    # One good answer after each grant, as it really comes.
    now, level, sent, end = from_ns, pace, 0, from_ns + 60 * MINUTE
    while now < end:
        sent, now = sent + 1, now + DAY_NS // level.level
        level = allowance.raised(level, now, MINUTE)
    goes = drained_ns(found, sent)
    assert goes is not None
    assert abs(goes - end) <= (end - from_ns) // 20


def test_a_rise_ends_at_what_the_operator_allows() -> None:
    pace = Allowance(level=4_320, hurt=8_640, careful_ns=0, memory_ns=0, raised_ns=0)
    found = list(rising(pace, 15 * S, 0, MINUTE))
    assert found[-1].interval_ns == 15 * S
    assert all(a.interval_ns >= b.interval_ns for a, b in itertools.pairwise(found))


@given(st.integers(1, 60), st.integers(0, 1000))
def test_a_destination_that_nobody_knows_is_taken_to_grow(start: int, good: int) -> None:
    whole = Limit(
        connections=10,
        messages_per_connection=100,
        start_rate=Rate(start, MINUTE),
        rate=Rate(6_000, MINUTE),
    )
    found = list(growing(whole, good, MINUTE // 6_000, 0))
    now = 0
    for _ in range(200):
        rate = growth.rate(Rate(start, MINUTE), good)
        now, good = now + max(rate.period_ns // rate.count, MINUTE // 6_000), good + 1
    goes = drained_ns(found, 200)
    assert goes is not None
    # Within one doubling the picture has the rate of its beginning.
    assert now - 10 * S <= goes <= 1.6 * now + 10 * S


@given(st.integers(0, 300), st.integers(0, 23), st.integers(0, 900))
def test_the_days_of_a_warm_up_follow_each_other_as_they_are_judged(
    used: int, hour: int, before: int
) -> None:
    plan = Plan(Warmup("x", (300, 390, 510), hours=12))
    at, day = hour * 3_600 * S, 20_000
    state = WarmupState(day=day, last=day, used=used, sent=used, pace_ns=day * DAY_NS + at)
    now = day * DAY_NS + at
    supplies = list(budgeted(state, plan, S, now, SKEW))
    goes = drained_ns(supplies, before)
    assert goes is not None
    # What really comes of it, where everything is granted at its time and answered at once.
    for _ in range(before + 1):
        while not isinstance(token := warmup.token(state, plan, now, SKEW), Token):
            if token is None:
                break
            now = token.until_ns
            state, _ = warmup.passed(state, plan, now)
        now = token.t0_ns if token is not None else now + S
        if token is not None:
            state = warmup.spend(state, now)
            state = warmup.hear(state, DELIVERED)[0]
    assert abs(goes - now) <= 2 * MINUTE


def test_a_day_that_is_held_has_the_same_budget_again() -> None:
    plan = Plan(Warmup("x", (100, 200), hours=12))
    state = WarmupState(day=1, last=1, used=100, sent=100, spoiled=True)
    found = list(budgeted(state, plan, S, DAY_NS, SKEW))
    assert [each.most for each in found[:2]] == [100, 140]
    assert found[0].first_ns >= 2 * DAY_NS


@pytest.mark.parametrize("count", [0, 3])
def test_what_is_never_sent_has_no_time(count: int) -> None:
    assert drained_ns([Supply(0, S, count)], count) is None
    assert drained_ns([], 0) is None
