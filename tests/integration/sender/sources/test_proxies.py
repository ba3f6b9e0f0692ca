"""Connections through real proxies: what the destination sees, and whose trouble is whose."""

import asyncio
import contextlib
import re
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.sender.smtp.connect import ConnectFailed
from services.sender.smtp.timeouts import Timeouts
from services.sender.sources.paths import Bound, Declined, Open, SourceUnavailable
from services.sender.sources.proxies import Proxied
from shared.runtime.settings import Proxy
from tests.integration.sender.sources.seeing import Seeing, greeted, seeing, served
from tests.support.nursery import ROOT
from tests.support.proxies import Program, haproxy, microsocks
from tests.support.stack import free_port

pytestmark = pytest.mark.skipif(
    not (shutil.which("microsocks") and Path("/usr/sbin/haproxy").exists()),
    reason="microsocks or haproxy is not installed",
)

OURS = "127.0.0.71"


def socks(port: int, *, user: str = "", address: str = OURS, file: Path | None = None) -> Proxied:
    return Proxied(Proxy("socks5", "127.0.0.1", port, user), address, file)


async def test_a_socks5_proxy_sends_from_its_own_address_and_the_event_names_it() -> None:
    with microsocks(OURS) as proxy:
        async with seeing() as there:
            assert await greeted(socks(proxy.port), there) == OURS
    assert there.seen == [OURS]


async def test_a_socks5_proxy_with_a_user_wants_the_right_password(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("secret\n")
    with microsocks(OURS, user="acme", password="secret") as proxy:
        way = socks(proxy.port, user="acme", file=file)
        async with seeing() as there:
            assert await greeted(way, there) == OURS
            assert await way.look() is None
            file.write_text("wrong\n")
            with pytest.raises(SourceUnavailable, match="refuses the user or the password"):
                await greeted(way, there)
            file.unlink()
            with pytest.raises(SourceUnavailable, match=r"password: No such file"):
                await greeted(way, there)
            with pytest.raises(SourceUnavailable, match="wants to know who we are"):
                await greeted(socks(proxy.port), there)
    assert there.seen == [OURS]


async def test_a_proxy_that_lets_anybody_in_is_not_used_in_a_users_name() -> None:
    with microsocks(OURS) as proxy:
        trouble = await socks(proxy.port, user="acme").look()
    assert trouble == f"socks5://acme@127.0.0.1:{proxy.port}: it takes no password"


async def test_haproxy_sends_from_the_address_that_the_header_names(tmp_path: Path) -> None:
    others = "127.0.0.72"
    with haproxy(tmp_path, OURS, others) as proxy:
        ways = [
            Proxied(Proxy("proxy-v2", "127.0.0.1", proxy.port), address)
            for address in (OURS, others)
        ]
        async with seeing() as there:
            assert [await greeted(way, there) for way in ways] == [OURS, others]
            assert [await way.look() for way in ways] == [None, None]
    assert there.seen == [OURS, others]


async def test_haproxy_as_the_settings_page_has_it_does_what_the_page_says(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    (example,) = re.findall(r"^  ```\n(  listen .*?)^  ```", page, re.MULTILINE | re.DOTALL)
    port, file = free_port(), tmp_path / "haproxy.cfg"
    for written, here in (
        ("10.0.0.6:2525", f"127.0.0.1:{port}"),
        ("10.0.0.0/24", "127.0.0.0/8"),
        ("198.51.100.7", OURS),
    ):
        assert written in example
        example = example.replace(written, here)
    file.write_text(example)
    with Program(["/usr/sbin/haproxy", "-db", "-f", str(file)], port):
        async with seeing() as there:
            way = Proxied(Proxy("proxy-v2", "127.0.0.1", port), OURS)
            assert await greeted(way, there) == OURS
    assert there.seen == [OURS]


async def test_an_ipv6_source_goes_through_proxies_too(tmp_path: Path) -> None:
    with microsocks("::1") as first, haproxy(tmp_path, "::1") as second:
        async with seeing("::1") as there:
            assert await greeted(socks(first.port, address="::1"), there) == "::1"
            way = Proxied(Proxy("proxy-v2", "127.0.0.1", second.port), "::1")
            assert await greeted(way, there) == "::1"
    assert there.seen == ["::1", "::1"]


async def test_an_ipv6_source_is_bound_and_a_direct_one_is_called_what_the_network_makes_of_it() -> (
    None
):
    async with seeing("::1") as there:
        assert await greeted(Bound("::1"), there) == "::1"
        assert await greeted(Open("2001:db8::7"), there) == "2001:db8::7"
    assert there.seen == ["::1", "::1"]


async def test_a_destination_that_refuses_is_not_the_proxys_trouble(tmp_path: Path) -> None:
    closed = Seeing("127.0.0.1", free_port())
    with microsocks(OURS) as first, haproxy(tmp_path, OURS) as second:
        with pytest.raises(ConnectFailed) as caught:
            await greeted(socks(first.port), closed)
        assert (caught.value.stage, caught.value.why) == (
            "connect",
            "the proxy says: connection refused",
        )
        # HAProxy can only close: the connection had been accepted before it knew.
        with pytest.raises(ConnectFailed) as caught:
            await greeted(Proxied(Proxy("proxy-v2", "127.0.0.1", second.port), OURS), closed)
        assert caught.value.stage == "banner"


async def test_a_proxy_that_is_gone_is_the_sources_trouble_until_it_is_back() -> None:
    with microsocks(OURS) as proxy:
        way = socks(proxy.port)
        proxy.kill()
        async with seeing() as there:
            with pytest.raises(SourceUnavailable, match="Connection refused"):
                await greeted(way, there)
            assert "Connection refused" in str(await way.look())
            proxy.start()
            assert await way.look() is None
            assert await greeted(way, there) == OURS


async def test_a_proxy_that_cannot_use_its_address_declines() -> None:
    with microsocks("192.0.2.1") as proxy:
        async with seeing() as there:
            with pytest.raises(Declined, match="general failure"):
                await socks(proxy.port).open(there.host, there.port)
    assert there.seen == []


@contextlib.asynccontextmanager
async def scripted(*answers: bytes) -> AsyncIterator[int]:
    """Answer each thing that is said with the next of these, then close."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            if not await reader.read(1000):
                break
            writer.write(answer)

    async with served(serve) as port:
        yield port


HELLO = b"\x05\x00"


async def test_a_proxy_that_says_it_sends_from_another_public_address_is_not_sent_through() -> None:
    async with scripted(HELLO, b"\x05\x00\x00\x01\x08\x08\x08\x08\x00\x19") as port:
        with pytest.raises(Declined, match=r"it sends from 8\.8\.8\.8, not from 127"):
            await socks(port).open("192.0.2.1", 25)


async def test_a_proxy_behind_a_translation_may_name_its_private_address() -> None:
    async with scripted(HELLO, b"\x05\x00\x00\x01\x0a\x00\x00\x05\x00\x19220 hello\r\n") as port:
        opened = await socks(port).open("192.0.2.1", 25)
    with opened.sock as sock:
        loop = asyncio.get_running_loop()
        assert await loop.sock_recv(sock, 100) == b"220 hello\r\n", "the destination's own bytes"


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([], SourceUnavailable),
        ([b"HTTP/1.1 400 Bad Request\r\n"], SourceUnavailable),
        ([b"\x05"], SourceUnavailable),
        ([HELLO], Declined),
        ([HELLO, b"\x05\x00\x00"], Declined),
        ([HELLO, b"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00"], Declined),
        ([HELLO, b"nonsense"], Declined),
    ],
)
async def test_before_the_door_it_is_the_proxys_trouble_and_behind_it_this_connections(
    answers: list[bytes], error: type[Exception]
) -> None:
    async with scripted(*answers) as port:
        with pytest.raises(error):
            await socks(port).open("192.0.2.1", 25)


async def test_a_proxy_that_hangs_ends_with_the_time_for_connecting() -> None:
    with microsocks(OURS) as proxy:
        proxy.signal(signal.SIGSTOP)
        async with seeing() as there:
            short = Timeouts(connect_ns=300_000_000)
            with pytest.raises(ConnectFailed, match="no answer in time"):
                await greeted(socks(proxy.port), there, short)
    assert there.seen == []
