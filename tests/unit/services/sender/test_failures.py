"""An address that failed is tried last, each time for longer, until it works or was left alone for long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sender.failures import Failures

S = 1_000_000_000
HOST = "192.0.2.1"


def lengths(failures: Failures, times: int, *, slow: bool) -> list[int]:
    """Fail as soon as it is tried again; gives for how many seconds it was tried last each time."""
    found, now = [], 0
    for _ in range(times):
        failures.note(HOST, now, slow=slow)
        until = next(at for at in range(now, now + 4000 * S, S) if not failures.failed(HOST, at))
        found.append((until - now) // S)
        now = until
    return found


@pytest.mark.parametrize(
    ("slow", "expected"),
    [(False, [60, 120, 240, 480, 960, 1800, 1800]), (True, [300, 600, 1200, 1800, 1800])],
)
def test_each_failure_counts_for_twice_as_long_up_to_half_an_hour(
    slow: bool, expected: list[int]
) -> None:
    assert lengths(Failures(), len(expected), slow=slow) == expected


def test_what_works_is_forgotten_and_begins_anew() -> None:
    failures = Failures()
    assert lengths(failures, 3, slow=True) == [300, 600, 1200]
    failures.forget(HOST)
    assert not failures.failed(HOST, 0)
    assert lengths(failures, 1, slow=False) == [60]


def test_failures_of_one_moment_count_once() -> None:
    failures = Failures()
    for at in range(20):
        failures.note(HOST, at * S, slow=False)
    assert failures.failed(HOST, 59 * S)
    assert not failures.failed(HOST, 60 * S)


def test_who_was_left_alone_for_long_begins_anew() -> None:
    failures = Failures()
    failures.note(HOST, 0, slow=True)
    late = 300 * S + 1800 * S
    failures.note(HOST, late, slow=False)
    assert failures.failed(HOST, late + 59 * S)
    assert not failures.failed(HOST, late + 60 * S)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 100), st.booleans()), max_size=50))
def test_nobody_is_tried_last_for_more_than_half_an_hour_after_its_last_failure(
    events: list[tuple[int, int, bool]],
) -> None:
    failures, now, last = Failures(), 0, dict[int, int]()
    for host, pause, slow in events:
        now += pause * S
        failures.note(str(host), now, slow=slow)
        last[host] = now
        assert failures.failed(str(host), now)
    for host, at in last.items():
        assert not failures.failed(str(host), at + 1800 * S)


def test_a_stranger_who_names_many_addresses_fills_no_memory() -> None:
    failures = Failures()
    for number in range(25_000):
        failures.note(str(number), 0, slow=False)
    assert len(failures) <= 10_000
