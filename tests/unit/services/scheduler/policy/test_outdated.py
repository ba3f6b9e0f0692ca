"""Claims of what an older lane map grouped: nobody grants it, nothing of it is lost, and it goes on a portion at a time."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy import ledger
from services.scheduler.policy.backlog import Order
from services.scheduler.policy.duequeue import DueQueue
from services.scheduler.policy.group import Group, GroupKey
from services.scheduler.policy.lines import Line
from services.scheduler.policy.outdated import Outdated
from shared.records.grant import Grant
from shared.records.lanemap import group_of, moved
from shared.runtime.settings import LimitRow, Rate
from tests.unit.services.scheduler.policy.partitions import FIRST, S, World
from tests.unit.services.scheduler.policy.test_groups import LANES, config, grouped, world

NOW = 1_700_000_000 * S


def group(key: str, ids: list[str]) -> Group:
    queue = DueQueue(Order(), random.Random(1))
    for at, id_ in enumerate(ids):
        line = Line("bulk", f"t{at % 3}", "", "t.example")
        queue.push(id_, NOW, line, now_ns=NOW)
        if at % 4 == 0:
            queue.urge(id_, NOW + at)
    return Group(key, "main", None, None, 0, "", None, queue)


def tables(*groups: Group) -> dict[str, dict[GroupKey, Group]]:
    """Give groups of different limit keys as the queues have them."""
    return {each.limit_key: {each.key: each} for each in groups}


def delivered(room: World) -> list[tuple[int, Grant]]:
    """Let everything be delivered that was granted, and give it."""
    granted, room.grants = room.grants, []
    for number, grant in granted:
        room.say(number, grant, "delivered")
    return granted


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 40)), max_size=8),
    st.lists(st.tuples(st.sampled_from(["give", "end", "more"]), st.integers(0, 60)), max_size=30),
)
def test_each_delivery_is_given_once_unless_it_ended_before(
    sizes: list[tuple[str, int]], steps: list[tuple[str, int]]
) -> None:
    """Whatever ends between, and whatever another map sets aside while the first is not done."""
    outdated, key_of, there = Outdated(), dict[str, str](), list[str]()
    given_, ended = Counter[str](), set[str]()

    def aside(key: str, size: int) -> None:
        ids = [f"{key}{len(key_of) + at}" for at in range(size)]
        key_of.update(dict.fromkeys(ids, key))
        there.extend(ids)
        outdated.set_aside(tables(group(key, ids)), NOW)

    for key, size in sizes:
        aside(key, size)
    for what, number in steps:
        if what == "give":
            before = len(there)
            for id_ in outdated.give(number):
                assert outdated.of(key_of[id_], id_) is None
                given_[id_] += 1
                there.remove(id_)
            assert before - len(there) <= number
        elif what == "more":
            aside("c", number % 5 + 1)
        elif there:
            id_ = there.pop(number % len(there))
            old = outdated.of(key_of[id_], id_)
            assert old is not None
            assert old.queue.remove(id_)
            ended.add(id_)
        for id_ in there:
            assert outdated.of(key_of[id_], id_) is not None
        counted = {
            key: sum(len(each.queue) for each in outdated.of_key(key)) for key in ("a", "b", "c")
        }
        assert counted == {key: sum(key_of[id_] == key for id_ in there) for key in counted}
    given_.update(outdated.give(10_000))
    assert given_ == Counter(set(key_of) - ended)
    assert not outdated


def test_the_few_of_a_small_site_go_on_before_the_many_of_a_large_one() -> None:
    outdated = Outdated()
    large = group("large", [f"l{n}" for n in range(50)])
    outdated.set_aside(tables(large, group("small", ["s"])), NOW)
    assert list(outdated.give(1)) == ["s"]


def test_a_map_that_groups_otherwise_regroups_a_portion_a_round_and_nothing_goes_by_the_old_one() -> (
    None
):
    room = world()
    many = 5 * ledger._SOUGHT // 2
    for number in range(many):
        room.deliver(0, f"d{number}", to=f"u{number}@big.example")
    room.deliver(0, "brief", to="brief@big.example", expires_ns=room.now + 2 * S)
    room.turn(most=0)
    part = room.parts[0].ledger
    apart = moved(grouped(FIRST, config()), {LANES[1]: 1})
    room.publish(apart)
    room.turn(most=0)
    queues = part._queues
    old = [entry for entry in part.entries.values() if part.reason(entry) == "lane"]
    assert many - 2 * ledger._SOUGHT <= len(old) < many
    assert part.next_ns() == part.now_ns
    assert part.explain(old[0]).bound.reason == "lane"
    assert queues.waiting("big", "bulk", "acme") + len(part._moving.strays()) >= len(old)
    # One ends where it is, others by their time: neither is put anywhere again.
    part._settling.end(old[0], "cancelled", reason="by hand")
    granted, rounds = list[tuple[int, Grant]](), 0
    while room.parts[0].ledger.entries or room.parts[1].ledger.entries:
        room.turn(seconds=0.2)
        granted += delivered(room)
        rounds += 1
        assert rounds < 60
    for number, grant in granted:
        assert group_of(grant.slot) == apart.group("main", grant.to) == number
    room.turn()
    assert not queues.outdated
    ids = Counter(grant.id for _, grant in granted)
    assert set(ids.values()) == {1}
    assert old[0].id not in ids
    assert len(ids) >= many - 1
    said = Counter(room.said)
    assert said["delivered"] + said["expired"] + said["cancelled"] == many + 1
    assert said["cancelled"] == 1


def test_a_crash_while_half_is_grouped_loses_nothing() -> None:
    # Where no rate is set one source goes first.
    room = world(LimitRow(2, 100, Rate(60_000, 60 * S)))
    many = 3 * ledger._SOUGHT // 2
    for number in range(many):
        room.deliver(0, f"d{number}", to=f"u{number}@big.example")
    room.turn(most=0)
    room.publish(moved(grouped(FIRST, config()), {LANES[1]: 1}))
    room.turn(most=0)
    room.parts[0].restart()
    granted = list[tuple[int, Grant]]()
    for _ in range(12):
        room.turn(seconds=1)
        granted += delivered(room)
    assert Counter(grant.id for _, grant in granted) == Counter(f"d{n}" for n in range(many))
