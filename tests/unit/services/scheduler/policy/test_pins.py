"""Mail that a host greylists comes back from the same address; yet it does not wait for ever for one that may not send."""

from collections.abc import Callable

import pytest

from tests.unit.services.scheduler.policy.test_ledger import S, World
from tests.unit.services.scheduler.policy.test_orders import order


def greylisted(world: World) -> int:
    """Let one delivery be greylisted; gives the slot that it must come back from."""
    world.deliver("d1", class_="transactional")
    world.turn()
    grant = world.only()
    world.answer(grant, "deferred", "greylist", "recipient")
    world.turn(1)
    entry = world.ledger.entries["d1"]
    assert entry.pinned == grant.slot
    return grant.slot


def away(world: World, slot: int) -> None:
    del world.epochs[slot]


def paused_by_order(world: World, slot: int) -> None:
    order(world, "pause", source=f"ip-{slot}", expires_ns=None)


def refused(world: World, slot: int) -> None:
    """Let the provider block the address: it is suspended for longer than anybody waits."""
    other = [f"o{at}" for at in range(4)]
    for id_ in other:
        world.deliver(id_)
    world.turn()
    for grant in world.grants:
        if grant.slot == slot:
            world.answer(grant, "deferred", "block", "pair")
        else:
            world.answer(grant, "delivered")
    assert {grant.slot for grant in world.grants} == {0, 1}
    world.grants.clear()


@pytest.mark.parametrize("happens", [away, paused_by_order, refused])
def test_another_source_tries_when_the_remembered_one_may_not_send(
    happens: Callable[[World, int], None],
) -> None:
    world = World()
    slot = greylisted(world)
    happens(world, slot)
    due = world.ledger.entries["d1"].due_ns
    while world.now < due + 280 * S:
        world.turn(20)
        assert [grant for grant in world.grants if grant.id == "d1"] == []
    told = world.ledger.explain(world.ledger.entries["d1"])
    assert told.bound.reason in {"no_source", "directive", "suspended"}
    for _ in range(4):
        world.turn(20)
    [grant] = [grant for grant in world.grants if grant.id == "d1"]
    assert grant.slot == 1 - slot
    assert grant.n == 2


def test_a_pair_that_cannot_be_reached_is_no_reason_to_wait_either() -> None:
    """Its pauses grow to half an hour, and each ends with one probe."""
    world = World()
    slot = greylisted(world)
    slots: list[int] = []
    while not slots or slots[-1] == slot:
        assert len(slots) < 6
        world.turn(20)
        for grant in world.grants:
            slots.append(grant.slot)
            world.answer(grant, "pair_failed" if grant.slot == slot else "delivered")
        world.grants.clear()
    world.turn()
    assert world.said().count("delivered") == 1


def test_a_pause_of_the_whole_provider_lets_nobody_forget_the_address() -> None:
    world = World()
    slot = greylisted(world)
    order(world, "pause", provider="big", expires_ns=world.now + 3600 * S)
    for _ in range(180):
        world.turn(20)
    assert world.ledger.entries["d1"].pinned == slot
    for _ in range(5):
        world.turn(20)
    assert world.grants[0].slot == slot


def test_a_source_that_is_only_busy_is_waited_for() -> None:
    world = World()
    slot = greylisted(world)
    for _ in range(40):
        world.turn(20)
    assert world.grants[0].slot == slot
