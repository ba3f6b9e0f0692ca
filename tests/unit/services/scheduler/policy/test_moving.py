"""Lanes change hands: nothing is lost on the way, and nobody grants for what it does not hold."""

from dataclasses import replace

from services.scheduler.policy import ledger
from services.scheduler.policy.decisions import Found
from shared.records.codec import encode
from shared.records.control import Claim, Directive, Heartbeat
from shared.records.delivery import DELIVERY, Handover
from shared.records.lanemap import moved
from shared.records.outcome import Handback, Outcome, Started
from shared.runtime import defaults
from shared.runtime.settings import LimitRow, Rate, UnknownPolicy
from tests.unit.services.scheduler.policy.partitions import (
    BACK,
    BIG,
    FIRST,
    START,
    TO_ONE,
    TO_TWO,
    S,
    World,
    make_settings,
)


def test_what_waits_moves_with_its_lane_and_is_granted_where_it_went() -> None:
    world = World()
    world.turn()
    world.publish(TO_ONE)
    world.deliver(0, "d1")
    world.turn(0)
    assert world.grants == []
    assert b"l/" + BIG.encode() in world.parts[0].state
    assert b"d/d1" not in world.parts[0].state
    world.turn(1)
    number, grant = world.granted()
    assert (number, grant.id, grant.n, grant.part) == (1, "d1", 1, 1)


def test_of_many_a_portion_is_looked_at_in_a_round_and_nothing_is_granted_meanwhile() -> None:
    world = World()
    many = 3 * ledger._SOUGHT
    for at in range(many):
        # Half of them sleep, and half wait for credit.
        world.deliver(0, f"d{at}", not_before_ns=(world.now + 1_000 * S) * (at % 2))
        world.deliver(0, f"s{at}", provider="small")
    world.turn(0)
    world.grants.clear()
    world.publish(TO_ONE)
    world.turn(0, most=0)
    moving = world.parts[0].ledger._moving
    assert 0 < len(moving.strays()) <= ledger._SOUGHT
    rounds = 1
    while world.parts[0].ledger._unsought:
        assert world.parts[0].ledger.next_ns() == world.parts[0].ledger.now_ns
        world.turn(0)
        rounds += 1
    assert rounds == 6
    while moving.strays():
        world.turn(0)
    assert {grant.limit_key for number, grant in world.grants if number == 0} <= {"small"}
    left = world.parts[0].ledger.entries
    assert {id_[0] for id_ in left if left[id_].open is None} == {"s"}
    world.turn(1, seconds=0)
    # What is out settles where it was granted, and follows then.
    out = sum(1 for id_, entry in left.items() if id_[0] == "d" and entry.open is not None)
    assert len(world.parts[1].ledger.entries) == many - out


def test_what_has_not_gone_yet_stays_where_its_lane_comes_back_to() -> None:
    world = World()
    for at in range(10):
        world.deliver(0, f"d{at}", not_before_ns=world.now + 1_000 * S)
    world.turn(0)
    world.publish(TO_ONE, 0)
    world.turn(0, most=0)
    assert len(world.parts[0].ledger._moving.strays()) == 10
    world.publish(BACK)
    world.turn()
    world.turn()
    assert world.parts[0].ledger._moving.strays() == []
    assert world.parts[0].log[20:] == []
    assert len(world.parts[0].ledger.entries) == 10
    assert world.parts[0].ledger.awaited() == []


def test_the_message_goes_with_its_delivery() -> None:
    world = World()
    world.publish(TO_ONE)
    world.deliver(0, "d1")
    world.turn(0)
    copy = next(value for value in world.parts[1].log if b'"delivery"' in value)
    assert copy.endswith(b"\nbody")


def test_nothing_is_granted_before_the_lane_is_handed_over() -> None:
    world = World()
    world.publish(TO_ONE, 1)
    world.deliver(1, "d1", map=2)
    world.turn(1)
    assert world.grants == []
    assert [reason for _, reason in world.parts[1].ledger.reasons()] == ["lane"]
    assert world.parts[1].ledger.awaited() == [BIG]
    world.publish(TO_ONE, 0)
    world.turn()
    world.turn(1)
    assert world.granted()[0] == 1
    assert world.parts[1].ledger.awaited() == []


def test_the_old_partition_grants_until_it_reads_the_map_and_never_after() -> None:
    world = World()
    world.publish(TO_ONE, 1)
    world.deliver(0, "d1")
    world.turn()
    assert world.granted()[0] == 0
    world.publish(TO_ONE, 0)
    world.deliver(0, "d2")
    world.turn(0)
    assert world.grants == []


def test_other_lanes_stay_as_they_are() -> None:
    world = World()
    world.publish(TO_ONE)
    world.deliver(0, "d1", provider="small", site="mx.small.example")
    world.turn()
    assert world.granted()[0] == 0


def test_what_is_open_settles_at_the_old_partition() -> None:
    world = World()
    world.deliver(0, "d1")
    world.turn(0)
    _, grant = world.granted()
    world.publish(TO_ONE)
    world.turn()
    assert world.where("d1") == [0]
    world.say(0, grant, "delivered")
    world.turn()
    assert world.said == ["delivered"]
    assert world.where("d1") == []


def test_what_was_deferred_moves_with_its_history() -> None:
    world = World()
    world.deliver(0, "d1")
    world.turn(0)
    _, grant = world.granted()
    world.publish(TO_ONE)
    world.turn()
    outcome = Outcome(
        id="d1", n=1, slot=0, epoch=grant.epoch, result="deferred", category="greylist"
    )
    world.parts[0].ledger.on_outcome(world.now, outcome)
    world.turn(0)
    world.turn(1)
    entry = world.parts[1].ledger.entries["d1"]
    assert (entry.n, entry.steps, entry.refusals, entry.pinned, entry.hop) == (1, 1, 1, 0, 1)
    assert entry.due_ns > world.now
    world.turn(1, seconds=1800)
    assert world.granted()[1].attempt == "d1:2"


def test_a_retry_can_be_hurried_where_it_went_and_never_before_what_the_platform_asked_for() -> (
    None
):
    """However often it moved: what is rushed goes at once, and what was rushed stays so."""
    world = World()
    for id_, asked_s in (("now", 0), ("later", 600)):
        world.deliver(0, id_, not_before_ns=world.now + asked_s * S)
    world.turn(0)
    world.say(0, world.granted()[1], "deferred")
    world.turn(0)
    for lane_map, at in ((TO_ONE, 1), (TO_TWO, 2)):
        world.publish(lane_map)
        world.turn()
        world.turn()
        assert world.where("now") == world.where("later") == [at]
    rush = Directive(
        id="r", action="rush", tenant="acme", reason="", author="", expires_ns=world.now + 3600 * S
    )
    for part in world.parts:
        part.control(rush)
    world.parts[2].ledger.begin(world.now)
    world.publish(moved(TO_TWO, {BIG: 0}))
    world.turn()
    world.turn()
    at, grant = world.granted()
    assert grant.attempt == "now:2"
    world.say(at, grant, "delivered")
    world.turn(seconds=590)
    assert world.grants == []
    world.turn(seconds=20)
    assert world.granted()[1].attempt == "later:1"


def test_what_an_operator_must_release_is_still_held_where_it_went() -> None:
    base = defaults.CLASSES["bulk"]
    world = World(make_settings(bulk=replace(base, unknown=UnknownPolicy("hold", None, S))))
    world.deliver(0, "d1")
    world.turn(0)
    _, grant = world.granted()
    world.say(0, grant, "unknown")
    world.turn(0)
    world.publish(TO_ONE)
    world.turn()
    world.turn(seconds=600)
    assert world.where("d1") == [1]
    assert world.grants == []
    assert [reason for _, reason in world.parts[1].ledger.reasons()] == ["held"]


def test_the_limiter_goes_with_the_lane() -> None:
    world = World(make_settings(LimitRow(2, 100, Rate(1, 60 * S), Rate(2, 240 * S))))
    world.turn()
    world.turn(seconds=120)
    world.deliver(0, "d1")
    world.turn(0)
    _, first = world.granted()
    world.publish(TO_ONE)
    world.deliver(0, "d2")
    world.turn()
    for _ in range(240):
        world.turn(seconds=1)
    number, second = world.granted()
    assert number == 1
    assert second.t0_ns - first.t0_ns >= 120 * S


def test_a_late_outcome_follows_its_delivery_however_far_it_went() -> None:
    world = World()
    world.deliver(0, "d1")
    world.turn(0)
    _, grant = world.granted()
    started = Started(id="d1", n=1, slot=0, epoch=grant.epoch)
    world.parts[0].ledger.on_outcome(world.now, started)
    # Its owner dies: what became of it is unknown, and it moves.
    for part in world.parts:
        part.control(Claim(slot=0, source="ip", process="q", pod="q"))
    epoch = world.parts[0].view.epoch(0)
    for part in world.parts:
        beat = Heartbeat(slot=0, epoch=epoch, process="q", ready=True, mono_ns=0, wall_ns=world.now)
        part.control(beat)
    world.turn(0, seconds=3)
    assert world.said == ["unknown"]
    world.publish(TO_ONE)
    world.turn()
    world.publish(TO_TWO)
    world.turn()
    world.turn()
    assert world.where("d1") == [2]
    world.parts[0].restart()
    world.parts[1].restart()
    world.say(0, grant, "delivered")
    world.turn()
    assert world.said == ["unknown", "delivered"]
    assert world.doubtful


def test_a_delivery_that_came_back_is_not_looked_for_elsewhere() -> None:
    world = World()
    world.deliver(0, "d1")
    world.turn(0)
    _, grant = world.granted()
    handback = Handback(id="d1", n=1, slot=0, epoch=grant.epoch, reason="drain")
    world.publish(TO_ONE)
    world.parts[0].ledger.on_outcome(world.now, handback)
    world.turn(0)
    assert b"m/d1" in world.parts[0].state
    world.publish(BACK)
    world.turn(1)
    world.turn(0)
    assert world.where("d1") == [0]
    assert b"m/d1" not in world.parts[0].state


def test_where_a_delivery_went_is_forgotten_when_its_time_is_over() -> None:
    world = World()
    world.deliver(0, "d1")
    world.turn(0)
    _, grant = world.granted()
    world.publish(TO_ONE)
    world.parts[0].ledger.on_outcome(
        world.now, Handback(id="d1", n=1, slot=0, epoch=grant.epoch, reason="drain")
    )
    world.turn(0)
    world.turn(0, seconds=3601)
    assert b"m/d1" not in world.parts[0].state


def test_what_was_handed_over_is_not_held_after_a_restart() -> None:
    world = World()
    world.publish(TO_ONE)
    world.turn(0)
    world.parts[0].restart()
    world.publish(BACK)
    world.deliver(0, "d1", map=3)
    world.turn(0)
    assert world.grants == []
    world.turn(1)
    world.turn(0)
    assert world.granted()[0] == 0


def test_a_partition_with_no_memory_hands_over_what_it_had_before_the_first_move() -> None:
    world = World()
    world.publish(TO_TWO)
    world.deliver(2, "d1", map=3)
    world.turn(2)
    world.turn(1)
    assert world.grants == []
    world.turn(0)
    world.turn(2)
    assert world.granted()[0] == 2


def test_nothing_is_sent_back_by_an_older_map_than_its_sender_had() -> None:
    world = World()
    world.publish(TO_ONE, 0)
    world.deliver(0, "d1")
    world.turn(0)
    world.turn(1)
    assert world.where("d1") == [1]
    assert world.parts[0].log[1:] == []
    assert world.grants == []
    world.publish(TO_ONE, 1)
    world.turn(1)
    assert world.granted()[0] == 1


def test_a_lane_that_moved_twice_finds_its_way_through_a_partition_that_missed_a_map() -> None:
    world = World()
    world.publish(TO_ONE, 0)
    world.turn(0)
    world.publish(TO_TWO)
    world.deliver(2, "d1", map=3)
    world.turn(2)
    assert world.grants == []
    world.turn(1)
    world.turn(2)
    assert world.granted()[0] == 2


def test_many_deliveries_move_in_portions_and_the_lane_at_once() -> None:
    world = World()
    for number in range(10):
        world.deliver(0, f"d{number}", not_before_ns=START + 600 * S)
    world.turn(0)
    world.publish(TO_ONE)
    world.turn(0, most=3)
    assert len(world.parts[0].ledger.entries) == 7
    assert world.parts[0].ledger.next_ns() == world.parts[0].ledger.now_ns
    world.turn(1)
    assert world.parts[1].ledger.awaited() == []
    for _ in range(3):
        world.turn(0, most=3)
    assert world.parts[0].ledger.entries == {}
    world.turn(1)
    assert world.parts[1].ledger.count("bulk") == 10


def test_a_map_that_takes_its_word_back_leaves_what_had_not_gone() -> None:
    world = World()
    for number in range(4):
        world.deliver(0, f"d{number}", not_before_ns=START + 600 * S)
    world.turn(0)
    world.publish(TO_ONE)
    world.turn(0, most=1)
    world.publish(BACK)
    for _ in range(3):
        world.turn()
    assert world.parts[0].ledger.count("bulk") == 4
    world.turn(seconds=700)
    assert {number for number, _ in world.grants} == {0}
    assert len(world.grants) == 4


def test_what_expires_on_its_way_ends_once() -> None:
    world = World()
    world.deliver(0, "d1", not_before_ns=START + 600 * S)
    world.turn(0)
    world.publish(TO_ONE)
    world.turn(0, most=0)
    world.turn(seconds=3601)
    world.turn()
    assert world.said == ["expired"]


def test_the_limiters_of_many_sites_go_in_several_records_and_the_lane_with_the_last() -> None:
    world = World(make_settings(LimitRow(2, 100, Rate(1, 1800 * S))))
    world.turn()
    world.now += 1800 * S
    for number in range(150):
        world.deliver(0, f"d{number}", provider=None, site=f"mx{number}.example")
    world.turn(0)
    assert len(world.grants) == 150
    world.grants.clear()
    world.publish(moved(FIRST, {"site:0": 1}))
    world.turn(0)
    records = [DELIVERY.decode(value) for value in world.parts[1].log]
    assert [record.more for record in records if isinstance(record, Handover)] == [True, False]
    for number in range(150):
        world.deliver(1, f"e{number}", provider=None, site=f"mx{number}.example", map=2)
    world.turn(1)
    world.turn(1, seconds=1500)
    assert world.grants == []
    world.turn(1, seconds=300)
    assert len(world.grants) == 150


def test_what_was_handed_back_since_its_site_is_another_is_resolved_where_it_is_and_goes_then() -> (
    None
):
    world = World()
    world.deliver(0, "d1")
    world.turn(0)
    _, grant = world.granted()
    world.publish(moved(FIRST, {"provider:small": 1, "site:0": 1}))
    handback = Handback(id="d1", n=1, slot=0, epoch=grant.epoch, reason="moved")
    world.parts[0].ledger.on_outcome(world.now, handback)
    world.turn(seconds=5)
    assert world.where("d1") == [0]
    world.parts[0].ledger.on_resolved("x.example", Found("mx.small.example", "small"))
    world.turn()
    assert world.granted()[1].attempt == "d1:2"
    assert world.where("d1") == [1]


def test_a_delivery_alone_tells_of_a_newer_map_and_is_not_sent_back_by_the_older() -> None:
    """The hand-over record is on its way still, on the other log."""
    world = World()
    world.deliver(1, "d1", map=TO_ONE.version)
    world.turn(1)
    assert (world.where("d1"), world.parts[0].log) == ([1], [])
    world.publish(TO_ONE)
    world.turn(0)
    world.turn(1)
    assert world.granted()[0] == 1


def test_a_hand_over_alone_tells_of_a_newer_map_and_nothing_is_sent_back_by_the_older() -> None:
    world = World()
    world.publish(TO_ONE, 0)
    world.turn(0)
    world.deliver(1, "d1", map=FIRST.version)
    world.turn(1)
    assert (world.where("d1"), world.parts[0].log) == ([1], [])
    assert world.grants == []
    world.publish(TO_ONE, 1)
    world.turn(1)
    assert world.granted()[0] == 1


def test_a_lane_is_held_when_the_last_part_of_its_memory_is_read_and_not_before() -> None:
    world = World()
    world.publish(TO_ONE)
    part = world.parts[1]
    world.deliver(1, "d1", map=TO_ONE.version)
    for more in (True, True, False):
        assert part.ledger.awaited() == [BIG]
        world.turn(1)
        assert world.grants == []
        part.log.append(encode(Handover(lane=BIG, map=TO_ONE.version, more=more)))
        world.turn(1)
    assert part.ledger.awaited() == []
    assert world.granted()[0] == 1


def test_a_lane_that_comes_back_by_a_map_that_was_not_read_is_not_handed_on_by_the_older() -> None:
    world = World()
    world.publish(TO_ONE)
    world.turn(0)
    world.turn(1)
    back = moved(TO_ONE, {BIG: 0})
    world.publish(back, 1)
    world.deliver(1, "d1", map=back.version)
    world.turn(1)
    sent = len(world.parts[1].log)
    for _ in range(3):
        world.turn(0)
    assert len(world.parts[1].log) == sent
    assert world.grants == []
    world.publish(back, 0)
    world.turn(0)
    assert world.granted()[0] == 0
