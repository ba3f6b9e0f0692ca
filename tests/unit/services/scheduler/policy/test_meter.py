"""Claims of the meter: it tells the rate of the last seconds, and is not fooled by a single answer."""

from services.scheduler.policy.meter import Meter

S = 1_000_000_000
DAY = 86_400


def test_a_steady_rate_is_told_to_a_tenth() -> None:
    for per_second in (1, 7, 100):
        meter, now = Meter(), 10**18
        for at in range(37 * per_second):
            now = 10**18 + at * S // per_second
            meter.add(now)
        told = meter.per_day(now)
        assert 0.9 * per_second * DAY <= told <= 1.1 * per_second * DAY


def test_a_few_answers_at_once_are_spread_over_ten_seconds() -> None:
    meter = Meter()
    for _ in range(5):
        meter.add(10**18)
    assert meter.answers(10**18) == 5
    assert meter.per_day(10**18) == 5 * DAY // 10


def test_what_was_long_ago_counts_no_more() -> None:
    meter = Meter()
    for _ in range(500):
        meter.add(10**18)
    assert meter.answers(10**18 + 15 * S) == 500
    assert meter.answers(10**18 + 30 * S) == 0
    assert meter.per_day(10**18 + 30 * S) == 0


def test_reset_begins_anew() -> None:
    meter = Meter()
    meter.add(10**18)
    meter.reset(10**18 + S)
    assert meter.answers(10**18 + S) == 0
