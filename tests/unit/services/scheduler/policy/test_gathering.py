"""Outcomes are gathered for longer only while no connection that more mail waits for could run out of work."""

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.gathering import (
    CAREFUL_NS,
    FIRST_NS,
    MOST_NS,
    REST_NS,
    begin_ns,
    spare,
)
from shared.runtime.settings import LimitRow, Rate
from tests.unit.services.scheduler.policy.test_ledger import S, World, make_settings

counts = st.integers(0, 2_000)


@given(counts, st.integers(1, 200), counts)
def test_who_has_spares_keeps_every_connection_busy_while_as_many_settle_again(
    open_: int, connections: int, settled: int
) -> None:
    left = open_ - spare(open_, connections, settled) * settled
    assert left >= min(open_, connections)
    if spare(open_, connections, settled):
        assert left >= connections


@given(st.integers(0, 10 * S), st.integers(0, 10 * S))
def test_time_begins_a_round_when_it_is_due_or_after_a_rest_and_what_is_left_over_at_once(
    next_ns: int, round_ns: int
) -> None:
    begins = begin_ns(next_ns, round_ns)
    assert begins >= next_ns
    if next_ns <= round_ns:
        assert begins == next_ns
    else:
        assert begins <= next_ns + REST_NS
        assert begins >= round_ns + REST_NS


def world_of(waiting: int, **row: object) -> World:
    world = World(make_settings(big=LimitRow(**row)))  # type: ignore[arg-type]
    world.turn()
    for at in range(waiting):
        world.deliver(f"d{at}", provider="big", site="big", pool="one")
    return world


def settle(world: World, count: int) -> None:
    """Let so many of the grants be answered, and the next round fill the hands."""
    answered, world.grants[:] = world.grants[:count], world.grants[count:]
    for grant in answered:
        world.answer(grant, "delivered")
    world.turn(0.2)


def test_full_hands_let_outcomes_be_gathered_for_as_long_as_they_may() -> None:
    world = world_of(4_000, connections=20, rate=Rate(1_000, S))
    for _ in range(4):
        world.turn()
    assert len(world.grants) < len(world.ledger.entries)
    for _ in range(3):
        settle(world, 100)
    assert world.ledger.gather_ns() == MOST_NS


def test_a_connection_that_could_be_idle_is_given_the_next_soon_and_for_a_while() -> None:
    world = world_of(200, connections=20, rate=Rate(600, 60 * S))
    # Two seconds of its rate are as many as its connections.
    settle(world, 0)
    settle(world, 5)
    assert world.ledger.gather_ns() == FIRST_NS
    for _ in range(3):
        world.turn(1)
    assert world.ledger.gather_ns() == FIRST_NS
    # All are gone: nobody waits for an outcome any more.
    while world.grants:
        settle(world, 20)
        world.turn(2)
    world.turn(CAREFUL_NS / S)
    for _ in range(3):
        world.turn(1)
    assert world.ledger.gather_ns() == MOST_NS


def test_where_nothing_waits_for_credit_outcomes_are_gathered_for_long() -> None:
    world = world_of(10, connections=20)
    for _ in range(3):
        settle(world, 2)
    assert world.ledger.gather_ns() == MOST_NS
