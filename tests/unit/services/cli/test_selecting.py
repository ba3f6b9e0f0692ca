from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.selecting import moment_ns
from shared.records.selector import Selector

NOW = 1_800_000_000_000_000_000
NAME = st.none() | st.sampled_from(["a", "b"])


def test_a_duration_counts_from_now() -> None:
    assert moment_ns("2h30m", NOW) == NOW + 9_000_000_000_000


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)),  # noqa: DTZ001 - the zone is added
    st.integers(-14 * 60, 14 * 60),
)
def test_a_moment_is_the_same_in_every_zone(naive: datetime, minutes: int) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    assert moment_ns(moment.isoformat(), NOW) == since // timedelta(microseconds=1) * 1000


@pytest.mark.parametrize("text", ["soon", "2027-01-31T12:00:00", "2027-13-01T00:00:00Z", ""])
def test_a_moment_without_its_zone_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        moment_ns(text, NOW)


@given(NAME, NAME, NAME, NAME, NAME, NAME)
def test_two_selectors_are_written_alike_only_if_they_name_the_same(
    tenant: str | None,
    class_: str | None,
    tag: str | None,
    tenant2: str | None,
    class2: str | None,
    tag2: str | None,
) -> None:
    one = Selector(tenant=tenant, class_=class_, tag=tag)
    other = Selector(tenant=tenant2, class_=class2, tag=tag2)
    assert (str(one) == str(other)) == (one == other)
    assert bool(one) == (one != Selector())


def test_an_age_counts_back_from_now() -> None:
    assert moment_ns("90m", NOW, ago=True) == NOW - 5_400_000_000_000
