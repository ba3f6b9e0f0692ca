"""How a site's connections grow and shrink."""

from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.slowstart import SlowStart


def test_a_new_site_begins_with_two_and_gets_one_more_for_each_message() -> None:
    site = SlowStart()
    assert site.allowed == 2
    for expected in (3, 4, 5, 5):
        site.good(most=5)
        assert site.allowed == expected


def test_a_failure_halves_what_was_allowed() -> None:
    site = SlowStart()
    for _ in range(18):
        site.good(most=20)
    for expected in (10, 5, 2, 1, 1):
        site.bad()
        assert site.allowed == expected


@given(st.lists(st.booleans()), st.integers(1, 50))
def test_it_is_never_none_and_never_more_than_the_limit_by_growing(
    answers: list[bool], most: int
) -> None:
    site = SlowStart()
    for good in answers:
        before = site.allowed
        site.good(most) if good else site.bad()
        assert 1 <= site.allowed <= max(before, most)
