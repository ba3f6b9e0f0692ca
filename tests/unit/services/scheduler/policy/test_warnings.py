"""Claims of the partition about warnings: who waits for them, for how long, and that waiting costs nothing."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.policy.announce import event_key
from services.scheduler.policy.learning import Answer, Learning
from services.scheduler.policy.pair import Pair
from services.scheduler.policy.pairlimit import PairLimits
from shared.records.grant import Grant
from shared.records.outcome import Outcome, Reply, Result
from shared.records.times import rfc3339
from shared.runtime.settings import Backoff, LimitRow, Rate
from shared.runtime.workings import Timing
from tests.unit.services.scheduler.policy.test_ledger import START, S, World, make_settings

MINUTE = 60 * S


def answer(
    world: World,
    grant: Grant,
    result: Result,
    category: str = "",
    scope: str = "pair",
    warned_ns: int = 0,
) -> None:
    reply = Reply(code=421, enhanced="4.7.0", stage="mail")
    world.answer(grant, result, category, scope, reply=reply, warned_ns=warned_ns)


def warned(category: str, result: Result = "pair_failed", **limits: LimitRow) -> World:
    """Let forty deliveries wait for one source, and the first that goes be answered so."""
    world = World(make_settings(**limits))
    world.deliver("first", pool="one")
    world.turn()
    for at in range(40):
        world.deliver(f"d{at}", pool="one")
    answer(world, world.only(), result, category, warned_ns=77)
    return world


def reasons(world: World) -> set[str]:
    return {reason for entry, reason in world.ledger.reasons() if entry.id.startswith("d")}


@pytest.mark.parametrize(("category", "seconds"), [("rate", 60), ("block", 900), ("ptr", 900)])
def test_what_waits_for_a_warned_source_uses_no_attempt(category: str, seconds: int) -> None:
    world = warned(category)
    for _ in range(10):
        world.turn(seconds / 11)
        assert not world.grants
        assert reasons(world) == {"suspended"}
    states = [entry for entry in world.ledger.entries.values() if entry.id.startswith("d")]
    assert [(entry.n, entry.steps) for entry in states] == [(0, 0)] * 40
    world.turn(seconds)
    assert world.grants


def test_after_too_fast_nothing_goes_above_the_cut_rate() -> None:
    world = warned("rate", big=LimitRow(rate=Rate(120, MINUTE)))
    for _ in range(200):
        for granted in world.turn(0.5).granted:
            # It says nothing of the source: the rate stays as it is.
            answer(world, granted.grant, "deferred", "mailbox_full", "recipient")
    times = [grant.t0_ns for grant in world.grants]
    assert times[0] >= START + MINUTE
    # Half of 120 a minute, and the grants say so to the sender.
    assert all(after - before >= S for before, after in itertools.pairwise(times))
    assert {(grant.spacing_ns, grant.burst) for grant in world.grants} == {(S, 1)}
    assert len(times) >= 30


def test_grants_say_which_warning_was_heard() -> None:
    world = warned("rate")
    assert not world.grants
    world.turn(130)
    assert {grant.heard_ns for grant in world.grants} == {77}
    world.restart()
    answer(world, world.grants.pop(), "delivered")
    world.turn(130)
    assert {grant.heard_ns for grant in world.grants} == {77}


def test_the_short_way_of_a_good_answer_teaches_what_the_long_one_does() -> None:
    one, other = Pair("big", 0), Pair("big", 0)
    learning = Learning(Backoff(), Timing(), random.Random(1))
    limit = PairLimits(make_settings()).of("big", 0, 0)
    said = Outcome(id="d", n=1, slot=0, epoch=1, result="delivered")
    for at in range(500):
        now = START + at * 7 * S
        one.troubles = other.troubles = at % 3
        learning.fine(one, now)
        answered = Answer("big", now, said, lambda: (limit, limit), 2 * S)
        assert learning.hear(other, answered, now, list) == []
        assert one == other


@pytest.mark.parametrize(
    ("provider", "text", "minutes"),
    [("apple", "excessive volume", 15), ("big", "too fast", 1), ("yahoo", "[TSS04] volume", 60)],
)
def test_what_hurt_is_counted_over_as_long_as_it_is_to_wait(
    provider: str, text: str, minutes: int
) -> None:
    """Five minutes of mail at ten a second, and then it is too much: for who waits for an hour that was too much in an hour."""
    pair = Pair(provider, 0)
    learning = Learning(Backoff(), Timing(), random.Random(1))
    limit = PairLimits(make_settings()).of("big", 0, 0)
    for at in range(3_000):
        learning.fine(pair, START + at * S // 10)
    now = START + 300 * S
    said = Outcome(
        id="d",
        n=1,
        slot=0,
        epoch=1,
        result="pair_failed",
        category="block" if "TSS" in text else "rate",
        scope="pair",
        reply=Reply(code=421, enhanced="4.7.1", text=text, stage="mail"),
    )
    learning.hear(pair, Answer(provider, now, said, lambda: (limit, limit), 2 * S), now, list)
    assert pair.backoff is not None
    assert pair.backoff.pace is not None
    in_window = min(3_000, minutes * 600)
    # Where the seconds say more than eight times of it, they are not lost.
    per_day = max(in_window * 24 * 60 // minutes, 10 * 86_400 // 8)
    assert abs(pair.backoff.pace.hurt - per_day) <= per_day // 20


def test_operators_hear_once_of_a_suspension_and_of_its_end() -> None:
    world = warned("ptr")
    world.turn(0)
    (said,) = [event for event in world.events if event.type == "suspended"]
    assert (said.final, said.delivery, said.to, said.provider, said.source) == (
        False,
        None,
        "",
        "big",
        "ip-0",
    )
    assert "PTR" in said.fix
    assert said.reply is not None
    assert said.until is not None
    assert rfc3339(START + 15 * MINUTE) <= said.until <= rfc3339(START + 17 * MINUTE)
    assert event_key(said) == b"big/ip-0"
    world.events.clear()
    world.turn(17 * 60)
    for _ in range(3):
        answer(world, world.only(), "delivered")
        world.turn(1)
    assert [event.type for event in world.events] == ["delivered"] * 3 + ["resumed"]
    assert event_key(world.events[-1]) == b"big/ip-0"


def test_a_suspended_source_is_probed_one_at_a_time_and_then_slowly() -> None:
    world = warned("block")
    world.turn(15 * 60 * 1.2)
    for _ in range(3):
        world.turn(62)
        assert reasons(world) == {"suspended", "granted"}
        answer(world, world.only(), "delivered")
    world.turn(62)
    grant = world.only()
    assert grant.connections == 1
    assert grant.spacing_ns == 60 * S


def test_the_other_sources_go_on_while_one_is_suspended() -> None:
    world = World()
    world.deliver("a")
    world.turn()
    first = world.only()
    answer(world, first, "deferred", "block")
    for at in range(10):
        world.deliver(f"b{at}")
    world.turn(1)
    assert {grant.slot for grant in world.grants} == {1 - first.slot}
    assert len(world.grants) == 10


def test_provider_wide_trouble_pauses_every_source_there() -> None:
    world = World()
    for at in range(20):
        world.deliver(f"a{at}")
    world.turn()
    assert {grant.slot for grant in world.grants} == {0, 1}
    answer(world, world.grants[0], "deferred", "host", "provider")
    world.grants.clear()
    world.deliver("b")
    world.turn(1)
    assert not world.grants
    assert ("b", "paused") in {(entry.id, reason) for entry, reason in world.ledger.reasons()}


def test_a_hosts_own_trouble_is_the_pairs_only_when_nothing_is_taken_between() -> None:
    world = World()
    for good in (3, None):
        for at in range(5):
            world.deliver(f"{good} {at}", pool="one")
            world.turn()
            if at == good:
                answer(world, world.only(), "delivered")
            else:
                answer(world, world.only(), "deferred", "host")
        world.deliver(f"{good} last", pool="one")
        world.turn()
        assert len(world.grants) == (good is not None)
        for grant in world.grants:
            answer(world, grant, "delivered")
        world.grants.clear()


def test_a_recipients_trouble_is_nobody_elses() -> None:
    world = World()
    world.deliver("a", pool="one")
    world.turn()
    answer(world, world.only(), "deferred", "rate", "recipient")
    world.deliver("b", pool="one")
    assert len(world.turn().granted) == 1


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["rate", "block", "connections", "ptr", "good", "time"]), st.integers(0, 6)
    ),
    max_size=25,
)


@given(STEPS)
@settings(max_examples=60)
def test_a_restart_at_any_moment_changes_no_wait(steps: list[tuple[str, int]]) -> None:
    """What is restored grants when, and as fast, as what was."""
    world = World(make_settings(big=LimitRow(rate=Rate(600, MINUTE))))
    for at in range(200):
        world.deliver(f"d{at}", pool="one")
    for what, number in steps:
        if what == "time":
            world.turn(float(4**number))
        elif world.grants:
            grant = world.grants.pop(number % len(world.grants))
            good = what == "good"
            answer(
                world,
                grant,
                "delivered" if good else "deferred",
                "" if good else what,
                "" if good else "pair",
            )
        world.turn()
    open_ = {entry.id for entry in world.ledger.entries.values() if entry.open is not None}
    old = world.ledger
    world.restart()
    for each in (old, world.ledger):
        assert {e.id for e in each.entries.values() if e.open is not None} == open_
    pairs = [old._pairs, world.ledger._pairs]
    for wait in (0, S, MINUTE, 15 * MINUTE, 3600 * S):
        at = world.now + wait
        rooms = [each.room("big", "big", 0, world.epochs[0], at) for each in pairs]
        assert rooms[0] == rooms[1]
        limits = [each.limit("big", "big", 0) for each in pairs]
        assert limits[0] == limits[1]
