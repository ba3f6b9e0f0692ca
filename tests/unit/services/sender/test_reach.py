"""Which hosts are tried for a grant, in what order, and which never are."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import structlog

from services.sender.reach import Common, Moved, Reach, TurnMissed, Unreachable
from services.sender.sources.paths import Opened, SourceUnavailable
from shared.net.destinations import Destination, Host, NoDomain, NullMX, Unresolved
from shared.net.guard import Guard
from shared.records.grant import Grant
from shared.runtime.settings import Settings, Source
from shared.runtime.workings import Net
from tests.support.grants import grant
from tests.support.virtualtime import LoopClock, run

if TYPE_CHECKING:
    from services.sender.sources.outlet import Outlet
    from shared.net.destinations import Destinations

GRANT = grant()
SITE = GRANT.site
V4 = Source("ip-1", 0, "bind", "none", ehlo="m1.acme.example", address="198.51.100.9")
V6 = Source("ip-6", 1, "bind", "none", ehlo="m6.acme.example", address="2001:db8::9")


@dataclass
class World:
    """What the name servers say; nobody there can be connected to."""

    answer: Destination | NoDomain | NullMX | Unresolved
    where: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: What they say when they are asked anew.
    newer: Destination | NoDomain | None = None
    dialled: list[str] = field(default_factory=list)
    trouble: OSError | SourceUnavailable = field(
        default_factory=lambda: ConnectionRefusedError(111, "Connection refused")
    )

    async def resolve(self, _: str, *, within_ns: int | None = None) -> object:
        if within_ns is not None and self.newer is not None:
            return self.newer
        return self.answer

    async def addresses(self, host: str, family: str) -> tuple[str, ...] | Unresolved:
        known = self.where.get(host)
        if known is None:
            return Unresolved("nobody answers")
        return tuple(each for each in known if (":" in each) == (family == "v6"))

    async def dial(self, address: str, port: int) -> Opened:
        assert port == 25
        self.dialled.append(address)
        raise self.trouble


def world(*hosts: tuple[int, str], **where: tuple[str, ...]) -> World:
    made = tuple(Host(preference, name) for preference, name in hosts)
    return World(Destination(made, SITE, None), where)


def reach(world: World, source: Source = V4, seed: int = 1) -> Reach:
    common = Common(
        Settings(),
        cast("Destinations", world),
        Guard.of(Net(), []),
        LoopClock(),
        random.Random(seed),
        structlog.get_logger(),
    )
    return Reach(source, cast("Outlet", world), common)


async def turn() -> bool:
    return True


async def failing(way: Reach, granted: Grant = GRANT) -> Unreachable:
    with pytest.raises(Unreachable) as caught:
        await way.connect(granted, turn)
    return caught.value


def tried(world: World, source: Source = V4, seed: int = 1) -> tuple[list[str], Unreachable]:
    """Connect once; gives who was asked, in order, and what came of it."""

    async def main() -> Unreachable:
        return await failing(reach(world, source, seed))

    error = run(main())
    return world.dialled, error


def test_the_lowest_preference_goes_first_and_every_address_of_a_host_is_tried() -> None:
    seen, error = tried(
        world((20, "b"), (10, "a"), a=("8.8.1.1", "8.8.1.2"), b=("8.8.2.1", "8.8.2.2"))
    )
    assert seen == ["8.8.1.1", "8.8.1.2", "8.8.2.1", "8.8.2.2"]
    assert (error.scope, error.stage, error.host, error.address) == (
        "pair",
        "connect",
        "b",
        "8.8.2.2",
    )


def test_hosts_of_which_nobody_knows_an_address_are_the_name_servers_trouble_and_are_not_said_to_have_none() -> (
    None
):
    _, unknown = tried(world((10, "a"), (20, "b"), b=()))
    assert (unknown.why, unknown.stage, unknown.category) == ("nobody answers", "dns", "dns")
    _, none = tried(world((10, "a"), a=("2001:db8::1",)))
    assert none.why == "the hosts have no address that this source can reach"
    # One that is known is enough to try.
    seen, _ = tried(world((10, "a"), (20, "b"), b=("8.8.1.1",)))
    assert seen == ["8.8.1.1"]


def test_name_servers_that_say_nothing_of_twenty_hosts_cost_less_than_a_lease() -> None:
    class Slow(World):
        async def addresses(self, host: str, family: str) -> tuple[str, ...] | Unresolved:
            await asyncio.sleep(10)
            return await super().addresses(host, family)

    hosts = tuple(Host(at, f"mx{at}") for at in range(20))
    there = Slow(Destination(hosts, SITE, None), {"mx19": ("8.8.1.9",)})

    async def main() -> float:
        begun = asyncio.get_running_loop().time()
        await failing(reach(there))
        return asyncio.get_running_loop().time() - begun

    assert run(main()) <= 30
    # Nor is the one that is known passed over.
    assert there.dialled == ["8.8.1.9"]


def test_among_equals_chance_decides_and_only_among_equals() -> None:
    """RFC 5321 5.1: the sender must randomize, to spread the load."""
    firsts: Counter[str] = Counter()
    for seed in range(200):
        seen, _ = tried(
            world((10, "a"), (10, "b"), (5, "c"), a=("8.8.1.1",), b=("8.8.1.2",), c=("8.8.1.3",)),
            seed=seed,
        )
        assert seen[0] == "8.8.1.3"
        firsts[seen[1]] += 1
    assert firsts.keys() == {"8.8.1.1", "8.8.1.2"}
    assert min(firsts.values()) > 60


def test_a_host_with_many_addresses_costs_four_tries() -> None:
    seen, _ = tried(world((1, "a"), a=tuple(f"8.8.1.{n}" for n in range(1, 10))))
    assert seen == ["8.8.1.1", "8.8.1.2", "8.8.1.3", "8.8.1.4"]


@pytest.mark.parametrize(
    ("source", "expected"), [(V4, ["8.8.1.1"]), (V6, ["2600::1"])], ids=["v4", "v6"]
)
def test_addresses_are_of_the_sources_family(source: Source, expected: list[str]) -> None:
    assert tried(world((1, "a"), a=("2600::1", "8.8.1.1")), source)[0] == expected


def test_what_failed_a_moment_ago_is_tried_last_and_for_a_minute() -> None:
    there = world((1, "a"), (2, "b"), a=("8.8.1.1",), b=("8.8.2.1",))

    async def main() -> None:
        way = reach(there)
        there.where["b"] = ()
        await failing(way)
        there.where["b"] = ("8.8.2.1",)
        for expected in (["8.8.2.1", "8.8.1.1"], ["8.8.1.1", "8.8.2.1"]):
            there.dialled.clear()
            await failing(way)
            assert there.dialled == expected
            await asyncio.sleep(60)

    run(main())


@dataclass
class BlackHole(World):
    """Swallows what is sent to it, whoever is asked, but for ``lives``."""

    lives: str = ""

    async def dial(self, address: str, port: int) -> Opened:
        self.dialled.append(address)
        if address == self.lives:
            raise self.trouble
        await asyncio.sleep(3600)
        raise AssertionError


def leased(seconds: int) -> Callable[[], Awaitable[bool]]:
    """Give turns for as long as a lease lasts from now on."""
    until = asyncio.get_running_loop().time() + seconds

    async def knock() -> bool:
        return asyncio.get_running_loop().time() < until

    return knock


def test_a_site_that_swallows_everything_is_said_to_have_failed_though_a_lease_is_too_short_for_all_of_it() -> (
    None
):
    where = tuple(f"8.8.1.{n}" for n in range(1, 5))
    there = BlackHole(Destination((Host(1, "a"),), SITE, None), {"a": where})

    async def main() -> None:
        way = reach(there)
        # As long as there is an address that nobody has tried, it is a matter of time.
        with pytest.raises(TurnMissed):
            await way.connect(GRANT, leased(60))
        with pytest.raises(Unreachable) as caught:
            await way.connect(GRANT, leased(60))
        assert (caught.value.stage, caught.value.scope) == ("connect", "pair")
        assert there.dialled == list(where)

    run(main())


def test_a_host_that_is_dead_for_hours_costs_a_connection_now_and_then_and_not_each() -> None:
    made = (Host(1, "dead"), Host(2, "lives"))
    where: dict[str, tuple[str, ...]] = {"dead": ("8.8.1.1",), "lives": ("8.8.2.1",)}
    there = BlackHole(Destination(made, SITE, None), where, lives="8.8.2.1")
    # That the host that lives is asked is enough.
    there.trouble = SourceUnavailable(V4.address, "Cannot assign requested address")

    async def main() -> None:
        way = reach(there)
        for _ in range(6 * 60):
            there.dialled.clear()
            with pytest.raises(SourceUnavailable):
                await way.connect(GRANT, turn)
            firsts[there.dialled[0]] += 1
            assert there.dialled[-1] == "8.8.2.1"
            await asyncio.sleep(60)

    firsts: Counter[str] = Counter()
    run(main())
    assert 5 < firsts["8.8.1.1"] < 20
    assert firsts["8.8.2.1"] > 300


def test_nobody_is_connected_to_whom_the_guard_refuses_and_the_rest_are() -> None:
    there = world((1, "a"), a=("127.0.0.1", "10.0.0.1", "169.254.169.254", "8.8.1.1"))
    assert tried(there)[0] == ["8.8.1.1"]
    seen, error = tried(world((1, "a"), a=("127.0.0.1",)))
    assert (seen, error.category, error.address) == ([], "forbidden", "127.0.0.1")


def test_a_host_without_an_answer_leaves_the_others() -> None:
    assert tried(world((1, "gone"), (2, "b"), b=("8.8.2.1",)))[0] == ["8.8.2.1"]
    seen, error = tried(world((1, "gone")))
    assert (seen, error.stage, error.category) == ([], "dns", "dns")


@pytest.mark.parametrize(
    ("answer", "site"),
    [
        (Destination((Host(1, "a"),), "another.example", None), "another.example"),
        (NoDomain("it does not exist"), None),
        (NullMX(), None),
    ],
)
def test_where_the_mail_goes_elsewhere_now_nobody_is_connected_to(
    answer: Destination | NoDomain | NullMX, site: str | None
) -> None:
    there = World(answer, {"a": ("8.8.1.1",)})

    async def main() -> None:
        with pytest.raises(Moved) as caught:
            await reach(there).connect(GRANT, turn)
        assert caught.value.site == site

    run(main())
    assert not there.dialled


def test_an_answer_that_contradicts_the_grant_is_asked_for_anew_before_it_counts() -> None:
    """It is kept for an hour, and the grant may be made of a newer one: each would send the mail back to the other for as long."""
    old = Destination((Host(1, "old"),), "old.example", None)
    there = World(old, {"a": ("8.8.1.1",)}, newer=Destination((Host(1, "a"),), SITE, None))

    async def main() -> None:
        await failing(reach(there))

    run(main())
    assert there.dialled == ["8.8.1.1"]


def test_without_a_turn_nobody_is_connected_to() -> None:
    there = world((1, "a"), a=("8.8.1.1",))

    async def never() -> bool:
        return False

    async def main() -> None:
        with pytest.raises(TurnMissed):
            await reach(there).connect(GRANT, never)

    run(main())
    assert not there.dialled


def test_a_source_that_cannot_be_used_is_not_the_hosts_trouble() -> None:
    there = world((1, "a"), a=("8.8.1.1", "8.8.1.2"))
    there.trouble = SourceUnavailable(V4.address, "Cannot assign requested address")

    async def main() -> None:
        with pytest.raises(SourceUnavailable):
            await reach(there).connect(GRANT, turn)

    run(main())
    assert there.dialled == ["8.8.1.1"]


def smarthost(password_file: Path) -> Source:
    return Source(
        "relay",
        2,
        "smarthost",
        "none",
        host="relay.example",
        port=25,
        username="acme",
        password_file=password_file,
    )


@pytest.mark.parametrize(
    ("content", "why"), [(None, "No such file or directory"), (b"\xff\xfe", "expected text")]
)
async def test_a_password_that_cannot_be_read_is_told_as_one_that_is_refused(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    """The event then says what to mend, and the source is probed until it is."""
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    there = world(**{"relay.example": ("8.8.1.1",)})
    error = await failing(reach(there, smarthost(file)))
    assert (error.scope, error.stage, error.category) == ("pair", "auth", "credentials")
    assert error.why == f"sources.relay.password_file: {why}"
    assert there.dialled == [], "no turn of the pair is used"
    file.write_text("secret\n")
    assert (await failing(reach(there, smarthost(file)))).stage == "connect"
    assert there.dialled == ["8.8.1.1"]
