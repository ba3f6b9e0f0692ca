"""A source's ways out with real proxies that die and come back, and echoes that tell what they see."""

import asyncio
import contextlib
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from services.sender.sources.echo import Observer
from services.sender.sources.outlet import Outlet
from services.sender.sources.paths import SourceUnavailable
from shared.net.destinations import Addresses, Unresolved
from shared.runtime.clock import SystemClock
from shared.runtime.settings import Proxy, Source
from shared.runtime.workings import Echo, Sender
from tests.integration.sender.sources.seeing import Seeing, seeing
from tests.support.proxies import Program, haproxy, microsocks

pytestmark = pytest.mark.skipif(
    not (shutil.which("microsocks") and Path("/usr/sbin/haproxy").exists()),
    reason="microsocks or haproxy is not installed",
)

OURS, OTHER = "127.0.0.81", "127.0.0.82"
S = 1_000_000_000
QUICK = Sender(echo_every_ns=S // 2, connect_timeout_ns=6 * S)
Lines = list[structlog.typing.EventDict]


def source(*proxies: Program | Proxy, kind: str = "proxy", address: str = OURS) -> Source:
    via = tuple(
        each if isinstance(each, Proxy) else Proxy("socks5", each.host, each.port)
        for each in proxies
    )
    return Source("ip-7", 7, kind, "none", ehlo="m7.example.com", address=address, via=via)  # type: ignore[arg-type]


async def resolve(host: str, family: str) -> Addresses:
    return (host,) if host[0].isdigit() else Unresolved("there is no such name")


def observer(there: Seeing, scheme: str = "smtp") -> Observer:
    return Observer(Echo(scheme, there.host, there.port, "/"), resolve)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def outlet(
    what: Source, who: Observer | None = None, how: Sender = QUICK
) -> AsyncIterator[tuple[Outlet, Lines]]:
    logged = structlog.testing.LogCapture()
    log = structlog.wrap_logger(None, processors=[logged])
    found = Outlet(what, how, who, SystemClock(), log)
    looking = asyncio.create_task(found.run())
    try:
        yield found, logged.entries
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking


async def until(found: Outlet, trouble: str | None, seconds: float = 30) -> None:
    """Wait until the trouble says this; None: until there is none."""
    async with asyncio.timeout(seconds):
        while not (found.known and (found.trouble is None) == (trouble is None)) or (
            trouble is not None and trouble not in str(found.trouble)
        ):
            await asyncio.sleep(0.01)


async def seen(found: Outlet, there: Seeing) -> str:
    """Connect, and give the address that was seen."""
    opened = await found.dial(there.host, there.port)
    with opened.sock as sock:
        banner = await asyncio.get_running_loop().sock_recv(sock, 1000)
    return banner.decode().split()[-1]


async def test_nothing_leaves_before_it_was_looked_at() -> None:
    found = Outlet(source(kind="bind"), QUICK, None, SystemClock(), structlog.get_logger())
    assert not found.known
    async with seeing() as there:
        with pytest.raises(SourceUnavailable, match="not looked at yet"):
            await found.dial(there.host, there.port)
    assert there.seen == []


async def test_an_address_that_is_not_here_is_trouble() -> None:
    async with outlet(source(kind="bind", address="192.0.2.1")) as (found, _):
        await until(found, "192.0.2.1: ")
        assert found.known


async def test_the_first_proxy_is_used_while_it_lives_and_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    with microsocks(OURS) as first, haproxy(tmp_path, OURS) as second:
        what = source(first, Proxy("proxy-v2", second.host, second.port))
        async with outlet(what) as (found, lines), seeing() as there:
            await until(found, None)
            assert await seen(found, there) == OURS
            first.kill()
            assert await seen(found, there) == OURS, "the second takes the very same connection"
            async with asyncio.timeout(30):
                while not lines:
                    await asyncio.sleep(0.01)
            assert (lines[0]["event"], lines[0]["source"]) == ("path_suspended", "ip-7")
            assert found.trouble is None
            first.start()
            async with asyncio.timeout(30):
                while len(lines) < 2:
                    await asyncio.sleep(0.01)
            assert lines[1]["event"] == "path_usable"
            second.kill()
            assert await seen(found, there) == OURS
    assert there.seen == [OURS] * 3


async def test_a_source_whose_proxies_are_all_dead_has_trouble_and_comes_back_by_itself() -> None:
    with microsocks(OURS) as first, microsocks(OURS) as second:
        async with outlet(source(first, second)) as (found, _), seeing() as there:
            await until(found, None)
            first.kill()
            second.kill()
            with pytest.raises(SourceUnavailable, match="Connection refused"):
                await found.dial(there.host, there.port)
            await until(found, "Connection refused")
            second.start()
            await until(found, None)
            assert await seen(found, there) == OURS


async def test_a_proxy_that_hangs_costs_one_wait_and_is_then_passed_over() -> None:
    with microsocks(OURS) as first, microsocks(OURS) as second:
        async with outlet(source(first, second)) as (found, _), seeing() as there:
            await until(found, None)
            first.signal(signal.SIGSTOP)
            assert await seen(found, there) == OURS
            hung, _ = found._legs
            for _ in range(3):
                assert "no answer in time" in str(hung.trouble(SystemClock().mono_ns()))
                assert await seen(found, there) == OURS


async def test_a_destination_that_every_proxy_declines_is_not_the_sources_trouble() -> None:
    with microsocks("192.0.2.1") as first, microsocks("192.0.2.1") as second:
        async with outlet(source(first, second)) as (found, _), seeing() as there:
            await until(found, None)
            with pytest.raises(OSError, match="general failure"):
                await found.dial(there.host, there.port)
            assert found.trouble is None


# -- the echo


@pytest.mark.parametrize("page", [False, True])
async def test_a_source_joins_when_the_echo_has_seen_its_address(page: bool) -> None:
    async with seeing(page=page) as echo:
        scheme = "http" if page else "smtp"
        async with outlet(source(kind="bind"), observer(echo, scheme)) as (found, _):
            await until(found, None)
            assert echo.seen[0] == OURS
            async with asyncio.timeout(30):
                while len(echo.seen) < 3:
                    await asyncio.sleep(0.01)
            assert set(echo.seen) == {OURS}, "it is asked again and again"


async def test_another_address_suspends_until_the_right_one_is_seen_again() -> None:
    async with (
        seeing() as echo,
        seeing() as there,
        outlet(source(kind="bind"), observer(echo)) as (found, _),
    ):
        await until(found, None)
        echo.lie = OTHER
        await until(found, f"observed address {OTHER} is not {OURS}")
        with pytest.raises(SourceUnavailable, match="observed address"):
            await found.dial(there.host, there.port)
        assert there.seen == []
        echo.lie = ""
        await until(found, None)
        assert await seen(found, there) == OURS


async def test_a_direct_source_never_joins_with_the_address_of_another() -> None:
    async with seeing() as echo:
        what = source(kind="direct", address=OTHER)
        async with outlet(what, observer(echo)) as (found, _):
            await until(found, f"observed address 127.0.0.1 is not {OTHER}")
            with pytest.raises(SourceUnavailable, match="observed address"):
                await found.dial(echo.host, echo.port)
        assert set(echo.seen) == {"127.0.0.1"}, "asked for the address, and nothing else"


async def test_each_proxy_is_observed_by_itself() -> None:
    with microsocks(OTHER) as wrong, microsocks(OURS) as right:
        async with (
            seeing() as echo,
            seeing() as there,
            outlet(source(wrong, right), observer(echo)) as (found, lines),
        ):
            await until(found, None)
            assert await seen(found, there) == OURS
            async with asyncio.timeout(30):
                while not lines:
                    await asyncio.sleep(0.01)
            assert lines[0]["event"] == "path_suspended"
            assert lines[0]["reason"] == f"observed address {OTHER} is not {OURS}"
            right.kill()
            with pytest.raises(SourceUnavailable):
                await found.dial(there.host, there.port)
    assert there.seen == [OURS]


async def test_a_proxy_that_comes_back_with_another_address_gets_no_mail() -> None:
    with microsocks(OURS) as proxy:
        how = Sender(connect_timeout_ns=6 * S)  # It is asked for its address once an hour.
        async with seeing() as echo, outlet(source(proxy), observer(echo), how) as (found, _):
            await until(found, None)
            proxy.kill()
            with pytest.raises(SourceUnavailable):
                await found.dial(echo.host, echo.port)
            await until(found, "Connection refused")
            proxy.command = [OTHER if word == OURS else word for word in proxy.command]
            proxy.start()
            await until(found, f"observed address {OTHER} is not {OURS}")
            assert echo.seen == [OURS, OTHER]


async def test_an_echo_that_is_silent_keeps_a_source_from_joining_and_later_changes_nothing_soon() -> (
    None
):
    async with seeing() as echo:
        echo.silent = True
        how = Sender(echo_every_ns=30 * S)
        first = outlet(source(kind="bind"), observer(echo), how)
        async with first as (found, lines):
            await until(found, f"address {OURS} is not confirmed: the echo cannot be asked")
            assert lines[0]["event"] == "echo_silent"
        echo.silent = False
        async with outlet(source(kind="bind"), observer(echo), QUICK) as (found, lines):
            await until(found, None)
            echo.silent = True
            async with asyncio.timeout(30):
                while not lines:
                    await asyncio.sleep(0.01)
            assert lines[0]["event"] == "echo_silent"
            await until(found, "is not confirmed any more")


async def test_an_echo_without_an_address_is_named() -> None:
    async with outlet(source(kind="bind"), Observer(Echo("http", "x.example", 80), resolve)) as (
        found,
        _,
    ):
        await until(found, "x.example: there is no such name")
        async with seeing() as there:
            with pytest.raises(SourceUnavailable, match=r"x\.example: there is no such name"):
                await found.dial(there.host, there.port)
    assert there.seen == []


async def test_a_smart_host_has_no_address_to_observe() -> None:
    async with (
        seeing() as echo,
        outlet(source(kind="smarthost", address=""), observer(echo)) as (found, _),
    ):
        await until(found, None)
    assert echo.seen == []
