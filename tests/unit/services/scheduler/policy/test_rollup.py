"""What waits counts with the provider that the settings give its site, whatever they called that when it came."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.entries import waiting
from services.scheduler.policy.rollup import Rollup
from shared.runtime.providers import HASHED, provider_of, site_of
from shared.runtime.settings import LimitRow, Provider, Rate, Route, Settings
from tests.unit.services.scheduler.policy.making import delivery
from tests.unit.services.scheduler.policy.test_ledger import START, S, World, holding, make_settings

SLOW = LimitRow(rate=Rate(1, 10 * S))


def called(name: str, *suffixes: str, domains: tuple[str, ...] = ()) -> dict[str, Provider]:
    return {name: Provider(name, suffixes, domains)}


def gone_by(world: World, providers: dict[str, Provider], **more: object) -> None:
    """Let the partition go on under another configuration."""
    world.commit()
    world.config = replace(world.config, providers=providers, **more)  # type: ignore[arg-type]
    world.restart()


def names(world: World) -> set[str | None]:
    return {entry.provider for entry in world.ledger.entries.values()}


@pytest.mark.parametrize(
    ("providers", "name"),
    [
        (called("bigger", ".big.example"), "bigger"),
        (called("group", ".big.example", ".other.example"), "group"),
        (called("own", domains=("x.example",)), "own"),
        ({}, None),
        (called("big", ".elsewhere.example"), None),
    ],
    ids=["renamed", "joined", "listed", "no more", "other hosts"],
)
def test_what_waits_has_the_name_that_its_provider_has_now(
    providers: dict[str, Provider], name: str | None
) -> None:
    world = World(make_settings(big=SLOW))
    for at in range(6):
        world.deliver(f"d{at}")
    world.turn(12)
    gone_by(world, providers)
    out = {grant.id for grant in world.grants}
    assert out
    waiting_ = {id_: entry.provider for id_, entry in world.ledger.entries.items()}
    assert {provider for id_, provider in waiting_.items() if id_ not in out} == {name}
    assert {provider for id_, provider in waiting_.items() if id_ in out} == {"big"}
    for grant in world.grants:
        world.answer(grant, "deferred")
    assert names(world) == {name}


def test_a_renamed_providers_mail_has_one_rate_and_not_two() -> None:
    world = World(make_settings(big=SLOW))
    for at in range(10):
        world.deliver(f"d{at}", pool="one")
    world.turn(2)
    world.grants.clear()
    gone_by(world, called("bigger", ".big.example"), limits={"bigger": SLOW, **world.config.limits})
    for at in range(10):
        world.deliver(f"e{at}", pool="one", provider="bigger")
    began = world.now
    for _ in range(120):
        world.turn(1)
    starts = sorted(grant.t0_ns for grant in world.grants)
    assert {grant.limit_key for grant in world.grants} == {"bigger"}
    assert {grant.id[0] for grant in world.grants} == {"d", "e"}
    assert len(starts) >= (world.now - began) // (10 * S) - 1
    assert all(late - early >= 10 * S for early, late in pairwise(starts))


def test_what_is_held_after_its_attempt_is_let_go_under_the_name_of_now() -> None:
    """It was out when the configuration changed, so that nobody had named it anew."""
    world = holding()
    world.deliver("d1")
    world.turn()
    gone_by(world, called("bigger", ".big.example"))
    world.answer(world.only(), "unknown")
    assert [reason for _, reason in world.ledger.reasons()] == ["held"]
    assert names(world) == {"bigger"}


def test_what_comes_with_a_name_that_nobody_here_knows_is_named_anew() -> None:
    """Ingest has gone on under settings that the scheduler has not read yet, or the record was parked."""
    world = World(make_settings())
    world.deliver("d1", provider="bigger")
    world.deliver("d2", provider="bigger", site="mx.tiny.example")
    found = {id_: entry.provider for id_, entry in world.ledger.entries.items()}
    assert found == {"d1": "big", "d2": None}


def test_what_another_partition_sent_on_is_not_sent_back_for_its_name() -> None:
    world = World(make_settings())
    world.deliver("d1", provider="bigger", hop=1)
    assert names(world) == {"bigger"}


def test_a_route_says_whose_it_is_as_long_as_it_leads_there() -> None:
    route = Route("x.example", (("127.0.0.1", 2525),), "other")
    world = World(make_settings())
    world.deliver("d1", site=route.site, provider="big")
    gone_by(world, dict(world.config.providers), routes={"x.example": route})
    assert names(world) == {"other"}


def test_a_site_that_does_not_say_its_hosts_is_asked_for_where_its_provider_is_gone() -> None:
    hosts = [f"mx{at}.a-rather-long-name.big.example" for at in range(20)]
    site = site_of(hosts)
    assert HASHED in site
    world = World(make_settings())
    world.deliver("d1", site=site, provider="big")
    world.deliver("d2", site=site, provider=None)
    world.turn()
    world.grants.clear()
    entries = dict(world.ledger.entries.items())
    rollup = Rollup(replace(world.config, providers=called("bigger", ".big.example")))
    assert rollup.renew(entries["d1"])
    assert (entries["d1"].site, entries["d1"].provider) == (None, None)
    assert not rollup.renew(entries["d2"])
    assert entries["d2"].site == site


HOST = st.sampled_from(["mx1.big.example", "mx2.big.example", "mx.tiny.example", "a.b.small.test"])
ROWS = st.dictionaries(
    st.sampled_from(["big", "small", "own"]),
    st.tuples(
        st.lists(st.sampled_from([".big.example", ".tiny.example", ".small.test"]), max_size=2),
        st.lists(st.sampled_from(["x.example", "y.example"]), max_size=1),
    ),
)


@given(ROWS, st.lists(HOST, min_size=1, max_size=3), st.sampled_from(["x.example", "y.example"]))
def test_it_says_what_a_look_up_would_say(
    rows: dict[str, tuple[list[str], list[str]]], hosts: list[str], domain: str
) -> None:
    providers = {
        name: Provider(name, tuple(mx), tuple(domains)) for name, (mx, domains) in rows.items()
    }
    record = delivery("d1", START, S, domain=domain, site=site_of(hosts), provider="before")
    entry = waiting(record, "bulk", 0)
    settings: Settings = replace(make_settings(), providers=providers)
    for _ in range(2):
        Rollup(settings).renew(entry)
        assert entry.provider == provider_of(domain, hosts, providers)
