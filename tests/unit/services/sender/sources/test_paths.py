import pytest

from services.sender.sources.outlet import is_given, paths_of
from services.sender.sources.paths import Bound, Open, bound
from services.sender.sources.proxies import Proxied
from shared.runtime.settings import Proxy, Source

VIA = (Proxy("socks5", "10.0.0.5", 1080), Proxy("proxy-v2", "10.0.0.6", 2525))


async def test_an_address_of_this_machine_can_be_bound() -> None:
    assert await Bound("127.0.0.1").look() is None


async def test_an_address_of_another_machine_cannot_and_is_named() -> None:
    trouble = await Bound("192.0.2.1").look()
    assert trouble is not None
    assert trouble.startswith("192.0.2.1: ")


@pytest.mark.parametrize("address", ["127.0.0.9", "::1"])
def test_a_bound_socket_takes_no_port_before_it_connects(address: str) -> None:
    with bound(address) as sock:
        assert sock.getsockname()[:2] == (address, 0)
        assert sock.gettimeout() == 0


def test_a_direct_source_is_one_senders_and_the_others_are_anybodys() -> None:
    direct = Source("a", 0, "direct", "none", address="192.0.2.1", ordinal=2)
    assert [is_given(direct, ordinal) for ordinal in (2, 3, None)] == [True, False, False]
    assert is_given(Source("a", 0, "bind", "none", address="192.0.2.1"), None)


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        (Source("a", 0, "bind", "none", address="192.0.2.1"), [Bound("192.0.2.1")]),
        (Source("a", 0, "direct", "none", address="192.0.2.1"), [Open("192.0.2.1")]),
        (Source("a", 0, "smarthost", "none", host="relay.example"), [Open()]),
        (
            Source("a", 0, "proxy", "none", address="192.0.2.1", via=VIA),
            [Proxied(proxy, "192.0.2.1", None, 5) for proxy in VIA],
        ),
    ],
)
def test_each_kind_of_source_has_its_ways_out(source: Source, paths: list[object]) -> None:
    assert paths_of(source, 5) == paths
