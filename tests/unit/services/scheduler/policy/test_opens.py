"""Of grants that are settled nothing is held, although their attempts could have taken twenty minutes."""

from shared.records.control import Left, Released, Unanswered
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


def started(world: World, id_: str) -> int:
    """Start the attempt of one delivery, and give its slot."""
    world.deliver(id_)
    (granted,) = world.turn().granted
    world.started(granted.grant)
    return granted.grant.slot


def left(world: World, slot: int, *ids: str) -> None:
    epoch = world.epochs[slot]
    attempts = tuple(Unanswered(id=id_, n=1, key="big", site="mx") for id_ in ids)
    world.control(Left(slot=slot, epoch=epoch, process="p", attempts=attempts))


def test_an_attempt_whose_last_reply_somebody_waits_for_is_not_unknown_because_its_slot_has_another_owner() -> (
    None
):
    world = World()
    slot = started(world, "waits")
    left(world, slot, "waits")
    old = world.epochs[slot]
    world.control(Released(slot=slot, epoch=old, process="p"))
    world.claim(slot)
    heap = world.ledger._opens._deadlines
    for _ in range(200):
        world.turn(5)
    assert not [said for said in world.events if said.type != "accepted"]
    assert len(world.ledger._opens) == 1
    assert len(heap) < 5
    # The outcome comes from whoever waited, in the epoch of its grant.
    (grant,) = world.grants
    assert grant.epoch == old
    world.answer(grant, "delivered")
    world.turn()
    assert [said.type for said in world.events if said.final] == ["delivered"]


def test_what_is_left_no_more_and_has_no_outcome_is_unknown_when_that_was_read() -> None:
    world = World()
    slot = started(world, "lost")
    left(world, slot, "lost")
    old = world.epochs[slot]
    world.claim(slot)
    world.turn(60)
    assert len(world.ledger._opens) == 1
    world.now += S
    world.control(Left(slot=slot, epoch=old, process="p"))
    world.turn(1)
    assert len(world.ledger._opens) == 1
    world.turn(2)
    assert [said.type for said in world.events if said.type != "accepted"] == ["unknown"]


def test_nobody_is_waited_for_longer_than_an_attempt_may_take() -> None:
    world = World()
    slot = started(world, "forgotten")
    left(world, slot, "forgotten")
    world.claim(slot)
    world.turn(world.config.timing.attempt_max_ns // S - 5)
    assert len(world.ledger._opens) == 1
    world.turn(10)
    assert [said.type for said in world.events if said.type != "accepted"] == ["unknown"]
