"""More sources than one slot group has: each group has a decider of its own, and together they keep what counts over all of them."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cli.lanes import pools_of
from shared.records.control import Directive, OrderedRate
from shared.records.lanemap import LaneMap, group_of, in_group, moved
from shared.records.shares import Shares, Want
from shared.runtime.settings import LimitRow, Pool, Rate, Settings, Source
from tests.unit.services.scheduler.policy.partitions import BIG, FIRST, S, World, make_settings

SLOTS = (0, 1, 128, 129)
PERIOD, COUNT = 600 * S, 12


def config(limit: LimitRow | None = None, slots: Sequence[int] = SLOTS) -> Settings:
    sources = {
        f"ip-{slot}": Source(
            f"ip-{slot}",
            slot,
            "bind",
            "none",
            ehlo="m.example.com",
            address=f"192.0.2.{slot % 256}",
        )
        for slot in slots
    }
    made = make_settings(limit)
    return replace(made, sources=sources, pools={"main": Pool("main", dict.fromkeys(sources, 1))})


def grouped(current: LaneMap, over: Settings, slots: Sequence[int] = SLOTS) -> LaneMap:
    """Give the next map, with lanes for every group, at first where the first group is."""
    groups = {group_of(slot) for slot in slots} - current.groups
    lanes = {in_group(lane, group): at for lane, at in FIRST.lanes.items() for group in groups}
    grown = moved(current, {})
    return LaneMap(
        version=grown.version,
        partitions=3,
        buckets=1,
        lanes={**grown.lanes, **lanes},
        origins=grown.origins,
        pools=pools_of(over),
    )


def world(limit: LimitRow | None = None, slots: Sequence[int] = SLOTS) -> World:
    made = World(config(limit, slots))
    for part in made.parts:
        for slot in slots[1:]:
            part.own(slot)
    return made


#: Fewer than there are partitions: a lane that goes on and on meets one that has spent nothing.
LANES = [BIG, f"{BIG}@1"]


def test_each_group_grants_from_its_own_slots_only() -> None:
    room = world()
    apart = moved(grouped(FIRST, config()), {LANES[1]: 1})
    room.publish(apart)
    for number in range(60):
        room.deliver(0, f"d{number}", to=f"u{number}@big.example")
    for _ in range(6):
        room.turn()
    assert len({grant.id for _, grant in room.grants}) == 60
    assert {(number, group_of(grant.slot)) for number, grant in room.grants} == {(0, 0), (1, 1)}
    assert {grant.slot for _, grant in room.grants} == set(SLOTS)


def test_before_a_map_knows_a_group_nothing_goes_from_its_slots() -> None:
    room = world()
    for number in range(40):
        room.deliver(0, f"d{number}", to=f"u{number}@big.example")
    room.turn()
    assert {grant.slot for _, grant in room.grants} == {0, 1}
    assert len(room.grants) == 40


def test_what_waits_finds_its_group_when_the_map_changes() -> None:
    room = world()
    for number in range(40):
        later = room.now + 60 * S
        room.deliver(0, f"d{number}", to=f"u{number}@big.example", not_before_ns=later)
    room.turn()
    room.publish(moved(grouped(FIRST, config()), {LANES[1]: 1}))
    room.turn()
    assert room.parts[0].ledger.count("bulk") + room.parts[1].ledger.count("bulk") == 40
    assert room.parts[1].ledger.count("bulk") > 0
    there = room.parts[1].ledger
    assert {there.lane(entry) for entry in there.entries.values()} == {LANES[1]}
    room.turn(seconds=90)
    room.turn(seconds=60)
    assert sorted(grant.id for _, grant in room.grants) == sorted(f"d{n}" for n in range(40))


Step = tuple[str, int, int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("move"), st.integers(0, 1), st.integers(0, 2)),
        st.tuples(st.just("restart"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("turn"), st.integers(0, 2), st.integers(1, 90)),
        st.tuples(st.just("late"), st.integers(0, 1), st.integers(1, 60)),
    ),
    max_size=25,
)


def most(room: World) -> int:
    """Give the most starts of any half-open window of the total's period."""
    starts = sorted(grant.t0_ns for _, grant in room.grants)
    return max(bisect_left(starts, start + PERIOD) - at for at, start in enumerate(starts))


def recipients(lane_map: LaneMap, group: int) -> Iterator[str]:
    every = (f"u{number}@big.example" for number in count())
    return (to for to in every if lane_map.group("main", to) == group)


def test_where_one_more_decides_none_goes_on_at_once_while_another_has_just_spent_its_part() -> (
    None
):
    # All of it may go at once: six by each of two, or four by each of three.
    limit, more = LimitRow(50, 100, total_rate=Rate(COUNT, PERIOD, COUNT)), (*SLOTS, 256)
    room = world(limit, more)
    two = moved(grouped(FIRST, config()), {LANES[1]: 1})
    room.publish(two)
    # It begins with nothing to spend, too.
    room.turn()
    room.turn(seconds=10 * PERIOD // S)
    for number, to in enumerate(islice(recipients(two, 1), 9)):
        room.deliver(1, f"a{number}", to=to, map=two.version)
    room.turn()
    assert [number for number, _ in room.grants] == [1] * 6
    three = moved(grouped(two, config(slots=more), more), {f"{BIG}@2": 2})
    room.publish(three)
    room.turn()
    for part in room.parts:
        part.restart()
    for group in (0, 2):
        for number, to in enumerate(islice(recipients(three, group), 9)):
            room.deliver(group, f"b{group}{number}", to=to, map=three.version)
    for _ in range(130):
        room.turn(seconds=30)
    assert {number for number, _ in room.grants} == {0, 1, 2}
    assert most(room) <= COUNT


def ordered(rate: Rate) -> Directive:
    total = OrderedRate(count=rate.count, period_ns=rate.period_ns)
    return Directive(
        id="o",
        action="limit",
        tenant="acme",
        provider="big",
        total_rate=total,
        reason="why",
        author="ada",
    )


@pytest.mark.parametrize("by_order", [True, False])
def test_a_tenant_that_has_less_than_a_token_for_each_group_gets_no_more_than_it_has(
    *, by_order: bool
) -> None:
    rate, control = Rate(1, PERIOD), list[Directive | Want | Shares]()
    made = config()
    row = LimitRow(total_rate=Rate(100, PERIOD) if by_order else rate)
    room = World(replace(made, limits={**made.limits, "big/tenant:acme": row}))
    for part in room.parts:
        for slot in SLOTS[1:]:
            part.own(slot)
    if by_order:
        control.append(ordered(rate))
    apart = moved(grouped(FIRST, made), {LANES[1]: 1})
    room.publish(apart)
    for group in (0, 1):
        for number, to in enumerate(islice(recipients(apart, group), 20)):
            room.deliver(group, f"d{group}{number}", to=to, map=apart.version)
    for _ in range(1500):
        for part in room.parts:
            for record in control:
                part.control(record)
        control.clear()
        room.turn(seconds=2)
        control += [want for part in room.parts if (want := part.ledger.want()) is not None]
        control += room.dealt
        room.dealt.clear()
    assert most(room) <= rate.count
    assert len(room.grants) >= 3


@pytest.mark.timeout(120)
@settings(deadline=None, max_examples=30)
@given(STEPS)
def test_a_total_holds_over_groups_that_move_and_crash_and_nothing_is_lost(
    steps: list[Step],
) -> None:
    limit = LimitRow(50, 100, total_rate=Rate(COUNT, PERIOD, 6))
    room = world(limit)
    for number in range(60):
        room.deliver(0, f"d{number}", to=f"u{number}@big.example")
    for _ in range(5):
        room.turn(seconds=20)
    current = grouped(FIRST, config())
    room.publish(current)
    for kind, one, other in steps:
        if kind == "move":
            current = moved(current, {LANES[one]: other})
            room.publish(current)
        elif kind == "late":
            # One partition reads the newest map only after the others have acted by it.
            current = moved(current, {LANES[one]: (one + other) % 3})
            room.publish(current, *(number for number in range(3) if number != one))
            room.turn(*(number for number in range(3) if number != one), seconds=other)
            room.publish(current, one)
        elif kind == "restart":
            room.parts[one].restart()
        else:
            room.turn(one, seconds=other)
            room.turn(seconds=1)
    for _ in range(130):
        room.turn(seconds=30)
    assert most(room) <= COUNT
    # Nobody answers for any of them: each ends once, when its hour is over.
    assert room.said == ["expired"] * 60
