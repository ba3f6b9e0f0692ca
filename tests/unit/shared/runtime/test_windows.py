"""When a window is open, by the clock of a place, and how one is written."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.windows import ALWAYS, Standing, Window, window

_S = 1_000_000_000
_MIN = 60 * _S
_DAY = 86_400 * _S
BERLIN = "Europe/Berlin"


def ns(text: str, zone: str = "UTC") -> int:
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
    return (local - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1) * _S


def test_a_window_is_open_on_its_days_and_hours_by_the_clock_there() -> None:
    office = window({"days": "mon-fri", "hours": "9:00-17:30", "zone": BERLIN})
    friday = ns("2026-11-27 17:29", BERLIN)
    assert office.at(friday) == Standing(True, ns("2026-11-27 17:30", BERLIN))
    assert office.at(friday + 60 * _S) == Standing(False, ns("2026-11-30 09:00", BERLIN))


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_opens() -> None:
    night = window({"days": "fri", "hours": "22:00-06:00"})
    assert night.at(ns("2026-11-28 05:59")) == Standing(True, ns("2026-11-28 06:00"))
    assert night.at(ns("2026-11-27 05:59")) == Standing(False, ns("2026-11-27 22:00"))


def test_windows_that_touch_are_one() -> None:
    days = window({"days": "mon-tue"})
    assert days.at(ns("2026-11-30 12:00")) == Standing(True, ns("2026-12-02 00:00"))
    assert ALWAYS.at(ns("2026-11-30 12:00")).open


def test_a_window_follows_summer_time() -> None:
    """At 9 by the clock: at 8 UTC in winter, at 7 in summer."""
    morning = window({"hours": "09:00-10:00", "zone": BERLIN})
    assert morning.at(ns("2026-03-28 10:00")).until_ns == ns("2026-03-29 07:00")
    assert morning.at(ns("2026-10-24 10:00")).until_ns == ns("2026-10-25 08:00")


def test_hours_that_the_clock_skips_or_repeats_open_and_close_all_the_same() -> None:
    early = window({"hours": "02:15-02:45", "zone": BERLIN})
    skipped = early.at(ns("2026-03-28 12:00"))
    assert skipped == Standing(False, ns("2026-03-29 01:15"))
    assert early.at(skipped.until_ns) == Standing(True, ns("2026-03-29 01:45"))
    assert early.at(ns("2026-10-25 00:20")) == Standing(True, ns("2026-10-25 00:45"))
    assert not early.at(ns("2026-10-25 01:20")).open


@given(
    now=st.integers(ns("2024-01-01"), ns("2030-01-01"))
    | st.integers(ns("2024-01-01") // _MIN, ns("2030-01-01") // _MIN).map(_MIN.__mul__),
    days=st.lists(st.booleans(), min_size=7, max_size=7).filter(any),
    hours=st.tuples(st.integers(0, 1439), st.integers(1, 1440)),
    zone=st.sampled_from(
        ["UTC", BERLIN, "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]
    ),
)
def test_it_is_open_when_the_clock_says_so_and_its_answer_holds_until_it_says(
    now: int, days: list[bool], hours: tuple[int, int], zone: str
) -> None:
    there = ZoneInfo(zone)
    one = Window(tuple(days), *hours, there)
    standing = one.at(now)
    assert standing.until_ns > now
    at = [now, (now + standing.until_ns) // 2, standing.until_ns - 1]
    assert {one.at(each).open for each in at} == {standing.open}
    local = datetime.fromtimestamp(now // _S, there)
    if all(
        (local + timedelta(days=off)).utcoffset() == local.utcoffset() for off in (-2, -1, 1, 2)
    ):
        minute, day, until = local.hour * 60 + local.minute, local.weekday(), hours[1]
        if until > hours[0]:
            expected = days[day] and hours[0] <= minute < until
        else:
            yesterday = days[(day - 1) % 7] and minute < until
            expected = yesterday or (days[day] and minute >= hours[0])
        assert standing.open == expected
        if standing.until_ns - now < 7 * _DAY:
            assert one.at(standing.until_ns).open != standing.open


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("sometimes", 'expected "always" or'),
        ({"day": "mon"}, 'expected "always" or'),
        ({"days": "mo-fr"}, "days: expected such as"),
        ({"hours": "9-17"}, "hours: expected such as"),
        ({"hours": "09:00-24:30"}, "hours: expected such as"),
        ({"zone": "Berlin"}, "zone: expected such as"),
        ({"zone": "../etc"}, "zone: expected such as"),
    ],
)
def test_what_is_written_wrong_is_told(written: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        window(written)


def test_days_are_written_as_names_and_ranges() -> None:
    assert window({"days": "fri-mon, wed"}).days == (True, False, True, False, True, True, True)
    assert window("always") == ALWAYS
