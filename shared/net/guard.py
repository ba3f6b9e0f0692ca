"""Where never to connect: the destination is whatever a stranger's DNS says. Pure.

The check is on the final socket address, after all resolution, so that nothing can be rebound between. Loopback, private, link-local
(the clouds' metadata), carrier-grade NAT, unique local, unspecified, multicast, reserved and documentation networks are refused, in
their IPv4-mapped, NAT64 and 6to4 forms too, and so are this sender's own addresses; an operator may allow networks.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_CGNAT: Final = ipaddress.ip_network("100.64.0.0/10")
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL: Final = ipaddress.ip_network("64:ff9b:1::/48")


@dataclass(frozen=True, slots=True)
class Guard:
    """Judge addresses."""

    allowed: tuple[Network, ...] = ()
    own: frozenset[Address] = frozenset()

    @classmethod
    def of(cls, allow: Iterable[str], own: Iterable[str]) -> "Guard":
        """Read networks that may be connected to, and the addresses of this sender."""
        return cls(
            tuple(ipaddress.ip_network(network) for network in allow),
            frozenset(ipaddress.ip_address(address) for address in own),
        )

    def refusal(self, address: str) -> str | None:
        """Say why ``address`` must not be connected to; None: it may."""
        try:
            found: Address = ipaddress.ip_address(address)
        except ValueError:
            return f"{address} is no IP address"
        if any(found in network for network in self.allowed if network.version == found.version):
            return None
        for each in (found, *_inner(found)):
            if each in self.own:
                return f"{address} is an address of this sender"
            if not each.is_global or each.is_multicast or each in _CGNAT:
                return f"{address} is not a public address"
        return None


def _inner(address: Address) -> list[Address]:
    """Give the IPv4 address that an IPv6 one stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    inner: list[Address] = [
        each for each in (address.ipv4_mapped, address.sixtofour) if each is not None
    ]
    if address in _NAT64 or address in _NAT64_LOCAL:
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return inner
