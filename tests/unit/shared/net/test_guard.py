"""A stranger's DNS cannot make us connect to ourselves, or to anything that is not the public internet."""

import pytest

from shared.net import machine
from shared.net.guard import Guard
from shared.runtime.workings import Net

FORBIDDEN = [
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("0.0.0.0", "unspecified"),
    ("0.1.2.3", "unspecified"),
    ("10.0.0.1", "private"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.168.1.1", "private"),
    ("100.64.0.1", "carrier-grade NAT"),
    ("100.127.255.255", "carrier-grade NAT"),
    ("169.254.169.254", "link-local"),
    ("192.0.0.8", "protocol assignment"),
    ("192.0.2.1", "documentation"),
    ("198.18.0.1", "benchmarking"),
    ("198.51.100.7", "documentation"),
    ("203.0.113.7", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("::127.0.0.1", "not given out"),
    ("::ffff:127.0.0.1", "IPv4-mapped"),
    ("::ffff:192.168.0.1", "IPv4-mapped"),
    ("::ffff:8.8.8.8", "IPv4-mapped"),
    ("64:ff9b::127.0.0.1", "loopback"),
    ("64:ff9b::10.0.0.1", "private"),
    ("64:ff9b:1::8.8.8.8", "local NAT64"),
    ("2002:7f00:1::", "loopback"),
    ("2002:c0a8:101::1", "private"),
    ("2001::4136:e378", "protocol assignment"),
    ("2001:db8::1", "documentation"),
    ("3fff::1", "documentation"),
    ("fc00::1", "unique local"),
    ("fd12:3456::1", "unique local"),
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("fec0::1", "not given out"),
    ("ff02::1", "multicast"),
    ("4000::1", "not given out"),
]

ALLOWED = [
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.1",
    "223.255.255.255",
    "2606:4700::1111",
    "2a00:1450:4001::1a",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
]


@pytest.mark.parametrize(("address", "why"), FORBIDDEN)
def test_an_address_that_is_not_public_is_refused_with_its_kind(address: str, why: str) -> None:
    assert Guard().refusal(address) == f"{address} is not a public address ({why})"


@pytest.mark.parametrize("address", ALLOWED)
def test_a_public_address_may_be_connected_to(address: str) -> None:
    assert Guard().refusal(address) is None


def test_an_operator_may_allow_a_network_and_nothing_beside_it() -> None:
    guard = Guard.of(Net(("127.0.0.0/8", "fd00::/64")), [])
    assert guard.refusal("127.0.0.1") is None
    assert guard.refusal("fd00::5") is None
    assert guard.refusal("10.0.0.1") is not None
    assert guard.refusal("fd00:0:0:1::5") is not None


def test_an_allowed_ipv4_network_does_not_allow_the_forms_that_hide_it() -> None:
    assert Guard.of(Net(("127.0.0.0/8",)), []).refusal("::ffff:127.0.0.1") is not None


@pytest.mark.parametrize(
    "address", ["8.8.4.4", "::ffff:8.8.4.4", "64:ff9b::8.8.4.4", "2002:808:404::1"]
)
def test_the_senders_own_address_is_refused_in_every_form(address: str) -> None:
    assert (
        Guard.of(Net(), ["8.8.4.4"]).refusal(address) == f"{address} is an address of this sender"
    )


def test_no_allowed_network_allows_the_senders_own_addresses() -> None:
    guard = Guard.of(Net(("127.0.0.0/8",)), ["127.0.0.11"])
    assert guard.refusal("127.0.0.11") == "127.0.0.11 is an address of this sender"
    assert guard.refusal("127.0.0.1") is None


@pytest.mark.parametrize("text", ["", "localhost", "1.2.3", "1.2.3.4:25", "0x7f000001", "127.1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    assert Guard.of(Net(("127.0.0.0/8",)), []).refusal(text) == f"{text} is no IP address"


@pytest.mark.parametrize(
    "address", ["8.8.4.4", "::ffff:8.8.4.4", "64:ff9b::8.8.4.4", "2002:808:404::1"]
)
def test_what_an_operator_denies_nothing_opens(address: str) -> None:
    guard = Guard.of(Net(allow=("0.0.0.0/0", "::/0"), deny=("8.8.4.0/24",)), [])
    assert guard.refusal(address) == f"{address} is denied by the configuration"
    assert guard.refusal("8.8.8.8") is None


def test_who_listens_on_this_machine_is_not_found_by_mail_unless_it_is_allowed() -> None:
    here = {"8.8.4.4"}.__contains__
    assert Guard.of(Net(), [], here).refusal("8.8.4.4") == "8.8.4.4 is an address of this machine"
    assert Guard.of(Net(), [], here).refusal("64:ff9b::8.8.4.4") is not None
    assert Guard.of(Net(), [], here).refusal("8.8.8.8") is None
    assert Guard.of(Net(("8.8.4.0/24",)), [], here).refusal("8.8.4.4") is None


def test_the_machine_knows_its_own_addresses() -> None:
    assert machine.has("127.0.0.1")
    assert not machine.has("192.0.2.1")
    assert not machine.has("2001:db8::1")
