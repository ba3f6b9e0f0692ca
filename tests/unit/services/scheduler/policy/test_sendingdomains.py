"""Claims of the suspension of a sending domain: it alone waits, for nothing, and is probed before it goes on."""

import random

import pytest

from services.scheduler.policy.sendingdomains import SendingDomains
from shared.records.backoff import Suspension
from shared.records.grant import Grant
from shared.records.lanemap import propose
from shared.records.outcome import Reply, Result
from shared.records.state import DomainState
from shared.runtime.settings import Backoff
from tests.unit.services.scheduler.policy.test_ledger import START, S, World, make_settings

MINUTE = 60 * S
HOUR = 60 * MINUTE


def answer(world: World, grant: Grant, result: Result, category: str = "auth") -> None:
    reply = Reply(code=550, enhanced="5.7.26", stage="dot")
    if result == "delivered":
        world.answer(grant, result, reply=reply)
    else:
        world.answer(grant, result, category, "domain", reply=reply)


def send(world: World, name: str, domain: str = "acme.example", **more: object) -> None:
    world.deliver(name, header_domain=domain, from_=f"b@{domain}", **more)


def unauthenticated(result: Result = "bounced", times: int = 3) -> World:
    """Let so many messages of one domain be answered so, one after the other."""
    world = World()
    for at in range(times):
        send(world, f"bad{at}")
        world.turn(3)
        answer(world, world.only(), result)
    world.turn()
    return world


def reasons(world: World) -> dict[str, str]:
    return {entry.id: reason for entry, reason in world.ledger.reasons()}


@pytest.mark.parametrize("result", ["bounced", "deferred"])
def test_a_domain_waits_and_no_other_does(result: Result) -> None:
    world = unauthenticated(result)
    for at in range(10):
        send(world, f"own{at}")
        send(world, f"other{at}", "other.example")
        send(world, f"elsewhere{at}", provider=None, site="mx.small.example")
    for _ in range(3):
        world.turn(240)
    others = {f"{name}{at}" for name in ("other", "elsewhere") for at in range(10)}
    assert {grant.id for grant in world.grants} == others
    waiting = {id_: why for id_, why in reasons(world).items() if id_.startswith("own")}
    assert waiting == {f"own{at}": "suspended" for at in range(10)}
    states = [entry for entry in world.ledger.entries.values() if entry.id.startswith("own")]
    assert {(entry.n, entry.steps) for entry in states} == {(0, 0)}


def test_two_replies_or_one_after_a_good_one_suspend_nothing() -> None:
    world = unauthenticated(times=2)
    send(world, "good")
    world.turn()
    answer(world, world.only(), "delivered")
    send(world, "bad again")
    world.turn()
    answer(world, world.only(), "bounced")
    send(world, "next")
    world.turn()
    assert world.only().id == "next"


def test_operators_hear_of_it_with_what_to_do() -> None:
    world = unauthenticated()
    (said,) = [event for event in world.events if event.type == "suspended"]
    assert (said.domain, said.tenant, said.provider, said.source) == (
        "acme.example",
        "acme",
        "big",
        "",
    )
    assert "DKIM" in said.fix
    assert said.until is not None
    assert said.final is False


def test_probes_go_one_by_one_over_restarts_and_then_the_rest_is_spread() -> None:
    world = unauthenticated()
    for at in range(100):
        send(world, f"own{at}")
    world.turn()
    for _ in range(3):
        world.restart()
        world.turn(17 * 60)
        probe = world.only()
        world.turn(1)
        assert not world.grants, "the next waits for the answer"
        answer(world, probe, "delivered")
        world.turn()
        if not world.grants:
            continue
        # The answer opens it at once.
        answer(world, world.grants.pop(), "delivered")
        world.grants.clear()
    world.turn()
    assert [event.type for event in world.events].count("resumed") == 1
    for _ in range(20):
        world.turn(10)
    assert len({grant.t0_ns for grant in world.grants}) > 1
    assert len(world.ledger.entries) <= 100


def test_a_probe_that_fails_doubles_the_suspension() -> None:
    world = unauthenticated()
    for at in range(5):
        send(world, f"own{at}")
    world.turn(17 * 60)
    answer(world, world.only(), "bounced")
    world.turn(29 * 60)
    assert not world.grants
    world.turn(5 * 60)
    world.turn(1)
    assert world.only().id.startswith("own")
    untils = [event.until for event in world.events if event.type == "suspended"]
    assert len(set(untils)) == 2


def test_what_was_under_way_says_nothing_new() -> None:
    world = World()
    for at in range(10):
        send(world, f"own{at}")
    world.turn()
    for grant in world.grants:
        answer(world, grant, "deferred")
    world.turn()
    assert [event.type for event in world.events].count("suspended") == 1
    (state,) = world.ledger._pairs.domains.all()
    assert state.suspension is not None
    assert state.suspension.length_ns == 15 * MINUTE


def test_each_lane_of_a_destination_takes_what_is_known_of_domains_there() -> None:
    lane_map = propose(1, 2, make_settings().providers, [], pools={"main": {0: 1, 1: 1}})
    domains = SendingDomains(Backoff(), random.Random(1), 2 * S)
    known = DomainState(key="big", domain="acme.example", tenant="acme", hits=2)
    domains.restore(known)
    lanes = [lane_map.lane_of("big", group) for group in (0, 1)]
    assert len(set(lanes)) == 2
    for lane in lanes:
        assert domains.of_lane(lane, lane_map) == (known,)
    assert domains.of_lane(lane_map.lane_of("site:0"), lane_map) == ()


def test_a_hand_over_keeps_the_later_end() -> None:
    def known(until: int, left: int) -> DomainState:
        suspension = Suspension(until_ns=until, length_ns=HOUR, left=left)
        return DomainState(key="big", domain="acme.example", tenant="acme", suspension=suspension)

    for records in (
        [known(START, 3), known(START + HOUR, 1)],
        [known(START + HOUR, 1), known(START, 3)],
    ):
        domains = SendingDomains(Backoff(), random.Random(1), 2 * S)
        for record in records:
            domains.merge([record])
        assert domains.suspended(START) == [("big", "acme.example", START + HOUR)]
        (state,) = domains.take().values()
        assert state is not None
        assert state.suspension is not None
        assert state.suspension.left == 3
