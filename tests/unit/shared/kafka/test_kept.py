"""What is kept of a log stays within its bytes, and what was used last stays longest."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from shared.kafka.kept import Kept

KEYS = st.integers(0, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.binary(max_size=40)),
        st.tuples(st.just("get"), KEYS, st.none()),
        st.tuples(st.just("drop"), KEYS, st.none()),
    )
)


def newest(values: Iterable[tuple[int, bytes]], most: int) -> dict[int, bytes]:
    """Take values, the newest first, while they fit; the newest in any case."""
    found: dict[int, bytes] = {}
    for key, value in values:
        if found and sum(map(len, found.values())) + len(value) > most:
            break
        found[key] = value
    return found


@given(STEPS, st.integers(0, 100))
def test_it_holds_what_was_used_last_as_far_as_that_fits(
    steps: list[tuple[str, int, bytes | None]], most: int
) -> None:
    kept: Kept[int] = Kept(most)
    used: dict[int, bytes] = {}  # The one used last is the last.
    for what, key, value in steps:
        if value is not None:
            kept.put(key, value)
            used.pop(key, None)
            used[key] = value
            used = dict(reversed(newest(reversed(used.items()), most).items()))
        elif what == "get":
            assert kept.get(key) == used.get(key)
            if key in used:
                used[key] = used.pop(key)
        else:
            kept.drop(key)
            used.pop(key, None)
        assert {each for each in range(6) if each in kept} == used.keys()
        assert kept.size == sum(map(len, used.values()))
