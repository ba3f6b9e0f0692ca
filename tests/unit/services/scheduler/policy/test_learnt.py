"""What operators are shown of what destinations have taught: the level, what hurt, until when, and for whom."""

import pytest

from services.cli.learnt import per_time, told
from services.scheduler.policy import learnt
from shared.records.answers import Learnt
from tests.unit.services.scheduler.policy.test_ledger import START, S, World
from tests.unit.services.scheduler.policy.test_warnings import answer, warned

MINUTE = 60 * S


def shown(world: World, key: str = "") -> list[Learnt]:
    ledger = world.ledger
    return list(learnt.of(ledger.pairs, world.config, 3, ledger.now_ns, key))


def test_nothing_is_shown_of_those_who_were_never_warned() -> None:
    world = World()
    world.deliver("d")
    world.turn()
    answer(world, world.only(), "delivered")
    assert shown(world) == []


def test_a_slowed_source_is_shown_with_its_level_what_hurt_and_until_when() -> None:
    world = warned("rate")
    world.turn(1)
    (found,) = shown(world)
    assert (found.partition, found.key, found.source, found.domain) == (3, "big", "ip-0", "")
    assert found.level is not None
    assert found.hurt is not None
    assert found.level <= found.hurt
    assert found.stopped_ns is not None
    assert found.stopped_ns >= START + MINUTE
    assert not found.paused
    assert shown(world, "small") == []
    assert shown(world, "big") == [found]
    # What is shown is what holds.
    ((_, _, per_day, _),) = world.ledger.pairs.slowed()
    assert found.level == per_day
    text = told(found)
    assert text.startswith("big from ip-0: ")
    assert f"{per_time(found.level)} let through, {per_time(found.hurt)} was too much" in text
    assert "stopped until 20" in text


@pytest.mark.parametrize("category", ["block", "ptr"])
def test_a_suspended_source_is_shown_until_when_and_with_its_probes(category: str) -> None:
    world = warned(category)
    world.turn(1)
    (found,) = shown(world)
    assert found.probes == world.config.backoff.probes
    assert found.stopped_ns is not None
    assert "3 probes must be taken" in told(found)


def test_a_source_that_is_not_let_in_is_shown_as_paused_and_over_a_restart() -> None:
    world = warned("connection")
    world.turn(1)
    (found,) = shown(world)
    assert found.paused
    assert "not let in, paused until 20" in told(found)
    world.restart()
    world.turn(0)
    assert shown(world) == [found]


@pytest.mark.parametrize(
    ("per_day", "text"), [(1440, "1/min"), (86_400, "60/min"), (240, "10/h"), (7, "7/d")]
)
def test_messages_a_day_are_told_as_a_rate_that_one_can_picture(per_day: int, text: str) -> None:
    assert per_time(per_day) == text
