"""When a submission may be sent, and until when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.lifetime import Lifetime, lifetime, read_time
from services.ingest.problem import Problem
from shared.records.times import rfc3339

S = 1_000_000_000
H = 3600 * S
D = 24 * H
NOW = 1_795_532_400 * S


def life(not_before: str | None = None, expires: str | None = None) -> Lifetime | Problem:
    return lifetime(not_before, expires, came_ns=NOW, default_ns=72 * H, max_lifetime_ns=7 * D)


def at(offset_ns: int) -> str:
    return rfc3339(NOW + offset_ns)


def test_without_words_it_lives_from_when_it_came_for_as_long_as_its_class_says() -> None:
    assert life() == Lifetime(NOW, NOW + 72 * H)


def test_not_before_moves_both_ends() -> None:
    assert life(at(24 * H)) == Lifetime(NOW + 24 * H, NOW + 96 * H)


def test_not_before_in_the_past_is_when_it_came() -> None:
    assert life(at(-3 * D)) == Lifetime(NOW, NOW + 72 * H)


def test_the_default_ends_with_the_longest_lifetime() -> None:
    assert life(at(6 * D)) == Lifetime(NOW + 6 * D, NOW + 7 * D)


def test_a_duration_counts_from_not_before() -> None:
    assert life(at(H), "6h") == Lifetime(NOW + H, NOW + 7 * H)
    assert life(None, "90s") == Lifetime(NOW, NOW + 90 * S)


def test_a_time_is_a_time() -> None:
    assert life(None, at(2 * H)) == Lifetime(NOW, NOW + 2 * H)


@pytest.mark.parametrize(
    ("not_before", "expires", "field"),
    [
        (at(7 * D), None, "not_before"),
        (at(400 * D), None, "not_before"),
        ("tomorrow", None, "not_before"),
        ("2026-11-24", None, "not_before"),
        ("2026-11-24T15:00:00", None, "not_before"),
        ("2026-13-24T15:00:00Z", None, "not_before"),
        ("20261124T150000Z", None, "not_before"),
        ("", None, "not_before"),
        (None, at(0), "expires"),
        (None, at(-H), "expires"),
        (at(2 * H), at(H), "expires"),
        (None, at(7 * D + S), "expires"),
        (None, at(5 * D + S), "expires"),
        (None, "121h", "expires"),
        (at(3 * D), "5d", "expires"),
        (None, "soon", "expires"),
        (None, "0s", "expires"),
        (None, "-1h", "expires"),
        (None, "1h\n", "expires"),
    ],
)
def test_what_is_refused_names_its_field(
    not_before: str | None, expires: str | None, field: str
) -> None:
    problem = life(not_before, expires)
    assert isinstance(problem, Problem), problem
    assert problem.field == field


def test_five_days_and_the_longest_lifetime_are_allowed() -> None:
    assert life(None, "5d") == Lifetime(NOW, NOW + 5 * D)
    assert life(at(2 * D), at(7 * D)) == Lifetime(NOW + 2 * D, NOW + 7 * D)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-24T15:00:00Z",
        "2026-11-24t15:00:00z",
        "2026-11-24 15:00:00Z",
        "2026-11-24T16:00:00+01:00",
        "2026-11-24T07:30:00-07:30",
        "2026-11-24T15:00:00.000000000Z",
    ],
)
def test_rfc_3339_is_read(text: str) -> None:
    assert read_time(text) == NOW


@given(st.integers(0, 4_000_000_000_000))
def test_what_we_write_we_read(ms: int) -> None:
    assert read_time(rfc3339(ms * 1_000_000)) == ms * 1_000_000


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_words_give_a_lifetime_within_the_bounds_or_a_problem(one: str, other: str) -> None:
    found = life(one, other)
    if isinstance(found, Lifetime):
        assert NOW <= found.not_before_ns < found.expires_ns <= NOW + 7 * D
