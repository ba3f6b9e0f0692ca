"""Where never to connect: the destination is whatever a stranger's DNS says. Pure but for the machine's own addresses, which it asks for.

The check is on the final socket address, after all resolution, so that nothing can be rebound between. The networks are a table of our
own, after IANA's registries of special-purpose addresses: what Python calls global differs between its versions. Of IPv6 only
2000::/3 is given out to anybody, so everything outside of it is refused without a row; an address that stands for an IPv4 one (mapped,
NAT64, 6to4) is judged by that, too.

An operator may allow networks, which opens those of the table and this machine's own address, and deny others, which nothing opens. Nothing
opens the addresses of the sources either: mail that is sent to oneself is a loop.
"""

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from shared.runtime.workings import Net

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_FORBIDDEN: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ipaddress.ip_network(network), why)
    for network, why in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),  # among them the clouds' metadata
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignment"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("64:ff9b:1::/48", "local NAT64"),
        ("fc00::/7", "unique local"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
        ("2001::/23", "protocol assignment"),  # Teredo too
        ("2001:db8::/32", "documentation"),
        ("3fff::/20", "documentation"),
    )
)
_GIVEN_OUT: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Guard:
    """Judge addresses."""

    allowed: tuple[Network, ...] = ()
    denied: tuple[Network, ...] = ()
    own: frozenset[Address] = frozenset()
    #: Whether somebody on this machine may listen there.
    here: Callable[[str], bool] = lambda _: False

    @classmethod
    def of(
        cls,
        net: Net,
        own: Iterable[str],
        here: Callable[[str], bool] = lambda _: False,
    ) -> "Guard":
        """Read the networks that an operator names, and the addresses of this sender."""
        return cls(
            tuple(ipaddress.ip_network(network) for network in net.allow),
            tuple(ipaddress.ip_network(network) for network in net.deny),
            frozenset(ipaddress.ip_address(address) for address in own),
            here,
        )

    def refusal(self, address: str) -> str | None:  # noqa: PLR0911 - one for each rule
        """Say why ``address`` must not be connected to; None: it may."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return f"{address} is no IP address"
        meant = [found, *_inner(found)]
        if any(each in self.own for each in meant):
            return f"{address} is an address of this sender"
        if any(each in network for each in meant for network in self.denied):
            return f"{address} is denied by the configuration"
        if any(found in network for network in self.allowed):
            return None
        for each in meant:
            why = _special(each)
            if why is not None:
                return f"{address} is not a public address ({why})"
        if any(self.here(str(each)) for each in meant):
            return f"{address} is an address of this machine"
        return None


def _special(address: Address) -> str | None:
    for network, why in _FORBIDDEN:
        if address in network:
            return why
    if isinstance(address, ipaddress.IPv6Address) and not (
        address in _GIVEN_OUT or address in _NAT64
    ):
        return "not given out"
    return None


def _inner(address: Address) -> list[Address]:
    """Give the IPv4 address that an IPv6 one stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    inner: list[Address] = [
        each for each in (address.ipv4_mapped, address.sixtofour) if each is not None
    ]
    if address in _NAT64:
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return inner
