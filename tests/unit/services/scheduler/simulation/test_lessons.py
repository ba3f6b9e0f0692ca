"""Claims of the bound for one who must be warned: he pays for the first warning of each source, and for nothing else."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.simulation import answers, bounds, lessons
from services.scheduler.simulation.bounds import Tap
from services.scheduler.simulation.lessons import Source
from services.scheduler.simulation.models import Quota

S = 1_000_000_000
MINUTE = 60 * S


def quota(count: int, stop_ns: int = 0, floor: int = 1000) -> Quota:
    return Quota(count, MINUTE, answers.APPLE_VOLUME, stop_ns=stop_ns, floor_permille=floor)


@given(st.lists(st.integers(0, 400 * S), min_size=1, max_size=120), st.integers(1, 30))
def test_who_was_never_warned_is_bound_by_the_quota_alone(arrivals: list[int], count: int) -> None:
    arrivals.sort()
    source = Source(S, [(quota(count, 10 * MINUTE), 0)])
    found = lessons.best(array("q", arrivals), [source], [], 0)
    assert found == bounds.best(array("q", arrivals), Tap(S, ((count, MINUTE),)), 0)


def test_the_first_warning_costs_its_wait_and_no_more() -> None:
    arrivals = array("q", [0] * 30)
    source = Source(S, [(quota(10, 5 * MINUTE), 10 * S)])
    found = lessons.best(arrivals, [source], [], 0)
    assert found[9] == 9 * S
    assert [at // S for at in found[10:20]] == list(range(310, 320))
    assert found[20] == found[10] + MINUTE


def test_sources_are_warned_each_for_itself() -> None:
    stopped, free = Source(S, [(quota(10, 5 * MINUTE), 1)]), Source(S, [(quota(10), 0)])
    found = lessons.best(array("q", [0] * 20), [stopped, free], [], 0)
    # One goes from the one that is stopped a moment later; the rest waits for the other's window.
    assert sum(at < MINUTE for at in found) == 11
    assert found[-1] < 2 * MINUTE


def test_who_is_thought_less_of_has_less_and_gets_it_back_within_a_day() -> None:
    source = Source(1, [(quota(100, floor=250), 1)])
    found = lessons.best(array("q", [2] * 200), [source], [], 0)
    assert sum(at < MINUTE for at in found) == 75
    late = 24 * 60 * MINUTE
    source = Source(1, [(quota(100, floor=250), 1)])
    found = lessons.best(array("q", [late] * 200), [source], [], 0)
    assert sum(at < late + MINUTE for at in found) == 100


@given(st.lists(st.integers(0, 400 * S), min_size=1, max_size=80), st.integers(1, 10))
def test_what_all_sources_share_binds_them_together(arrivals: list[int], count: int) -> None:
    arrivals.sort()
    taps = [Source(S, []), Source(S, [])]
    found = lessons.best(array("q", arrivals), taps, [(count, MINUTE)], 0)
    assert list(found) == sorted(found)
    assert all(found[at] >= found[at - count] + MINUTE for at in range(count, len(found)))
