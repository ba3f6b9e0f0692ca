"""Claims of the meter: it tells the rate of the last seconds, and is not fooled by a single answer."""

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.meter import LONGEST_NS, Meter

S = 1_000_000_000
MINUTE = 60 * S
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


@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(3, 40)), min_size=1, max_size=40),
    st.integers(1, 60),
)
def test_what_was_counted_in_some_minutes_is_what_came_in_them(
    spans: list[tuple[int, int]], minutes: int
) -> None:
    """Bursts in spans of ten seconds, with pauses between: right to what came within two spans of the window's begin."""
    meter, now, came = Meter(), 10**18, list[int]()
    for pause, count in spans:
        now += pause * 10 * S
        for _ in range(count):
            meter.add(now)
            came.append(now)
        now += 10 * S
    told = meter.counted(now, minutes * MINUTE)
    begin = now - minutes * MINUTE
    surely = sum(at >= begin + 20 * S for at in came)
    perhaps = sum(at >= begin - 20 * S for at in came)
    if told is None:
        assert surely < 20
    else:
        assert surely - 1 <= told * minutes / (24 * 60) <= perhaps + 1


def test_few_answers_keep_no_spans_and_none_are_counted_beyond_the_longest_window() -> None:
    meter = Meter()
    for at in range(100):
        meter.add(10**18 + at * 30 * S)
    assert meter.spans is None
    for _ in range(50):
        meter.add(10**18 + 3000 * S)
    assert meter.counted(10**18 + 3010 * S, LONGEST_NS) == 50 * 24
    assert meter.counted(10**18 + 3010 * S + LONGEST_NS + MINUTE, LONGEST_NS) is None
