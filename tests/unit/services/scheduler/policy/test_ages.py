"""How many, and how old the oldest, as if all were looked at."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.ages import _BITS, Ages

some = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 1 << 40)), max_size=30)


@given(some, st.data())
def test_what_is_counted_is_what_looking_at_each_would_find(
    added: list[tuple[str, int]], data: st.DataObject
) -> None:
    ages, left = Ages[str](), list(added)
    for kind, at in added:
        ages.add(kind, at)
    for _ in range(data.draw(st.integers(0, len(added)))):
        ages.remove(*left.pop(data.draw(st.integers(0, len(left) - 1))))
    found = {kind: (count, oldest) for kind, count, oldest in ages}
    assert {kind: count for kind, (count, _) in found.items()} == Counter(kind for kind, _ in left)
    for kind, (_, oldest) in found.items():
        assert 0 <= min(at for each, at in left if each == kind) - oldest < 1 << _BITS
