"""Claims of what the collector of cycles is kept from: no stall for what lives, and nothing that stays for ever."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from services.scheduler import collecting


class Knot:
    """Something that knows itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leave the process as it was: the rest of the tests runs in it."""
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


def test_what_was_settled_is_not_looked_at_again() -> None:
    names = [str(at) for at in range(10)]
    collecting.settle()
    assert not any(each is names for each in gc.get_objects())


def test_what_was_settled_and_then_dropped_is_freed() -> None:
    knot = Knot()
    known = weakref.ref(knot)
    collecting.settle()
    del knot
    gc.collect()
    assert known() is not None
    collecting.drop()
    assert known() is None


def test_what_lives_through_a_drop_is_settled_again() -> None:
    names = [str(at) for at in range(10)]
    collecting.settle()
    collecting.drop()
    assert not any(each is names for each in gc.get_objects())


def test_circles_are_still_found_that_were_made_since() -> None:
    collecting.begin()
    collecting.settle()
    known = weakref.ref(Knot())
    gc.collect()
    assert known() is None


def test_a_round_is_not_cut_by_a_look() -> None:
    collecting.begin()
    young, *_ = gc.get_threshold()
    assert young > 10_000
