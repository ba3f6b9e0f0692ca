"""Sources with real addresses of their own, on machines of their own: what a host in the world sees of each.

inside 10.9.0.2 ---- 10.9.0.1 edge 30.0.0.11, .12, .13, 2001:db8::11, ::12 ---- 30.0.0.1, 2001:db8::1 world
"""

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.sender.smtp.connect import ConnectFailed
from services.sender.sources.paths import Bound, Open, SourceUnavailable
from services.sender.sources.paths import Path as Way
from services.sender.sources.proxies import Proxied
from shared.runtime.settings import Proxy
from tests.integration.sender.sources.seeing import Seeing, greeted, seeing
from tests.support.machines import Machine, cable, give, missing
from tests.support.proxies import Program, dante, haproxy

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "there are machines")

EDGE, WORLD = "10.9.0.1", "30.0.0.1"
V4 = ("30.0.0.11", "30.0.0.12", "30.0.0.13")
V6 = ("2001:db8::11", "2001:db8::12")


class Net:
    """Three machines: ``edge`` has the sources' addresses, ``inside`` only reaches it, ``world`` receives."""

    def __init__(self, inside: Machine, edge: Machine, world: Machine) -> None:
        self.inside, self.edge, self.world = inside, edge, world
        cable(inside, edge, ("in0", "in1"), ("10.9.0.2/24", f"{EDGE}/24"))
        cable(
            edge,
            world,
            ("out0", "out1"),
            *((f"{address}/24", "") for address in V4),
            *((f"{address}/64", "") for address in V6),
            ("", f"{WORLD}/24"),
            ("", "2001:db8::1/64"),
        )

    @contextlib.contextmanager
    def host(self, address: str = WORLD) -> Iterator[Seeing]:
        """A host in the world."""
        listening, found = threading.Event(), Seeing(address)

        async def serve(stop: threading.Event) -> None:
            async with seeing(found=found):
                listening.set()
                await asyncio.to_thread(stop.wait)

        with self.world.beside(lambda stop: asyncio.run(serve(stop))):
            assert listening.wait(20)
            yield found


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with Machine() as inside, Machine() as edge, Machine() as world:
        yield Net(inside, edge, world)


@contextlib.contextmanager
def running(program: Program, machine: Machine) -> Iterator[Program]:
    machine.call(program.start)
    try:
        yield program
    finally:
        program.kill()


def said(machine: Machine, way: Way, there: Seeing) -> str:
    """Connect from ``machine``; gives the address that the events would name."""
    return machine.call(lambda: asyncio.run(greeted(way, there)))


def test_each_bound_source_is_seen_with_its_own_address(net: Net) -> None:
    with net.host() as there, net.host("2001:db8::1") as there_too:
        for _ in range(2):
            assert [said(net.edge, Bound(address), there) for address in V4] == list(V4)
            assert [said(net.edge, Bound(address), there_too) for address in V6] == list(V6)
        assert there.seen == [*V4, *V4]
        assert there_too.seen == [*V6, *V6]
        # It is the binding that does it: left to itself the machine takes one of them for all.
        assert len({said(net.edge, Open(), there) for _ in V4}) == 1


def test_an_address_that_is_taken_away_is_its_sources_trouble_and_no_other_takes_its_place(
    net: Net,
) -> None:
    lost = V4[2]
    with net.host() as there:
        net.edge.do("ip", "address", "del", f"{lost}/24", "dev", "out0")
        try:
            with pytest.raises(SourceUnavailable, match=r"30\.0\.0\.13: Cannot assign"):
                said(net.edge, Bound(lost), there)
            assert net.edge.call(lambda: asyncio.run(Bound(lost).look())) is not None
            assert said(net.edge, Bound(V4[1]), there) == V4[1]
            assert there.seen == [V4[1]]
        finally:
            give(net.edge, "out0", f"{lost}/24")
        assert said(net.edge, Bound(lost), there) == lost


def test_a_source_without_a_port_left_for_a_host_is_in_trouble_and_the_host_is_not() -> None:
    ports = Path("/proc/sys/net/ipv4/ip_local_port_range")

    async def crowded() -> None:
        async with seeing() as there:
            first = await Bound("127.0.0.1").open(there.host, there.port)
            try:
                with pytest.raises(SourceUnavailable, match="Cannot assign requested address"):
                    await Bound("127.0.0.1").open(there.host, there.port)
                other = await Bound("127.0.0.2").open(there.host, there.port)
                other.sock.close()
            finally:
                first.sock.close()

    with Machine() as alone:
        try:
            alone.call(lambda: ports.write_text("40000 40001"))
        except OSError:
            pytest.skip("ports cannot be taken away here")
        alone.call(lambda: asyncio.run(crowded()))


@pytest.mark.skipif(shutil.which("danted") is None, reason="dante-server is not installed")
def test_dante_sends_from_its_own_address_for_whoever_knows_the_password(
    net: Net, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("secret\n")
    proxy = dante(tmp_path, EDGE, V4[1], user="acme", password="secret")
    ways = Proxied(Proxy("socks5", EDGE, proxy.port, "acme"), V4[1], file)
    with running(proxy, net.edge), net.host() as there:
        with pytest.raises(ConnectFailed, match="unreachable"):
            said(net.inside, Open(), there)
        assert [said(net.inside, ways, there) for _ in range(3)] == [V4[1]] * 3
        assert there.seen == [V4[1]] * 3
        # A source that is configured with another address than the proxy has sends nothing.
        other = Proxied(Proxy("socks5", EDGE, proxy.port, "acme"), V4[0], file)
        with pytest.raises(ConnectFailed, match=r"sends from 30\.0\.0\.12, not from 30\.0\.0\.11"):
            said(net.inside, other, there)
        file.write_text("wrong\n")
        with pytest.raises(SourceUnavailable, match="refuses the user or the password"):
            said(net.inside, ways, there)
        file.write_text("secret\n")
        nobody = Seeing(WORLD, 9)
        with pytest.raises(ConnectFailed, match="the proxy says: connection refused"):
            said(net.inside, ways, nobody)
    with net.host() as there, pytest.raises(SourceUnavailable):
        said(net.inside, ways, there)


@pytest.mark.skipif(not Path("/usr/sbin/haproxy").exists(), reason="haproxy is not installed")
def test_haproxy_on_another_machine_sends_from_the_address_that_the_header_names(
    net: Net, tmp_path: Path
) -> None:
    proxy = haproxy(tmp_path, *V4, listen=EDGE)
    with running(proxy, net.edge), net.host() as there:
        ways = [Proxied(Proxy("proxy-v2", EDGE, proxy.port), address) for address in V4]
        assert [said(net.inside, way, there) for way in reversed(ways)] == list(reversed(V4))
    assert there.seen == list(reversed(V4))
