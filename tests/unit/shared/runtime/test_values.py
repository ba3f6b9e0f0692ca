import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.runtime import values


@given(st.ip_addresses())
def test_an_address_is_one_hosts_or_it_is_refused(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    try:
        found = values.address(str(address))
    except ValueError:
        assert (
            address.is_multicast
            or address.is_unspecified
            or str(address) == "255.255.255.255"
            or getattr(address, "ipv4_mapped", None)
        )
    else:
        assert found == str(address)


@pytest.mark.parametrize(
    "text", ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "::ffff:192.0.2.1", "fe80::1%eth0", "a", ""]
)
def test_what_no_socket_can_be_bound_to_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        values.address(text)


@pytest.mark.parametrize(
    ("text", "domain"),
    [("Example.COM.", "example.com"), ("xn--bcher-kva.example", "xn--bcher-kva.example")],
)
def test_a_domain_is_kept_in_lower_case_without_its_dot(text: str, domain: str) -> None:
    assert values.domain(text) == domain


@pytest.mark.parametrize(
    "text",
    ["", " ", "a b", "-a.example", "a-.example", "a..example", "a" * 64, "a\r\nb.example", "a/b"],
)
def test_what_dns_could_not_hold_is_no_domain(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        values.domain(text)


def test_a_domain_in_another_script_is_asked_for_in_its_ascii_form() -> None:
    with pytest.raises(ValueError, match="xn--"):
        values.domain("bücher.example")


@pytest.mark.parametrize("text", ["m1.example.com", "[192.0.2.1]", "[IPv6:2001:db8::1]"])
def test_an_ehlo_name_is_a_full_name_or_an_address_literal(text: str) -> None:
    assert values.ehlo(text) == text


@pytest.mark.parametrize(
    "text", ["localhost", "m1.example.com\r\nMAIL FROM:<>", "[x]", "", "a b.c"]
)
def test_an_ehlo_name_can_smuggle_nothing_onto_the_wire(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        values.ehlo(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:2525", ("127.0.0.1", 2525)),
        ("[::1]:25", ("::1", 25)),
        ("mx.example:25", ("mx.example", 25)),
    ],
)
def test_a_target_is_a_host_and_a_port(text: str, found: tuple[str, int]) -> None:
    assert values.host_port(text) == found
    assert values.targets(text) == values.targets([text]) == (found,)


@pytest.mark.parametrize(
    "text", ["127.0.0.1", "::1:25", "h:", ":25", "h:0", "h:65536", "h:x", "[h"]
)
def test_a_target_without_a_port_or_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected (host:port|a host)"):
        values.host_port(text)


def refusal(read: Callable[[object], object], value: object) -> str | None:
    try:
        read(value)
    except ValueError as error:
        return str(error)
    return None


@given(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text()))
)
def test_no_value_does_worse_than_a_value_error(value: object) -> None:
    readers = (
        values.table,
        values.tables,
        values.text,
        values.texts,
        values.flag,
        values.number(0, 9),
        values.share,
        values.one_of("a"),
        values.duration,
        values.some_time,
        values.durations,
        values.rate,
        values.size,
        values.cap,
        values.name,
        values.prefix,
        values.domains,
        values.mx_suffixes,
        values.ehlo,
        values.addresses,
        values.networks,
        values.listen,
        values.targets,
        values.bootstrap,
    )
    for read in readers:
        assert refusal(read, value) != "", "whoever refuses says why"


def test_true_is_not_the_number_one() -> None:
    with pytest.raises(ValueError, match="got true"):
        values.number(0, 9)(True)


def test_always_is_no_cap() -> None:
    assert values.cap("always") is None
    assert values.cap(0) == 0
    with pytest.raises(ValueError, match='nor "always"'):
        values.cap("never")
