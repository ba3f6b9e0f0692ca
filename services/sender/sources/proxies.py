"""Paths through proxies: SOCKS5, and the PROXY protocol towards HAProxy and its like.

To be let in (TCP, and for SOCKS5 the greeting and the password) is the proxy's part, and has ``enter_ns`` for it: what goes wrong there is
SourceUnavailable. From then on the destination is waited for, as long as the caller does. A look is the first part alone.
"""

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path as File
from typing import Final

from services.sender.sources import proxyv2, socks5
from services.sender.sources.paths import Declined, Opened, SourceUnavailable, connected, tcp_socket
from services.sender.sources.secret import secret
from shared.runtime.settings import Proxy

_S: Final = 1_000_000_000


class _Closed(OSError):
    """The proxy closed the connection in the middle of a word."""


@dataclass(frozen=True, slots=True)
class Proxied:
    """Through ``proxy``, from ``address``; the password is read at each connection, as it may change."""

    proxy: Proxy
    address: str
    password_file: File | None = None
    enter_ns: int = 10 * _S

    def __str__(self) -> str:
        """Name the proxy, as it was written."""
        return str(self.proxy)

    async def open(self, address: str, port: int) -> Opened:
        """Connect through the proxy."""
        sock = await self._enter()
        try:
            if self.proxy.scheme == "proxy-v2":
                header = proxyv2.header(self.address, address, port)
                await asyncio.get_running_loop().sock_sendall(sock, header)
            else:
                await self._ask(sock, address, port)
        except BaseException:
            sock.close()
            raise
        return Opened(sock, self.address)

    async def look(self) -> str | None:
        """Be let in, and leave."""
        try:
            sock = await self._enter()
        except SourceUnavailable as error:
            return str(error)
        sock.close()
        return None

    # -- the proxy's part

    async def _enter(self) -> socket.socket:
        try:
            async with asyncio.timeout(self.enter_ns / _S):
                return await self._let_in()
        except TimeoutError as error:
            raise SourceUnavailable(str(self), "no answer in time") from error
        except (OSError, ValueError) as error:
            raise SourceUnavailable(str(self), _why(error)) from error
        except socks5.Shut as error:
            raise SourceUnavailable(str(self), str(error)) from error

    async def _let_in(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self.proxy.host, self.proxy.port, type=socket.SOCK_STREAM)
        # A name may have an address of each family, and the proxy listen at one of them.
        places = list(dict.fromkeys(str(each[4][0]) for each in found))
        sock = await first(places, self.proxy.port, self.enter_ns // len(places))
        try:
            if self.proxy.scheme == "socks5":
                await self._log_in(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _log_in(self, sock: socket.socket) -> None:
        loop, login = asyncio.get_running_loop(), bool(self.proxy.username)
        await loop.sock_sendall(sock, socks5.greeting(login=login))
        socks5.take_greeting(await _exactly(sock, socks5.ANSWER_BYTES), login=login)
        if login and self.password_file is not None:
            password = await secret(self.password_file)
            await loop.sock_sendall(sock, socks5.login(self.proxy.username, password))
            socks5.take_login(await _exactly(sock, socks5.ANSWER_BYTES))

    # -- the destination's

    async def _ask(self, sock: socket.socket, address: str, port: int) -> None:
        await asyncio.get_running_loop().sock_sendall(sock, socks5.request(address, port))
        try:
            head = await _exactly(sock, socks5.HEAD_BYTES)
            match socks5.take_head(head):
                case socks5.Unreached(error=unreached):
                    raise unreached
                case socks5.Refused(why=why):
                    raise Declined(f"{self}: {why}")
                case socks5.Connected(following=count):
                    self._check(socks5.bound_address(head + await _exactly(sock, count)))
        except (_Closed, socks5.Shut) as error:
            raise Declined(f"{self}: {_why(error)}") from error

    def _check(self, bound: str | None) -> None:
        """Refuse to be seen with another address; a private one is translated behind the proxy."""
        if bound not in (None, self.address) and ipaddress.ip_address(bound).is_global:
            raise Declined(f"{self}: it sends from {bound}, not from {self.address}")


async def first(places: Sequence[str], port: int, each_ns: int) -> socket.socket:
    """Connect to the first of some IPs that takes it within ``each_ns``; raises the last one's OSError."""
    for place in places[:-1]:
        with contextlib.suppress(OSError):
            async with asyncio.timeout(each_ns / _S):
                return await _connected(place, port)
    return await _connected(places[-1], port)


async def _connected(place: str, port: int) -> socket.socket:
    sock = tcp_socket(place)
    await connected(sock, place, port)
    return sock


async def _exactly(sock: socket.socket, count: int) -> bytes:
    """Read so many bytes and none that follow: they are the destination's."""
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < count:
        more = await loop.sock_recv(sock, count - len(data))
        if not more:
            raise _Closed("it closed the connection in the middle of a word")
        data += more
    return data


def _why(error: BaseException) -> str:
    if not isinstance(error, OSError):
        return str(error)
    # asyncio has words of its own for what the machine says of a connection.
    number = error.errno or 0
    what = os.strerror(number) if number > 0 else error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename else what
