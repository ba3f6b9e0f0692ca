"""The ways by which a source's connections leave this machine: a ``Path`` opens sockets whose source address is the source's.

    Bound     bind      from an address of this machine
    Open      direct, smarthost: as the network does it
    Proxied   proxy     through another machine that has the address (``proxies``)

Whose fault is the first question. A path raises SourceUnavailable for its own trouble, Declined where a proxy that works will not or cannot
open just this connection, and any other OSError for the destination's. It is never replaced by a path with another address.
"""

import asyncio
import errno
import socket
from dataclasses import dataclass
from typing import Final, Protocol

# Linux, <linux/in.h>: without it a bound source has one pool of ports for all destinations. Python names it from 3.12 on.
_IP_BIND_ADDRESS_NO_PORT: Final = 24


class SourceUnavailable(Exception):
    """The source's address cannot be used: not on this machine, or by no proxy."""

    def __init__(self, address: str, why: str) -> None:
        """Name the address, or the way to it."""
        super().__init__(f"{address}: {why}")
        self.address, self.why = address, why


class Declined(OSError):
    """A proxy that works opened no connection to this destination: another one may."""

    def __init__(self, why: str) -> None:
        """Say what it answered."""
        super().__init__(errno.ECONNABORTED, why)


@dataclass(frozen=True, slots=True)
class Opened:
    """A connected socket, and the address that its peer sees as far as is known here."""

    sock: socket.socket
    source_ip: str


class Path(Protocol):
    """One way out."""

    def __str__(self) -> str:
        """Name it for people."""
        ...

    async def open(self, address: str, port: int) -> Opened:
        """Connect to ``address``, an IP; raises SourceUnavailable, Declined, OSError."""
        ...

    async def look(self) -> str | None:
        """Say why nothing can leave by it now; None: as far as can be seen, it can."""
        ...


@dataclass(frozen=True, slots=True)
class Bound:
    """From an address of this machine."""

    address: str

    def __str__(self) -> str:
        """Name the address."""
        return self.address

    async def open(self, address: str, port: int) -> Opened:
        """Connect from the address; the port is chosen when the destination is known."""
        try:
            sock = bound(self.address)
        except OSError as error:
            raise SourceUnavailable(self.address, error.strerror or str(error)) from error
        try:
            await connected(sock, address, port)
        except OSError as error:
            # At this point it may also mean that the source has no port left for this destination.
            if error.errno == errno.EADDRNOTAVAIL:
                raise SourceUnavailable(self.address, error.strerror or str(error)) from error
            raise
        return Opened(sock, self.address)

    async def look(self) -> str | None:
        """Bind it: that is what will be done with it."""
        try:
            bound(self.address).close()
        except OSError as error:
            return f"{self.address}: {error.strerror}"
        return None


@dataclass(frozen=True, slots=True)
class Open:
    """As the network does it; ``address`` is the one that it gives, empty where that does not matter."""

    address: str = ""

    def __str__(self) -> str:
        """Name the address."""
        return self.address or "any"

    async def open(self, address: str, port: int) -> Opened:
        """Connect without binding."""
        try:
            sock = tcp_socket(address)
        except OSError as error:
            raise SourceUnavailable(str(self), error.strerror or str(error)) from error
        await connected(sock, address, port)
        return Opened(sock, self.address or str(sock.getsockname()[0]))

    async def look(self) -> str | None:
        """See nothing: only an echo could tell."""
        return None


def tcp_socket(address: str) -> socket.socket:
    """Make a socket that does not block, of the family of ``address``."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(0)
    return sock


def bound(address: str) -> socket.socket:
    """Make a socket that is bound to ``address`` and to no port yet."""
    sock = tcp_socket(address)
    try:
        # An option of IPv4 that Linux takes, and heeds, for IPv6 as well.
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((address, 0))
    except OSError:
        sock.close()
        raise
    return sock


async def connected(sock: socket.socket, address: str, port: int) -> None:
    """Connect ``sock``, which is closed where that fails."""
    try:
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
