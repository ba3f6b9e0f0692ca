"""Every waiting delivery has exactly one thing that binds it, and a time where there is one that can be told."""

import random
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.policy.backlog import Order
from services.scheduler.policy.duequeue import DueQueue
from services.scheduler.policy.explain import (
    Constraint,
    Pace,
    Shape,
    Share,
    Standing,
    ahead,
    binding,
    column,
)
from services.scheduler.policy.lines import Line
from services.scheduler.policy.pauses import CLEAR
from shared.records.answers import AGES
from shared.records.state import DeliveryState
from shared.runtime.settings import LimitRow, Rate, UnknownPolicy
from shared.runtime.windows import Window
from tests.unit.services.scheduler.policy.test_ledger import S, World, make_settings
from tests.unit.services.scheduler.policy.test_orders import closed, order
from tests.unit.services.scheduler.simulation.test_foretold import DAYS

REASONS = st.sampled_from(["retry", "rate", "directive", "no_source", "held", "window"])
CONSTRAINTS = st.lists(
    st.builds(
        Constraint,
        REASONS,
        st.just("x"),
        until_ns=st.none() | st.integers(0, 10),
        shared=st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


@given(CONSTRAINTS)
def test_the_last_to_end_binds_and_what_nobody_knows_the_end_of_ends_last(
    constraints: list[Constraint],
) -> None:
    bound = binding(constraints)
    assert bound in constraints
    assert all(
        bound.until_ns is None or (each.until_ns is not None and each.until_ns <= bound.until_ns)
        for each in constraints
    )


MAIL = st.lists(
    st.tuples(
        st.sampled_from(["transactional", "bulk"]),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["", "x"]),
    ),
    min_size=1,
    max_size=120,
)


@settings(deadline=None)
@given(MAIL, st.integers(0, 119))
def test_what_goes_before_a_delivery_is_foretold_within_a_turn_or_a_fifth(
    mail: list[tuple[str, str, str]], which: int
) -> None:
    queue = DueQueue(Order(), random.Random(1))
    for at, (class_, tenant, stream) in enumerate(mail):
        queue.push(f"d{at}", 0, Line(class_, tenant, stream, ""), now_ns=at)
    id_ = f"d{which % len(mail)}"
    standing = queue.standing(id_, 1000)
    assert standing is not None
    order_: list[str | None] = []
    while id_ not in order_:
        order_.append(queue.pop_ready(1000))
    really = len(order_) - 1
    # Turns are whole, the picture is fluid: each tenant, line and class may be one turn off.
    assert abs(ahead(standing) - really) <= max(12, really // 5)


def test_what_goes_first_takes_all_turns_but_one_in_so_many() -> None:
    bulk = Standing(before=9, line=Share(100), first=10_000, every=20)
    assert ahead(bulk) == 199
    assert ahead(Standing(before=9, line=Share(100), first=50, every=20)) == 59


@given(st.integers(30, 600), st.integers(2, 10))
def test_a_pace_is_that_of_the_last_minute(rate: int, minutes: int) -> None:
    pace, interval = Pace(), 60 * S // rate
    now = 0
    for _ in range(rate * minutes):
        now += interval
        pace.granted(now, 1)
    found = pace.interval_ns(now)
    assert found is not None
    assert abs(found - interval) <= interval // 5 + 1
    assert pace.interval_ns(now + 300 * S) is None


def test_an_age_is_in_one_column_and_too_many_names_are_others() -> None:
    assert [column(minutes * 60 * S) for minutes in (0, 4, 5, 1279, 1280, 99_999)] == [
        0,
        0,
        1,
        8,
        9,
        9,
    ]
    shape = Shape(2)
    for at in range(5):
        shape.add((f"t{at}", "bulk"), 0)
    assert {names: row[0] for names, row in shape.rows.items()} == {
        ("t0", "bulk"): 1,
        ("t1", "bulk"): 1,
        ("(others)", "(others)"): 3,
    }
    assert all(len(row) == len(AGES) + 1 for row in shape.rows.values())


# -- in the ledger


def test_a_rate_limited_delivery_goes_when_it_was_foretold() -> None:
    world = World(make_settings(big=LimitRow(rate=Rate(60, 60 * S))))
    for at in range(60):
        world.deliver(f"d{at}", pool="one", tenant=("acme", "globex")[at % 2])
    world.turn(2)
    foretold = {
        id_: found.eta_ns
        for id_, entry in world.ledger.entries.items()
        if entry.open is None and (found := world.ledger.explain(entry)).bound.reason == "rate"
    }
    assert len(foretold) > 40
    start = world.now
    while len(world.grants) < 60 and world.now < start + 90 * S:
        for grant in world.grants[-5:]:
            world.answer(grant, "delivered")
        world.turn(1)
    went = {grant.id: grant.t0_ns for grant in world.grants}
    for id_, eta in foretold.items():
        assert eta is not None
        assert abs(eta - went[id_]) <= max(3 * S, (went[id_] - start) // 5), id_


def test_a_retry_goes_at_its_time_and_a_pause_binds_longer() -> None:
    world = World()
    world.deliver("d1", pool="one")
    world.turn()
    world.answer(world.only(), "deferred")
    world.commit()
    entry = world.ledger.entries["d1"]
    found = world.ledger.explain(entry)
    assert (found.bound.reason, found.bound.until_ns, found.eta_ns) == (
        "retry",
        entry.due_ns,
        entry.due_ns,
    )
    assert found.bound.since_ns == world.now
    pause = order(world, "pause", tenant="acme", expires_ns=entry.due_ns + S)
    world.turn()
    found = world.ledger.explain(entry)
    assert (found.bound.reason, found.eta_ns) == ("directive", entry.due_ns + S)
    assert found.bound.detail == f"{pause.id}, ordered by ada: why"
    assert found.bound.since_ns == world.now


def test_what_a_pause_with_an_end_keeps_goes_after_it_at_the_pace_of_its_limits() -> None:
    world = World(make_settings(big=LimitRow(rate=Rate(60, 60 * S))))
    until = world.now + 600 * S
    order(world, "pause", provider="big", expires_ns=until)
    for at in range(60):
        world.deliver(f"d{at}", pool="one")
    world.turn(1)
    found = [world.ledger.explain(entry) for entry in world.ledger.entries.values()]
    assert {each.bound.reason for each in found} == {"directive"}
    assert sorted(each.before for each in found) == list(range(60))  # type: ignore[type-var]
    last = max(found, key=lambda each: each.before or 0)
    assert last.eta_ns is not None
    assert abs(last.eta_ns - (until + 59 * S)) <= 3 * S


def test_a_retry_goes_behind_what_waits_by_then() -> None:
    world = World(make_settings(big=LimitRow(rate=Rate(6, 60 * S))))
    world.deliver("first", pool="one")
    world.turn(11)
    world.answer(world.only(), "deferred")
    for at in range(120):
        world.deliver(f"d{at}", pool="one")
    world.turn(1)
    found, now = world.ledger.explain(world.ledger.entries["first"]), world.ledger.now_ns
    assert (found.bound.reason, found.probed) == ("retry", False)
    assert found.eta_ns is not None
    assert abs(found.eta_ns - (now + 1200 * S)) <= 30 * S


def test_what_waits_for_a_probe_says_so() -> None:
    world = World()
    world.deliver("d1", pool="one")
    world.turn()
    world.answer(world.only(), "pair_failed")
    for at in range(20):
        world.deliver(f"e{at}", pool="one")
    world.turn(1)
    found = world.ledger.explain(world.ledger.entries["e19"])
    assert (found.bound.reason, found.probed) == ("paused", True)
    assert found.bound.detail == "if the destination takes the next probe"
    # The first of them is the probe, and goes when the pause is over whatever comes of it.
    first = world.ledger.explain(world.ledger.entries["d1"])
    assert (first.before, first.eta_ns) == (0, first.bound.until_ns)


@pytest.mark.parametrize(
    "names", [{"provider": "big"}, {"tenant": "acme"}, {"tag": "sale"}, {"source": "ip-0"}]
)
def test_a_pause_without_an_end_binds_and_nobody_knows_until_when(names: dict[str, str]) -> None:
    world = World()
    order(world, "pause", expires_ns=None, **names)
    world.deliver("d1", pool="one", tags=("sale",))
    world.turn(1)
    found = world.ledger.explain(world.ledger.entries["d1"])
    assert (found.bound.reason, found.eta_ns) == ("directive", None)
    assert found.bound.scope == ",".join(f"{name}={value}" for name, value in names.items())


def test_without_a_source_nobody_knows_when() -> None:
    world = closed()
    world.deliver("d1")
    world.turn(1)
    found = world.ledger.explain(world.ledger.entries["d1"])
    assert (found.bound.reason, found.eta_ns) == ("no_source", None)


#: What ends by what somebody does, and not by time: no time can be told. A pause of an operator that has an end is one that can.
ENDLESS = frozenset({"held", "directive", "no_source", "dns", "lane", "moving", "parked"})
#: Whose end is a time that is known, or now.
TIMED = frozenset({"due", "retry", "not_before", "granted", "started"})
#: What docs/metrics.md tells people of.
REASONS_TOLD = frozenset(
    name
    for line in Path("docs/metrics.md").read_text().partition("| reason |")[2].splitlines()
    if line.startswith("| `")
    for name in re.findall(r"`([a-z_]+)`", line.split("|")[1])
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("mail"), st.sampled_from(["acme", "globex", "slow", "night"])),
        st.tuples(st.just("site"), st.none()),
        st.tuples(st.just("started"), st.none()),
        st.tuples(st.just("unknown"), st.none()),
        st.tuples(
            st.just("answer"),
            st.sampled_from(
                [
                    ("delivered", "", ""),
                    ("deferred", "", ""),
                    ("deferred", "greylist", "recipient"),
                    ("deferred", "rate", "pair"),
                    ("deferred", "block", "pair"),
                    ("deferred", "auth", "domain"),
                    ("pair_failed", "connection", "pair"),
                    ("unknown", "", ""),
                ]
            ),
        ),
        st.tuples(
            st.just("pause"),
            st.sampled_from(
                [{"tag": "a"}, {"tenant": "acme"}, {"source": "ip-0"}, {"provider": "big"}]
            ),
        ),
        st.tuples(st.just("reroute"), st.sampled_from(["one", "main"])),
        st.tuples(st.just("cancel"), st.none()),
        st.tuples(st.just("sender"), st.sampled_from([0, 1])),
        st.tuples(st.just("restart"), st.none()),
        st.tuples(st.just("turn"), st.sampled_from([0.1, 5.0, 400.0, 9_000.0])),
    ),
    max_size=30,
)


def of_all_kinds() -> World:
    """Give a partition with limits of every kind, a send window, and a class whose unknown outcomes are held."""
    config = make_settings(
        big=LimitRow(rate=Rate(6, 60 * S), total_rate=Rate(10, 60 * S)),
        **{
            "tenant:slow": LimitRow(total_rate=Rate(2, 60 * S)),
            "big/domain:acme.example": LimitRow(total_rate=Rate(4, 60 * S)),
        },
    )
    tenant = config.tenants["acme"]
    night = Window((True,) * 7, 0, 1, UTC)
    tenants = {name: replace(tenant, name=name) for name in ("acme", "globex", "slow")}
    tenants["night"] = replace(tenant, name="night", windows={"bulk": night})
    held = replace(config.classes["bulk"], unknown=UnknownPolicy("hold"))
    return World(replace(config, tenants=tenants, classes={**config.classes, "bulk": held}))


def step(world: World, at: int, what: str, more: object) -> None:  # noqa: PLR0912 - one for each kind
    match what, more:
        case "mail", str(tenant):
            pool = ("main", "one")[at % 3 == 0]
            world.deliver(f"d{at}", tenant=tenant, tags=("a",) if at % 2 else (), pool=pool)
        case "started", _ if world.grants:
            world.started(world.grants[0])
        case "site", _:
            world.deliver(f"d{at}", provider=None, site=f"mx{at % 3}.example", pool="gone")
        case "unknown", _:
            world.deliver(f"d{at}", site=None, provider=None)
        case "answer", (result, category, scope) if world.grants:
            world.answer(world.grants.pop(0), result, category, scope)  # type: ignore[arg-type]
        case "pause", dict():
            order(world, "pause", expires_ns=world.now + 100 * S, **more)
        case "reroute", str(pool):
            order(world, "reroute", tenant="globex", pool=pool)
        case "cancel", _:
            order(world, "cancel", tenant="slow")
        case "sender", int(slot):
            if world.epochs.pop(slot, None) is None:
                world.claim(slot)
        case "restart", _:
            world.commit()
            world.restart()
        case "turn", float(seconds):
            world.turn(seconds)
        case _:
            pass


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_every_delivery_is_explained_by_one_thing_whatever_happens(
    steps: list[tuple[str, object]],
) -> None:
    world = of_all_kinds()
    begin: list[tuple[str, object]] = [("mail", name) for name in ("acme", "slow", "night") * 2]
    for at, (what, more) in enumerate([*begin, ("turn", 15.0), *steps]):
        step(world, at, what, more)
        for entry in world.ledger.entries.values():
            reason, found = world.ledger.reason(entry), world.ledger.explain(entry)
            assert {reason, found.bound.reason} <= REASONS_TOLD
            assert found.bound.scope
            assert found.eta_ns is None or found.eta_ns >= world.ledger.now_ns
            endless = found.bound.reason in ENDLESS or is_so(world, entry, "no_source")
            assert found.eta_ns is not None or endless, found.bound
            until = found.bound.until_ns
            assert until is None or found.eta_ns is None or found.eta_ns >= until
            assert is_so(world, entry, found.bound.reason), found.bound
    counted = Counter(reason for _, reason in world.ledger.reasons())
    assert counted.total() == len(world.ledger.entries)


def is_so(world: World, entry: DeliveryState, reason: str) -> bool:  # noqa: PLR0911, PLR0912 - one for each reason
    """Say whether what is said to bind a delivery is there, as far as one can see it from without."""
    now_ns, live = world.ledger.now_ns, set(world.ledger._queues.sources.live)
    match reason:
        case "granted" | "started":
            return entry.open is not None and (entry.open.started_ns is None) == (
                reason == "granted"
            )
        case _ if entry.open is not None:
            return False
        case "held":
            return entry.held
        case "dns":
            return entry.site is None
        case "retry" | "not_before":
            return entry.due_ns > now_ns and (entry.n > 0) == (reason == "retry")
        case "directive":
            return any(each.order.action == "pause" for each in world.view.in_force(now_ns))
        case "no_source":
            pool = world.config.pools.get(entry.pool)
            names = () if pool is None else pool.sources
            slots = {world.config.sources[name].slot for name in names}
            return not slots & live or entry.pinned not in {None, *live}
        case "window":
            return entry.tenant == "night"
        case "tenant_rate":
            return entry.tenant == "slow"
        case "domain_rate" | "total_rate":
            return entry.provider == "big"
        case "paused":
            # One whose time is over is still to be probed.
            return any(pair.pause != CLEAR for pair in world.ledger._pairs._pairs.values())
        case "suspended":
            return bool(world.ledger._pairs.suspended(now_ns)) or entry.provider == "big"
        case _:
            return reason in {"due", "rate", "credit"}


def test_what_is_granted_goes_at_its_time_and_not_since_a_time_to_come() -> None:
    world = World(make_settings(big=LimitRow(rate=Rate(60, 60 * S))))
    for at in range(3):
        world.deliver(f"d{at}", pool="one")
    world.turn(2)
    out = [world.ledger.entries[grant.id] for grant in world.grants]
    assert len(out) == 3
    for entry, grant in zip(out, world.grants, strict=True):
        found = world.ledger.explain(entry)
        assert (found.bound.reason, found.eta_ns) == ("granted", grant.t0_ns)
        assert (found.bound.since_ns or world.now) <= world.now
    world.started(world.grants[0])
    assert world.ledger.explain(out[0]).bound.since_ns == world.now


def test_what_has_no_source_says_what_is_lacking() -> None:
    world = closed()
    world.deliver("d1", pool="main")
    world.deliver("d2", pool="gone")
    world.deliver("d3", pool="main", pinned=1, n=1)
    world.turn(1)
    told = {id_: world.ledger.explain(entry) for id_, entry in world.ledger.entries.items()}
    assert {each.bound.reason for each in told.values()} == {"no_source"}
    assert told["d1"].bound.detail == "no sender has ip-0, ip-1"
    assert told["d2"].bound.detail.startswith("no such pool is configured")
    assert told["d3"].bound.detail == "no sender has ip-1"


def test_of_each_reason_a_time_is_foretold_or_none_can_be() -> None:
    """The simulator holds what is foretold against what comes, one day for each."""
    kinds = [ENDLESS, TIMED, frozenset(DAYS)]
    assert frozenset().union(*kinds) == REASONS_TOLD
    assert sum(map(len, kinds)) == len(REASONS_TOLD)


@pytest.mark.parametrize("due_s", [0, 1200])
def test_what_is_tied_to_a_source_that_is_away_goes_by_another_when_it_was_foretold(
    due_s: int,
) -> None:
    """A retry after greylisting, whose source has lost its sender."""
    world = World()
    del world.epochs[0]
    world.turn(60)
    asked = world.now
    world.deliver("d1", pool="main", pinned=0, n=1, not_before_ns=asked + due_s * S)
    world.turn()
    found = world.ledger.explain(world.ledger.entries["d1"])
    assert found.bound.reason == ("retry" if due_s else "no_source")
    assert found.eta_ns is not None
    while not world.grants:
        world.turn(10)
    assert world.only().slot == 1
    assert abs(world.now - found.eta_ns) <= 0.2 * (world.now - asked)


def test_while_no_other_source_is_there_nobody_knows_when_what_is_tied_to_one_goes() -> None:
    world = closed()
    world.deliver("d1", pool="main", pinned=0, n=1)
    world.turn(1)
    assert world.ledger.explain(world.ledger.entries["d1"]).eta_ns is None
