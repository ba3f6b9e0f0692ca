"""The header against the drawing in section 2.2 of the PROXY protocol's specification."""

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sender.sources.proxyv2 import header

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")


def test_a_header_for_ipv4_is_28_bytes() -> None:
    # Version 2 and PROXY, TCP over IPv4, 12 bytes follow: addresses and ports.
    places = "c6336407 c0000201 0000 0019"
    written = header("198.51.100.7", "192.0.2.1", 25)
    assert written == SIGNATURE + bytes.fromhex("21 11 000c" + places)
    assert len(written) == 28


def test_a_header_for_ipv6_is_52_bytes() -> None:
    places = "20010db8000000000000000000000007 20010db8000000000000000000000001 0000 09dd"
    written = header("2001:db8::7", "2001:db8::1", 2525)
    assert written == SIGNATURE + bytes.fromhex("21 21 0024" + places)
    assert len(written) == 52


def test_families_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="families"):
        header("198.51.100.7", "2001:db8::1", 25)


@given(
    st.one_of(
        st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
        st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
    ),
    st.integers(1, 65535),
)
def test_a_proxy_reads_back_what_was_written(
    addresses: tuple[
        ipaddress.IPv4Address | ipaddress.IPv6Address, ipaddress.IPv4Address | ipaddress.IPv6Address
    ],
    port: int,
) -> None:
    source, address = addresses
    code, size = (0x11, 4) if source.version == 4 else (0x21, 16)
    written = header(str(source), str(address), port)
    signature, command, kind, length = struct.unpack("!12sBBH", written[:16])
    assert (signature, command, kind, length) == (SIGNATURE, 0x21, code, 2 * size + 4)
    assert len(written) == 16 + length
    places = written[16:]
    assert ipaddress.ip_address(places[:size]) == source
    assert ipaddress.ip_address(places[size : 2 * size]) == address
    assert struct.unpack("!HH", places[2 * size :]) == (0, port)
