"""Destinations, asked of a real name server on loopback."""

import asyncio
import itertools
from dataclasses import dataclass, replace
from typing import Any

import pytest

from shared.net.destinations import (
    DOUBTED_NS,
    MAX_ADDRESSES,
    MAX_HOSTS,
    Destination,
    Destinations,
    Host,
    NoDomain,
    NullMX,
    Unresolved,
)
from shared.runtime.clock import SystemClock
from shared.runtime.defaults import PROVIDERS
from shared.runtime.settings import Route, Settings
from shared.runtime.workings import Dns
from tests.support.nameserver import Nameserver

S = 1_000_000_000


@dataclass
class AheadClock(SystemClock):
    """The machine's clock, moved on."""

    ahead_ns: int = 0

    def mono_ns(self) -> int:
        return super().mono_ns() + self.ahead_ns


def destinations(
    server: Nameserver, clock: AheadClock | None = None, *, timeout_ns: int = 2 * S, **more: Any
) -> Destinations:
    settings = Settings(
        providers=PROVIDERS, dns=Dns(("127.0.0.1",), server.port, timeout_ns), **more
    )
    return Destinations(settings, clock or AheadClock())


async def test_mx_hosts_come_lowest_preference_first_and_name_the_site() -> None:
    zone = {"a.test": {"MX": ["20 MX2.A.test.", "10 mx1.a.test."]}}
    async with Nameserver(zone) as server:
        assert await destinations(server).resolve("a.test") == Destination(
            (Host(10, "mx1.a.test"), Host(20, "mx2.a.test")), "mx1.a.test,mx2.a.test", None
        )


async def test_a_domain_at_a_large_provider_is_rolled_up_to_it() -> None:
    zone = {"a.test": {"MX": ["1 aspmx.l.google.com.", "5 alt1.aspmx.l.google.com."]}}
    async with Nameserver(zone) as server:
        found = await destinations(server).resolve("a.test")
    assert isinstance(found, Destination)
    assert (found.provider, found.limit_key) == ("gmail", "gmail")


async def test_a_host_that_is_named_twice_counts_once_with_its_best_preference() -> None:
    zone = {"a.test": {"MX": ["30 mx.a.test.", "10 mx.a.test.", "20 b.a.test."]}}
    async with Nameserver(zone) as server:
        found = await destinations(server).resolve("a.test")
    assert isinstance(found, Destination)
    assert found.hosts == (Host(10, "mx.a.test"), Host(20, "b.a.test"))


@pytest.mark.parametrize("kind", ["A", "AAAA"])
async def test_without_mx_the_domain_itself_is_the_host(kind: str) -> None:
    zone = {"a.test": {kind: ["8.8.8.8" if kind == "A" else "2606::1"]}}
    async with Nameserver(zone) as server:
        assert await destinations(server).resolve("a.test") == Destination(
            (Host(0, "a.test"),), "a.test", None
        )


async def test_a_name_that_does_not_exist_is_no_domain() -> None:
    async with Nameserver({}) as server:
        assert await destinations(server).resolve("a.test") == NoDomain("there is no such domain")


async def test_a_name_without_mx_and_address_is_no_domain() -> None:
    async with Nameserver({"a.test": {"TXT": ['"v=spf1 -all"']}}) as server:
        assert isinstance(await destinations(server).resolve("a.test"), NoDomain)


@pytest.mark.parametrize("name", ["a..test", f"{'x' * 64}.test", ".".join(["abcdefgh"] * 40)])
async def test_a_name_that_no_zone_can_hold_is_no_domain_and_nobody_is_asked(name: str) -> None:
    async with Nameserver({}) as server:
        assert isinstance(await destinations(server).resolve(name), NoDomain)
        assert not server.asked


async def test_null_mx_takes_no_mail() -> None:
    zone = {"a.test": {"MX": ["0 ."], "A": ["8.8.8.8"]}}
    async with Nameserver(zone) as server:
        assert await destinations(server).resolve("a.test") == NullMX()


async def test_a_root_beside_other_hosts_is_ignored() -> None:
    async with Nameserver({"a.test": {"MX": ["0 .", "10 mx.a.test."]}}) as server:
        found = await destinations(server).resolve("a.test")
    assert isinstance(found, Destination)
    assert found.hosts == (Host(10, "mx.a.test"),)


@pytest.mark.parametrize("records", [["0 .", "5 ."], ["10 192.0.2.1."]])
async def test_mx_records_that_name_no_host_never_fall_back_to_the_address(
    records: list[str],
) -> None:
    async with Nameserver({"a.test": {"MX": records, "A": ["8.8.8.8"]}}) as server:
        assert isinstance(await destinations(server).resolve("a.test"), NoDomain)
        assert ("a.test", "A") not in server.asked


@pytest.mark.parametrize("manner", ["servfail", "mute", "rubbish"])
async def test_servers_that_say_nothing_leave_it_unresolved(manner: Any) -> None:
    async with Nameserver({"a.test": manner}) as server:
        found = await destinations(server, timeout_ns=S // 2).resolve("a.test")
    assert isinstance(found, Unresolved)


async def test_the_whole_question_ends_in_its_total_time() -> None:
    """No MX, so two more questions follow; each answer takes most of the time that all three have."""
    async with Nameserver({"a.test": "empty"}, delay_s=0.4) as server:
        found = await destinations(server, timeout_ns=S // 2).resolve("a.test")
        assert isinstance(found, Unresolved)
        # The second answer is not waited for to its end, so the third question is never asked.
        assert ("a.test", "AAAA") not in server.asked


async def test_a_domain_that_is_an_alias_has_the_mx_of_its_target() -> None:
    zone = {
        "a.test": {"CNAME": ["b.test."]},
        "b.test": {"CNAME": ["c.test."]},
        "c.test": {"MX": ["10 mx.c.test."]},
    }
    async with Nameserver(zone) as server:
        found = await destinations(server).resolve("a.test")
    assert isinstance(found, Destination)
    assert found.site == "mx.c.test"


async def test_an_alias_without_mx_has_its_target_as_host() -> None:
    zone = {"a.test": {"CNAME": ["b.test."]}, "b.test": {"A": ["8.8.8.8"]}}
    async with Nameserver(zone) as server:
        found = await destinations(server).resolve("a.test")
    assert isinstance(found, Destination)
    assert found.site == "b.test"


async def test_a_dangling_alias_is_no_domain() -> None:
    async with Nameserver({"a.test": {"CNAME": ["gone.test."]}}) as server:
        assert isinstance(await destinations(server).resolve("a.test"), NoDomain)


@pytest.mark.parametrize("length", [2, 17])
async def test_aliases_in_a_circle_or_without_end_are_left_unresolved(length: int) -> None:
    names = [f"n{at}.test" for at in range(length)]
    zone = {
        name: {"CNAME": [f"{following}."]}
        for name, following in itertools.pairwise([*names, names[0]])
    }
    async with Nameserver(zone) as server:
        found = await destinations(server).resolve("n0.test")
    assert isinstance(found, Unresolved)


async def test_no_more_hosts_and_addresses_are_taken_than_the_bounds() -> None:
    zone = {
        "a.test": {"MX": [f"{at} mx{at:03}.a.test." for at in range(100)]},
        "mx.a.test": {"A": [f"8.8.8.{at}" for at in range(50)]},
    }
    async with Nameserver(zone) as server:
        ours = destinations(server)
        found = await ours.resolve("a.test")
        addresses = await ours.addresses("mx.a.test", "v4")
    assert isinstance(found, Destination)
    assert [host.preference for host in found.hosts] == list(range(MAX_HOSTS))
    assert isinstance(addresses, tuple)
    assert len(addresses) == MAX_ADDRESSES


async def test_addresses_are_those_of_the_sources_family() -> None:
    zone = {"mx.test": {"A": ["8.8.8.8"], "AAAA": ["2606::1"]}, "mx4.test": {"A": ["8.8.4.4"]}}
    async with Nameserver(zone) as server:
        ours = destinations(server)
        assert await ours.addresses("mx.test", "v4") == ("8.8.8.8",)
        assert await ours.addresses("mx.test", "v6") == ("2606::1",)
        assert await ours.addresses("mx4.test", "v6") == ()
        assert await ours.addresses("gone.test", "v4") == ()


async def test_an_address_is_its_own_address_in_its_family_only() -> None:
    async with Nameserver({}) as server:
        ours = destinations(server)
        assert await ours.addresses("127.0.0.1", "v4") == ("127.0.0.1",)
        assert await ours.addresses("127.0.0.1", "v6") == ()
        assert await ours.addresses("::1", "v6") == ("::1",)
        assert not server.asked


async def test_only_absolute_names_are_asked_for() -> None:
    async with Nameserver({}) as server:
        await destinations(server).resolve("a.test")
        assert set(server.asked) == {("a.test", "MX")}


async def test_many_who_ask_at_once_are_one_question() -> None:
    async with Nameserver({"a.test": {"MX": ["10 mx.a.test."]}}, delay_s=0.05) as server:
        ours = destinations(server)
        found = await asyncio.gather(*(ours.resolve("a.test") for _ in range(100)))
        assert len(set(found)) == 1
        assert server.asked["a.test", "MX"] == 1


async def test_an_answer_is_kept_for_its_ttl() -> None:
    async with Nameserver({"a.test": {"MX": ["10 mx.a.test."]}}, ttl=60) as server:
        clock = AheadClock()
        ours = destinations(server, clock)
        for clock.ahead_ns, asked in ((0, 1), (55 * S, 1), (61 * S, 2)):
            await ours.resolve("a.test")
            assert server.asked["a.test", "MX"] == asked


async def test_no_domain_is_kept_but_not_for_the_minute_after_which_it_is_asked_again() -> None:
    async with Nameserver({}, negative_ttl=86400) as server:
        clock = AheadClock()
        ours = destinations(server, clock)
        for clock.ahead_ns, asked in ((0, 1), (20 * S, 1), (45 * S, 2)):
            assert isinstance(await ours.resolve("a.test"), NoDomain)
            assert server.asked["a.test", "MX"] == asked


async def test_a_short_negative_ttl_is_honoured() -> None:
    async with Nameserver({}, negative_ttl=7) as server:
        clock = AheadClock()
        ours = destinations(server, clock)
        for clock.ahead_ns, asked in ((0, 1), (6 * S, 1), (8 * S, 2)):
            await ours.resolve("a.test")
            assert server.asked["a.test", "MX"] == asked


async def test_an_answer_that_is_doubted_is_asked_for_anew_whatever_its_ttl() -> None:
    async with Nameserver({"a.test": {"MX": ["10 mx.a.test."]}}) as server:
        clock = AheadClock()
        ours = destinations(server, clock)
        await ours.resolve("a.test")
        assert server.asked["a.test", "MX"] == 1
        clock.ahead_ns = 9 * S
        await ours.resolve("a.test", within_ns=DOUBTED_NS)
        assert server.asked["a.test", "MX"] == 1
        clock.ahead_ns = 11 * S
        await ours.resolve("a.test")
        assert server.asked["a.test", "MX"] == 1
        await ours.resolve("a.test", within_ns=DOUBTED_NS)
        assert server.asked["a.test", "MX"] == 2


async def test_no_answer_is_kept_for_seconds_only() -> None:
    async with Nameserver({"a.test": "servfail"}) as server:
        clock = AheadClock()
        ours = destinations(server, clock)
        await ours.resolve("a.test")
        first = server.asked["a.test", "MX"]
        await ours.resolve("a.test")
        assert server.asked["a.test", "MX"] == first
        clock.ahead_ns = 11 * S
        await ours.resolve("a.test")
        assert server.asked["a.test", "MX"] > first


async def test_a_route_is_taken_without_a_question() -> None:
    routes = {"*.shop.test": Route("*.shop.test", (("127.0.0.1", 2525), ("127.0.0.1", 2526)), "x")}
    async with Nameserver({}) as server:
        ours = destinations(server, routes=routes)
        found = await ours.resolve("mail.shop.test")
        assert found == Destination(
            (Host(0, "127.0.0.1", 2525), Host(1, "127.0.0.1", 2526)),
            "127.0.0.1:2525,127.0.0.1:2526",
            "x",
        )
        assert replace(found, provider=None).limit_key == "127.0.0.1:2525,127.0.0.1:2526"
        assert not server.asked
