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


def test_a_few_answers_at_once_are_spread_over_ten_seconds_and_say_little() -> None:
    meter = Meter()
    for _ in range(5):
        meter.add(10**18)
    assert meter.per_day(10**18) == 5 * DAY // 10
    assert meter.measured(10**18) is None


def test_what_was_sure_is_known_for_ten_minutes() -> None:
    meter = Meter()
    for _ in range(500):
        meter.add(10**18)
    assert meter.measured(10**18) == 50 * DAY
    assert meter.measured(10**18 + 30 * S) == 50 * DAY
    assert meter.per_day(10**18 + 30 * S) == 0
    assert meter.measured(10**18 + 700 * S) is None


def test_reset_begins_anew() -> None:
    meter = Meter()
    for at in range(100):
        meter.add(10**18 + at * S)
    meter.reset(10**18 + 100 * S)
    assert meter.measured(10**18 + 100 * S) is None
    assert meter.per_day(10**18 + 100 * S) == 0
