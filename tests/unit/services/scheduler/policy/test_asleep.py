"""What is not due for a while has no place in a queue, and is given one in time, whatever happens to it meanwhile."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.policy import asleep
from tests.unit.services.scheduler.policy.test_ledger import S, World


def test_what_is_due_in_an_hour_has_no_queue_until_a_minute_before() -> None:
    world = World()
    world.turn()
    for at in range(10):
        world.deliver(f"d{at}", not_before_ns=world.now + 3_600 * S)
    world.turn()
    queues = world.ledger._queues
    assert len(queues) == 0
    assert len(queues.asleep) == 10
    assert queues.waiting("big", "bulk", "acme") == 10
    assert {reason for _, reason in world.ledger.reasons()} == {"not_before"}
    assert world.ledger.next_ns() <= world.now + 3_540 * S
    world.turn(3_545)
    assert len(queues.asleep) == 0
    assert len(queues) == 1
    assert queues.waiting("big", "bulk", "acme") == 10
    assert world.grants == []
    world.turn(54)
    assert world.grants == []
    world.turn(1)
    assert len(world.grants) == 10


def test_of_a_million_that_wake_together_a_portion_is_looked_at() -> None:
    world = World()
    world.turn()
    many = 2 * asleep._PORTION + 1
    for at in range(many):
        world.deliver(f"d{at}", not_before_ns=world.now + 3_600 * S)
    world.deliver("first", not_before_ns=world.now + 3_600 * S, class_="transactional")
    queues = world.ledger._queues
    world.turn(3_590)
    assert not world.ledger.entries.sleeps("first")
    assert len(queues.asleep) >= many - asleep._PORTION
    rounds = 0
    while len(queues.asleep):
        assert world.ledger.next_ns() <= world.now
        world.turn()
        rounds += 1
    assert rounds <= 6
    assert queues.waiting("big", "bulk", "acme") == many


steps = st.lists(
    st.tuples(st.sampled_from(["deliver", "expire", "wait", "restart"]), st.integers(0, 600)),
    max_size=12,
)


@settings(max_examples=25)
@given(steps)
def test_whatever_sleeps_is_granted_when_it_is_due_and_once(taken: list[tuple[str, int]]) -> None:
    world = World()
    world.turn()
    due: dict[str, int] = {}
    granted: list[str] = []

    def turn(seconds: int) -> None:
        world.turn(seconds)
        for grant in world.grants:
            assert world.now <= grant.t0_ns
            assert grant.t0_ns >= due[grant.id]
            granted.append(grant.id)
            world.answer(grant, "delivered")
        world.grants.clear()
        # A restart would read the answers again.
        world.commit()

    for what, seconds in taken:
        if what == "deliver":
            id_ = f"d{len(due)}"
            due[id_] = world.now + seconds * S
            world.deliver(id_, not_before_ns=due[id_])
        elif what == "expire":
            world.deliver(
                f"x{world.offset}", not_before_ns=world.now + 900 * S, expires_ns=world.now + 1
            )
        elif what == "restart":
            turn(0)
            world.commit()
            world.restart()
        else:
            turn(seconds)
    for _ in range(63):
        turn(10)
    assert sorted(granted) == sorted(due)
