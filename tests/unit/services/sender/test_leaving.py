"""A peer keeps a slot from its next owner for a bounded time, and nothing that may have been taken is cut off lightly."""

from hypothesis import given
from hypothesis import strategies as st

from services.sender.leaving import PATIENCE_NS, Cut, Leaving

S = 1_000_000_000
GRACE_NS = 660 * S
MOMENTS = st.lists(st.integers(0, 2_000 * S), min_size=1, max_size=20).map(sorted)


@given(MOMENTS)
def test_an_owner_that_stays_cuts_nothing_off(moments: list[int]) -> None:
    leaving = Leaving()
    for now in moments:
        assert leaving.cut(now, GRACE_NS, releasing=False, for_good=False) is Cut.NOTHING


@given(MOMENTS, st.integers(0, 1_000 * S))
def test_a_slot_that_only_moves_never_cuts_off_what_may_have_been_taken(
    moments: list[int], grace_ns: int
) -> None:
    leaving = Leaving()
    for now in moments:
        cut = leaving.cut(now, grace_ns, releasing=True, for_good=False)
        late = now - moments[0] >= PATIENCE_NS
        assert cut is (Cut.BEFORE_DOT if late else Cut.NOTHING)


@given(MOMENTS, st.integers(0, 1_000 * S))
def test_one_that_is_left_for_good_is_free_when_the_grace_time_is_over_and_not_before(
    moments: list[int], grace_ns: int
) -> None:
    leaving = Leaving()
    for now in moments:
        cut = leaving.cut(now, grace_ns, releasing=True, for_good=True)
        assert (cut is Cut.ALL) == (now - moments[0] >= grace_ns)


def test_the_grace_time_begins_when_it_is_for_good() -> None:
    leaving = Leaving()
    assert leaving.cut(0, GRACE_NS, releasing=True, for_good=False) is Cut.NOTHING
    late = 2 * GRACE_NS
    assert leaving.cut(late, GRACE_NS, releasing=True, for_good=True) is Cut.BEFORE_DOT
    assert leaving.cut(late + GRACE_NS - 1, GRACE_NS, releasing=True, for_good=True) is not Cut.ALL
    assert leaving.cut(late + GRACE_NS, GRACE_NS, releasing=True, for_good=True) is Cut.ALL


def test_one_that_was_kept_after_all_begins_anew() -> None:
    leaving = Leaving()
    for now, releasing in ((0, True), (PATIENCE_NS - 1, True), (PATIENCE_NS, False)):
        assert leaving.cut(now, GRACE_NS, releasing=releasing, for_good=False) is Cut.NOTHING
    assert leaving.cut(PATIENCE_NS + 1, 0, releasing=True, for_good=False) is Cut.NOTHING
    assert (
        leaving.cut(2 * PATIENCE_NS + 1, GRACE_NS, releasing=True, for_good=False) is Cut.BEFORE_DOT
    )
