"""The lowest offset that is needed is exact, and those that left are not held by the one straggler that stays."""

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.offsets import Offsets


@given(st.lists(st.tuples(st.integers(0, 5_000), st.booleans()), max_size=200))
def test_the_lowest_is_that_of_a_set(steps: list[tuple[int, bool]]) -> None:
    needed: dict[int, str] = {}
    offsets = Offsets(lambda ids: [id_ for id_ in ids if id_ in needed.values()])
    for offset, comes in steps:
        if comes and offset not in needed:
            needed[offset] = f"d{offset}"
            offsets.add(offset, f"d{offset}")
        elif not comes and needed:
            gone = min(needed, key=lambda each: abs(each - offset))
            del needed[gone]
            offsets.leave(gone)
        assert offsets.oldest() == min(needed, default=None)
    found = [id_ for ids in offsets.ids() for id_ in ids]
    assert set(found) >= set(needed.values())


def test_a_straggler_holds_its_own_id_and_few_others() -> None:
    there = {str(at) for at in range(1_000)}
    offsets = Offsets(lambda ids: [id_ for id_ in ids if id_ in there])
    for at in range(1_000):
        offsets.add(at, str(at))
    for at in range(1, 1_000):
        there.discard(str(at))
        offsets.leave(at)
    (ids,) = offsets.ids()
    assert "0" in ids
    assert len(ids) < 100
    assert offsets.oldest() == 0
    offsets.leave(0)
    assert offsets.oldest() is None
    assert list(offsets.ids()) == []
