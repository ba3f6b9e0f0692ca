"""Of grants that are settled nothing is held, although their attempts could have taken twenty minutes."""

from tests.unit.services.scheduler.policy.test_ledger import S, World


def test_settled_grants_leave_no_deadlines_behind() -> None:
    world = World()
    opens = world.ledger._opens
    for at in range(3_000):
        world.deliver(f"d{at}")
        (granted,) = world.turn().granted
        world.started(granted.grant)
        world.answer(granted.grant, "delivered")
    world.turn()
    assert len(opens) == 0
    assert len(opens._deadlines) < 1_100


def test_what_is_open_is_still_judged_after_a_sweep() -> None:
    world = World()
    for at in range(40):
        world.deliver(f"d{at}")
    assert world.turn().granted
    opens = world.ledger._opens
    before = len(opens)
    opens._sweep()
    assert len(opens) == before
    world.turn(70)
    world.ledger.on_log_time(world.now + 70 * S)
    world.ledger.judge()
    assert len(opens) == 0
