"""Operators' orders: to which mail they are done, once, whatever happens in between."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.policy.decisions import Forwarded
from services.scheduler.policy.orders import DONE
from services.scheduler.rewriting import forwarded_value
from shared.records.codec import encode
from shared.records.control import Directive, OrderedRate
from shared.records.delivery import DELIVERY, Delivery
from shared.records.event import Event
from shared.records.lanemap import propose
from shared.runtime.settings import LimitRow, Pool, Rate, Source, Tenant
from shared.runtime.workings import Kafka
from tests.unit.services.scheduler.policy.test_ledger import START, S, World, holding, make_settings
from tests.unit.services.scheduler.policy.test_limits import most_in_a_window

_serial = itertools.count()


def order(world: World, action: str, **more: object) -> Directive:
    """Let an operator order it, a millisecond after all that was accepted until now."""
    world.now += S // 1000
    said: dict[str, object] = {
        "id": f"{action}-{next(_serial)}",
        "action": action,
        "reason": "why",
        "author": "ada",
        "expires_ns": world.now + 8 * 86_400 * S,
    }
    directive = Directive(**said | more)  # type: ignore[arg-type]
    world.control(directive)
    return directive


def ends(world: World) -> Counter[str]:
    return Counter(event.type for event in world.events if event.final)


def told(world: World, phase: str) -> list[Event]:
    return [event for event in world.events if event.order and event.order.phase == phase]


def hits(world: World, phase: str = "done") -> list[int]:
    return [event.order.hits for event in told(world, phase) if event.order]


def closed() -> World:
    """Nothing can be granted: no slot's owner lives."""
    world = World()
    world.epochs.clear()
    world.now += 60 * S
    return world


@pytest.mark.parametrize("action", ["cancel", "expire"])
def test_what_waits_and_fits_is_ended_once_and_counted(action: str) -> None:
    world = closed()
    for at in range(30):
        world.deliver(f"d{at}", tags=("sale",) if at % 3 == 0 else ("news",))
    directive = order(world, action, tag="sale", tenant="acme")
    world.turn(1)
    kind = "cancelled" if action == "cancel" else "expired"
    assert ends(world) == {kind: 10}
    assert hits(world) == [10]
    (first, *_), (done,) = [e for e in world.events if e.final], told(world, "done")
    assert first.order is not None
    assert (first.order.id, first.order.author) == (directive.id, "ada")
    assert first.reason == "ordered by ada: why"
    assert done.order is not None
    assert (done.order.selector, done.order.partition) == ("tenant=acme,tag=sale", 0)
    assert len(world.ledger.entries) == 20
    world.restart()
    world.turn(1)
    assert hits(world) == [10], "it is not done again"


def test_what_was_ordered_while_it_was_out_is_done_before_an_unknown_delivery_is_held() -> None:
    world = holding()
    for id_ in ("d1", "d2"):
        world.deliver(id_)
    world.turn()
    order(world, "cancel", delivery="d1")
    order(world, "rush", delivery="d2")
    world.turn(1)
    for grant in world.grants:
        world.answer(grant, "unknown")
    world.turn(1)
    assert ends(world) == {"cancelled": 1}
    assert [reason for _, reason in world.ledger.reasons()] == ["held"], "d2: nobody knew it then"
    order(world, "rush", delivery="d2")
    world.turn(1)
    assert world.grants[-1].attempt == "d2:2"


def test_mail_that_is_accepted_after_the_order_is_not_meant() -> None:
    world = closed()
    world.deliver("before")
    order(world, "cancel", tenant="acme")
    world.deliver("after")
    world.turn(1)
    assert list(world.ledger.entries) == ["after"]


def test_mail_that_comes_late_is_met_when_it_comes() -> None:
    world = closed()
    accepted = world.now
    order(world, "cancel", tenant="acme")
    world.turn(1)
    assert hits(world) == [0]
    world.restart()
    world.deliver("late", accepted_ns=accepted)
    world.deliver("other", accepted_ns=accepted, tenant="globex")
    world.turn(1)
    assert ends(world) == {"cancelled": 1}
    assert list(world.ledger.entries) == ["other"]
    # The last word counts it.
    world.turn(9 * 86_400)
    assert hits(world, "ended") == [1]
    assert not [key for key in world.state if key.startswith("o/")], "and it is forgotten"


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ("delivered", ["delivered"]),
        ("deferred", ["deferred", "cancelled"]),
        ("pair_failed", ["cancelled"]),
    ],
)
def test_an_attempt_that_is_out_is_finished_first(result: str, said: list[str]) -> None:
    world = World()
    world.deliver("d1")
    world.turn()
    grant = world.only()
    world.started(grant)
    order(world, "cancel", delivery="d1")
    world.turn(1)
    world.restart()
    world.turn(1)
    assert world.said() == ["directive"]
    world.answer(grant, result)  # type: ignore[arg-type]
    world.commit()
    assert world.said()[1:] == said


def test_a_large_cancel_goes_in_portions_and_others_are_granted_meanwhile() -> None:
    world = World()
    many = DONE + 500
    for at in range(many):
        world.deliver(f"d{at}", not_before_ns=world.now + 3600 * S)
    order(world, "cancel", tenant="acme")
    world.deliver("other", tenant="globex")
    world.turn()
    assert ends(world) == {"cancelled": DONE}
    assert world.only().id == "other"
    assert world.ledger.next_ns() <= world.now, "the rest does not wait for anything to come"
    world.restart()
    world.turn()
    assert ends(world) == {"cancelled": many}
    assert hits(world) == [many]


def test_rerouted_mail_goes_from_the_other_pool_and_takes_that_along() -> None:
    world = World()
    world.deliver("d1", pinned=1)
    world.deliver("d2")
    order(world, "reroute", delivery="d1", pool="one")
    order(world, "reroute", delivery="d2", pool="no-such-pool")
    world.turn()
    assert {grant.id: grant.slot for grant in world.grants}["d1"] == 0
    assert world.ledger.entries["d2"].pool == "main"
    assert hits(world) == [1, 0]


def test_rerouted_mail_takes_its_pool_along_to_another_partition_and_is_not_rerouted_again() -> (
    None
):
    world = closed()
    record = world.deliver("d1")
    order(world, "reroute", tenant="acme", pool="one")
    world.turn()
    entry = world.ledger.entries["d1"]
    value = forwarded_value(Forwarded(entry, 1, 2), encode(record))
    copy = DELIVERY.decode(value)
    assert isinstance(copy, Delivery)
    assert copy.pool == "one"
    other = closed()
    order(other, "reroute", tenant="acme", pool="main")
    other.turn()
    other.ledger.on_delivery("bulk", 0, copy)
    assert other.ledger.entries["d1"].pool == "one"
    assert entry.ordered > 0


def deferred(world: World, category: str = "") -> None:
    world.deliver("d1", pool="one")
    world.turn()
    world.answer(world.only(), "deferred", category)
    world.commit()


def test_a_rush_cuts_a_retry_short_once() -> None:
    world = World()
    deferred(world)
    order(world, "rush", tenant="acme")
    world.turn(1)
    grant = world.only()
    world.answer(grant, "deferred")
    world.turn(1)
    world.restart()
    world.turn(1)
    assert world.grants == [], "its next retry waits as long as it must"
    assert hits(world) == [1]


def test_a_rush_does_not_hurry_what_is_out_already() -> None:
    world = World()
    world.deliver("d1", pool="one")
    world.turn()
    grant = world.only()
    order(world, "rush", tenant="acme")
    world.turn(1)
    world.answer(grant, "deferred")
    world.turn(1)
    assert world.grants == []


def test_a_rush_keeps_to_greylisting_and_to_not_before() -> None:
    world = World()
    deferred(world, "greylist")
    world.deliver("d2", not_before_ns=world.now + 3600 * S)
    order(world, "rush", tenant="acme")
    world.turn(250)
    assert world.grants == []
    world.turn(51)
    assert world.only().id == "d1"


def test_what_is_held_goes_only_if_it_is_named() -> None:
    world = closed()
    world.deliver("d1", held=True, n=1)
    order(world, "rush", tenant="acme")
    world.turn(1)
    assert world.ledger.entries["d1"].held
    order(world, "rush", delivery="d1")
    world.turn(1)
    assert not world.ledger.entries["d1"].held


def reasons(world: World) -> dict[str, str]:
    return {entry.id: reason for entry, reason in world.ledger.reasons()}


@pytest.mark.parametrize(
    "names",
    [
        {"tag": "sale"},
        {"domain": "x.example", "tag": "sale"},
        {"stream": "news"},
        {"class_": "bulk", "stream": "news"},
        {"delivery": "paused"},
        {"accepted_before_ns": START + 1},
    ],
)
def test_a_pause_of_anything_keeps_it_until_its_end_and_nothing_else(
    names: dict[str, object],
) -> None:
    world = World()
    world.deliver("paused", tags=("sale",), stream="news", accepted_ns=START)
    order(world, "pause", expires_ns=world.now + 60 * S, **names)
    for at in range(3):
        world.deliver(f"free{at}", accepted_ns=START + S)
    world.turn()
    assert {grant.id for grant in world.grants} == {"free0", "free1", "free2"}
    assert reasons(world)["paused"] == "directive"
    world.restart()
    world.turn(30)
    assert len(world.grants) == 3
    world.turn(40)
    assert "paused" in {grant.id for grant in world.grants}
    assert hits(world, "ended") == [1]


@pytest.mark.parametrize(
    "names",
    [
        {"provider": "big"},
        {"provider": "big", "tenant": "acme"},
        {"provider": "big", "source": "relay"},
    ],
)
@pytest.mark.parametrize("first", ["held", "free"])
def test_a_pause_of_a_provider_keeps_what_a_smart_host_sends_there_and_nothing_else_that_it_sends(
    names: dict[str, str], first: str
) -> None:
    base = make_settings()
    relay = Source("relay", 1, "smarthost", "none", host="relay.example.net")
    sources = {"ip-0": base.sources["ip-0"], "relay": relay}
    pools = {"main": Pool("main", {"relay": 1})}
    world = World(replace(base, sources=sources, pools=pools))
    world.control(propose(1, 1, world.config.providers, ["relay"]))
    order(world, "pause", expires_ns=world.now + 60 * S, **names)
    sites = {"held": ("big", "mx.big.example"), "free": (None, "mx.small.example")}
    for which in sorted(sites, key=lambda each: each != first):
        for at in range(3):
            world.deliver(f"{which}{at}", provider=sites[which][0], site=sites[which][1])
    world.turn()
    assert {grant.id for grant in world.grants} == {"free0", "free1", "free2"}
    assert reasons(world)["held0"] == "directive"
    assert world.ledger.explain(world.ledger.entries["held0"]).bound.reason == "directive"
    world.restart()
    world.turn(30)
    assert len(world.grants) == 3
    for _ in range(70):
        world.turn(1)
    assert len({grant.id for grant in world.grants}) == 6


def test_a_resume_ends_a_pause_at_once_and_says_by_whom() -> None:
    world = World()
    pause = order(world, "pause", tag="sale", expires_ns=None)
    world.deliver("d1", tags=("sale",))
    world.turn(1)
    assert world.grants == []
    order(world, "resume", id=pause.id, author="bob", reason="over")
    world.turn(0)
    assert world.only().id == "d1"
    (ended,) = told(world, "ended")
    assert ended.reason == "resume by bob: over"


def test_what_a_pause_keeps_can_still_expire_or_be_cancelled() -> None:
    world = World()
    order(world, "pause", tag="sale", expires_ns=None)
    world.deliver("d1", tags=("sale",), expires_ns=world.now + 100 * S)
    world.deliver("d2", tags=("sale",))
    world.turn(1)
    order(world, "cancel", delivery="d2")
    world.turn(1)
    world.turn(120)
    assert ends(world) == {"expired": 1, "cancelled": 1}
    assert world.grants == []


def test_what_a_pause_keeps_fills_its_share_of_the_memory() -> None:
    world = World()
    order(world, "pause", tag="sale", expires_ns=None)
    for at in range(7):
        world.deliver(f"d{at}", tags=("sale",))
    world.turn(1)
    entry = world.ledger.entries["d0"]
    unit = next(iter(world.ledger.orders._kept_of))
    assert world.ledger.orders.keeping(unit) == 7
    world.ledger._settling.drop(entry)
    assert world.ledger.orders.keeping(unit) == 6


MAIL = st.fixed_dictionaries(
    {
        "tags": st.sampled_from([(), ("a",), ("b",), ("a", "b")]),
        "tenant": st.sampled_from(["acme", "globex"]),
    }
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("mail"), MAIL),
        st.tuples(st.just("late"), MAIL),
        st.tuples(st.just("cancel"), st.sampled_from([{"tag": "a"}, {"tenant": "globex"}])),
        st.tuples(st.just("answer"), st.sampled_from(["delivered", "deferred", "pair_failed"])),
        st.tuples(st.just("restart"), st.none()),
        st.tuples(st.just("turn"), st.sampled_from([0.1, 5.0])),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_whatever_happens_an_order_ends_what_it_is_about_and_counts_what_it_ended(
    steps: list[tuple[str, object]],
) -> None:
    world = World(make_settings())
    orders: list[tuple[Directive, int]] = []
    mail: dict[str, Delivery] = {}
    for at, (what, more) in enumerate(steps):
        match what, more:
            case "mail", dict():
                mail[f"d{at}"] = world.deliver(f"d{at}", **more)
            case "late", dict():
                mail[f"d{at}"] = world.deliver(f"d{at}", accepted_ns=START - S, **more)
            case "cancel", dict():
                orders.append((order(world, "cancel", **more), world.now))
            case "answer", str(result) if world.grants:
                world.answer(world.grants.pop(0), result)  # type: ignore[arg-type]
            case "restart", _:
                world.commit()
                world.restart()
            case "turn", float(seconds):
                world.turn(seconds)
            case _:
                pass
    world.turn(1)
    world.turn(1)
    finals = Counter(event.delivery for event in world.events if event.final)
    assert max(finals.values(), default=1) == 1
    cancelled = {e.delivery: e.order for e in world.events if e.type == "cancelled"}

    def about(record: Delivery) -> set[str]:
        return {
            directive.id
            for directive, stamp in orders
            if record.accepted_ns < stamp
            and directive.tag in (None, *record.tags)
            and directive.tenant in (None, record.tenant)
        }

    for id_, by in cancelled.items():
        assert by is not None
        assert id_ is not None
        assert by.id in about(mail[id_])
    for entry in world.ledger.entries.values():
        assert entry.open is not None or not about(mail[entry.id])
    # Hits that came after an order was done are counted in its memory.
    memory = {state.id: state.hits for state in world.ledger.orders._states.values()}
    by_order = Counter(by.id for by in cancelled.values() if by is not None)
    assert memory == {directive.id: by_order[directive.id] for directive, _ in orders}


def spacing(world: World) -> set[tuple[int, int, int]]:
    return {(grant.slot, grant.spacing_ns, grant.connections) for grant in world.grants}


@settings(deadline=None)
@given(st.integers(1, 99))
def test_what_is_slowed_has_that_part_of_its_rate_and_connections_until_it_ends(
    percent: int,
) -> None:
    world = World(make_settings(big=LimitRow(rate=Rate(60, 60 * S), connections=20)))
    slow = order(world, "slow", provider="big", percent=percent, expires_ns=world.now + 600 * S)
    order(world, "slow", provider="other", percent=1)
    for at in range(4):
        world.deliver(f"d{at}", pool="one")
    world.turn()
    world.turn(200)
    ((_, interval, connections),) = spacing(world)
    period = -(-60 * S * 100 // percent)
    assert interval == -(-period // 60)
    assert connections == max(1, 20 * percent // 100)
    world.grants.clear()
    order(world, "resume", id=slow.id)
    world.turn(400)
    assert {each[1:] for each in spacing(world)} == {(S, 20)}


def test_a_limit_takes_the_configured_ones_place_and_of_two_the_strictest_holds() -> None:
    world = World(make_settings(big=LimitRow(rate=Rate(60, 60 * S), connections=5)))
    order(world, "limit", provider="big", connections=8)
    order(world, "limit", source="ip-0", rate=OrderedRate(count=2, period_ns=S))
    order(world, "limit", source="ip-0", rate=OrderedRate(count=4, period_ns=S))
    for at in range(6):
        world.deliver(f"d{at}")
    world.turn()
    assert spacing(world) == {(0, S // 2, 8), (1, S, 8)}


def two_tenants(**rows: LimitRow) -> World:
    base = make_settings(**rows)
    tenants = {
        name: Tenant(name, (f"{name}.example",), {"transactional": "main", "bulk": "main"})
        for name in ("acme", "other")
    }
    return World(replace(base, tenants=tenants, kafka=Kafka(partitions=1)))


def starts(world: World, tenant: str, provider: str | None = None) -> list[int]:
    return [
        grant.t0_ns
        for grant in world.grants
        if grant.tenant == tenant and provider in (None, grant.provider)
    ]


@pytest.mark.parametrize("provider", ["big", None])
def test_a_tenants_limit_is_kept_over_all_sources_until_it_ends_and_holds_back_nobody_else(
    provider: str | None,
) -> None:
    """Restarts change nothing of it, and what the tenant's own row says counts again when the order is over."""
    world = two_tenants(**{"tenant:acme": LimitRow(total_rate=Rate(3000, 60 * S))})
    rate = OrderedRate(count=30, period_ns=60 * S)
    directive = order(world, "limit", tenant="acme", provider=provider, total_rate=rate)
    for at in range(150):
        for tenant in ("acme", "other"):
            world.deliver(f"{tenant}{at}", tenant=tenant)
    answered = 0
    for second in range(100):
        if second % 40 == 39:
            world.restart()
        world.turn(1)
        for grant in world.grants[answered:]:
            world.answer(grant, "delivered")
        world.commit()
        answered = len(world.grants)
    assert len(starts(world, "other")) == 150
    assert 30 <= len(starts(world, "acme")) <= 60
    assert most_in_a_window(starts(world, "acme"), 60 * S) <= 30
    assert set(reasons_of(world)) == {"tenant_rate"}
    order(world, "resume", id=directive.id)
    for _ in range(40):
        world.turn(1)
    assert len({grant.id for grant in world.grants if grant.tenant == "acme"}) == 150
    assert hits(world)[0] == 150


def run(world: World, seconds: int) -> None:
    """Let each grant be answered, and the partition be restarted now and then."""
    for second in range(seconds):
        if second % 50 == 49:
            world.restart()
        answered = len(world.grants)
        world.turn(1)
        for grant in world.grants[answered:]:
            world.answer(grant, "delivered")
        world.commit()


@pytest.mark.parametrize("provider", ["big", None])
@pytest.mark.parametrize("row", ["tenant:acme", "big/tenant:acme"])
def test_a_slowed_tenant_has_a_part_of_its_rate_until_it_ends_and_nobody_else_has_less(
    row: str, provider: str | None
) -> None:
    """A part of its row, or of what an order gave it in place of that; at a provider only of what it has there."""
    world = two_tenants(**{row: LimitRow(total_rate=Rate(120, 60 * S))})
    slowed = order(world, "slow", tenant="acme", provider=provider, percent=25)
    about = provider is None or row.startswith(provider)
    for at in range(300):
        for tenant in ("acme", "other"):
            world.deliver(f"{tenant}{at}", tenant=tenant)
    run(world, 120)
    assert len(starts(world, "other")) == 300
    # 120 in a minute, or in four, and in what a start may move; a round a second finds a token later than it comes.
    went = len(starts(world, "acme"))
    assert (38 <= went <= 60) if about else went >= 110
    assert most_in_a_window(starts(world, "acme"), 60 * S) <= (30 if about else 120)
    order(world, "resume", id=slowed.id)
    run(world, 280)
    assert len({grant.id for grant in world.grants if grant.tenant == "acme"}) == 300


def test_a_slowed_tenant_that_was_limited_has_a_part_of_that() -> None:
    world = two_tenants()
    rate = OrderedRate(count=60, period_ns=60 * S)
    order(world, "limit", tenant="acme", provider="big", total_rate=rate)
    order(world, "slow", tenant="acme", percent=50)
    order(world, "slow", tenant="other", percent=1)
    for at in range(100):
        for tenant in ("acme", "other"):
            world.deliver(f"{tenant}{at}", tenant=tenant)
    run(world, 120)
    assert 38 <= len(starts(world, "acme")) <= 60
    # What has no rate has no part of one: the command refuses it, and the policy does nothing.
    assert len({grant.id for grant in world.grants if grant.tenant == "other"}) == 100


def reasons_of(world: World) -> list[str]:
    return [reason for entry, reason in world.ledger.reasons() if entry.open is None]


def test_a_tenants_limit_at_a_provider_is_of_its_mail_there_alone() -> None:
    world = two_tenants()
    rate = OrderedRate(count=1, period_ns=3600 * S)
    order(world, "limit", tenant="acme", provider="big", total_rate=rate)
    for at in range(5):
        world.deliver(f"big{at}")
        world.deliver(f"small{at}", provider=None, site="mx.small.example")
    for _ in range(5):
        world.turn(1)
    assert len(starts(world, "acme", "big")) == 1
    assert len(starts(world, "acme")) == 6


def test_of_two_limits_of_a_tenant_the_strictest_holds_and_the_pairs_are_as_before() -> None:
    world = two_tenants(big=LimitRow(rate=Rate(60, 60 * S), connections=5))
    for count in (4, 2, 3):
        rate = OrderedRate(count=count, period_ns=3600 * S)
        order(world, "limit", tenant="acme", provider="big", total_rate=rate)
    for at in range(9):
        world.deliver(f"d{at}")
    for _ in range(30):
        world.turn(60)
    assert len(starts(world, "acme")) == 1, "two an hour, and no burst"
    assert {each[1:] for each in spacing(world)} == {(S, 5)}
