"""Claims of the allowance: cut at once, raised step by step, careful where it hurt."""

import itertools

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy import allowance
from shared.records.backoff import Allowance

MINUTE = 60_000_000_000
HOUR = 60 * MINUTE
Levels = st.integers(1, 10**9)


def cut(was: Allowance | None, hurt: int, now: int = 0, floor: int = 1) -> Allowance:
    return allowance.cut(was, hurt, floor, now, share=0.5, memory_ns=HOUR, memory_max_ns=24 * HOUR)


def climb(was: Allowance, now: int, steps: int) -> list[Allowance]:
    """Take a good answer each minute."""
    found = []
    for _ in range(steps):
        now += MINUTE
        was = allowance.raised(was, now, MINUTE)
        found.append(was)
    return found


@given(Levels, Levels, st.integers(1, 10**6))
def test_a_cut_never_gives_more_than_what_hurt_and_never_less_than_the_floor(
    hurt: int, floor: int, now: int
) -> None:
    level = cut(None, hurt, now, floor).level
    assert 1 <= level <= hurt
    assert level >= min(hurt, floor)


@given(Levels, st.integers(1, 30), Levels)
def test_cut_after_cut_never_rises(hurt: int, times: int, floor: int) -> None:
    was = cut(None, hurt, floor=floor)
    for at in range(times):
        after = allowance.cut_again(was, floor, at, share=0.5)
        assert after.level <= was.level
        assert after.hurt == was.hurt
        assert after.careful_ns >= was.careful_ns
        was = after


@given(Levels)
def test_what_hurt_is_not_reached_while_it_is_remembered(hurt: int) -> None:
    was = cut(None, hurt)
    for each in climb(was, 0, 59):
        assert each.level < max(hurt, 2)
    assert each.level == max(was.level, hurt * 9 // 10)


@given(Levels, st.integers(10, 10**9))
def test_after_the_memory_it_rises_slowly_past_what_hurt_and_reaches_any_limit(
    hurt: int, limit: int
) -> None:
    path = [each.level for each in climb(cut(None, hurt), 0, 24 * 60)]
    assert path == sorted(path)
    near = [level for level in path if hurt * 9 // 10 <= level < hurt * 15 // 10]
    steps = [after - before for before, after in itertools.pairwise(near)]
    assert all(step <= max(1, hurt // 100) for step in steps)
    # A day of good answers is enough for eight times of what hurt: by then nothing is remembered anyhow.
    assert hurt < 100 or path[-1] >= 8 * hurt


@given(Levels, st.integers(1, 999), st.integers(1, 999))
def test_joined_it_stops_at_the_lower_plateau(hurt: int, one: int, other: int) -> None:
    joined = allowance.stricter(
        msgspec.structs.replace(cut(None, hurt), plateau=one),
        msgspec.structs.replace(cut(None, hurt), plateau=other),
    )
    assert joined is not None
    assert joined.plateau == min(one, other)


def test_a_step_comes_at_most_once_in_its_time_however_many_answers() -> None:
    was = cut(None, 1000)
    assert allowance.raised(was, MINUTE - 1, MINUTE) is was
    once = allowance.raised(was, MINUTE, MINUTE)
    assert once.level == was.level + 50
    assert allowance.raised(once, MINUTE + 1, MINUTE) is once


def test_the_memory_doubles_with_each_cut_up_to_a_day() -> None:
    was, lengths = None, []
    for at in range(7):
        was = cut(was, 1000, at * 48 * HOUR)
        lengths.append((was.careful_ns - at * 48 * HOUR) // HOUR)
    assert lengths == [1, 2, 4, 8, 16, 24, 24]


def test_connections_come_back_one_by_one() -> None:
    was = cut(None, 10)
    assert [each.level for each in climb(was, 0, 6)] == [6, 7, 8, 9, 9, 9]
    assert [each.level for each in climb(cut(None, 1), 0, 3)] == [1, 1, 1]


@given(Levels, Levels, st.integers(0, 10**6), st.integers(0, 10**6))
def test_joined_it_is_as_careful_as_the_more_careful(one: int, two: int, a: int, b: int) -> None:
    left, right = cut(None, one, a), cut(cut(None, two), two, b)
    joined = allowance.stricter(left, right)
    assert joined == allowance.stricter(right, left)
    assert joined is not None
    assert joined.level == min(left.level, right.level)
    assert joined.careful_ns == max(left.careful_ns, right.careful_ns)
    assert allowance.stricter(left, None) == left
