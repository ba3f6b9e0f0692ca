"""The header of the PROXY protocol, version 2 (haproxy.org/download/2.8/doc/proxy-protocol.txt, section 2.2). Pure.

It was made to tell a server who its client is. Towards a proxy that sends mail it says which of its addresses to send from, as the client,
and where to connect to, as the address that the client had connected to.
"""

import ipaddress
from typing import Final

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_VERSION_2_PROXY: Final = 0x21
_TCP4, _TCP6 = 0x11, 0x21
#: The proxy chooses it.
_ANY_PORT: Final = 0


def header(source: str, address: str, port: int) -> bytes:
    """Ask for a connection from ``source`` to ``address``, IPs of the same family."""
    ours, theirs = ipaddress.ip_address(source), ipaddress.ip_address(address)
    if ours.version != theirs.version:
        raise ValueError(f"{source} and {address} are of different families")
    family = _TCP4 if isinstance(ours, ipaddress.IPv4Address) else _TCP6
    ports = _ANY_PORT.to_bytes(2, "big") + port.to_bytes(2, "big")
    places = ours.packed + theirs.packed + ports
    return _SIGNATURE + bytes([_VERSION_2_PROXY, family]) + len(places).to_bytes(2, "big") + places
