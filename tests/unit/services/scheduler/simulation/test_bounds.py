from array import array

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.simulation.bounds import Tap, best, drain
from services.scheduler.simulation.measures import Flow, jain

S = 1_000_000_000


@given(st.lists(st.integers(0, 100 * S), min_size=1, max_size=80), st.integers(1, 4))
def test_the_best_keeps_what_binds_it_and_wastes_nothing(arrivals: list[int], count: int) -> None:
    arrivals.sort()
    done = best(array("q", arrivals), Tap(S, ((count, 10 * S),)), 0)
    for number, at in enumerate(done):
        binds = [arrivals[number]]
        if number:
            binds.append(done[number - 1] + S)
        if number >= count:
            binds.append(done[number - count] + 10 * S)
        assert at == max(binds)


def test_a_drain_is_measured_from_its_first_arrival() -> None:
    arrivals = array("q", [0, *[1000 * S] * 200])
    settled = array("q", [0, *(1000 * S + number * 2 * S for number in range(200))])
    found = drain(Flow(arrivals, settled), Tap(S, ()), 0)
    assert found is not None
    assert found.messages == 200
    assert found.ratio is not None
    assert abs(found.ratio - 2) < 0.02


def test_what_has_not_gone_has_no_ratio() -> None:
    found = drain(Flow(array("q", [0] * 200), array("q", [S])), Tap(S, ()), 0)
    assert found is not None
    assert found.ratio is None


def test_where_nothing_had_to_wait_there_is_no_drain() -> None:
    arrivals = array("q", [number * 2 * S for number in range(100)])
    assert drain(Flow(arrivals, arrivals), Tap(S, ()), 0) is None


def test_jain_is_one_for_equals_and_a_part_for_one_of_many() -> None:
    assert jain([5, 5, 5, 5]) == 1
    assert jain([20, 0, 0, 0]) == 0.25
