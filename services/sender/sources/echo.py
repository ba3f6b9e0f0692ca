"""Ask an echo which address a connection is seen with: the banner of an SMTP server, or the page of a web server, that says it.

The connection is opened by the path that mail takes. The answer is text with one address in it, and nothing is believed that has none
of the source's family, or several.
"""

import asyncio
import ipaddress
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from services.sender.sources.paths import Opened, Path
from shared.net.destinations import Addresses, Unresolved
from shared.runtime.workings import Echo

_WITHIN_S: Final = 30
_MOST_BYTES: Final = 1 << 16
#: As text may have an address: in brackets, before a full stop, after "from=", as a literal of RFC 5321 4.1.3.
_LIKE_ADDRESS: Final = re.compile(r"(?<![0-9A-Za-z])(?:IPv6:)?([0-9A-Fa-f:.]{3,45})")

#: Gives the addresses of a host for a family, as ``Destinations`` does.
Resolve = Callable[[str, str], Awaitable[Addresses]]


class Unobserved(Exception):
    """The echo did not tell an address."""


@dataclass(slots=True)
class Observer:
    """Ask one echo."""

    echo: Echo
    resolve: Resolve
    context: ssl.SSLContext | None = None

    async def observe(self, path: Path, family: str) -> str:
        """Give the address that ``path`` is seen with; raises Unobserved, SourceUnavailable."""
        try:
            async with asyncio.timeout(_WITHIN_S):
                text = await self._heard(
                    await path.open(await self._address(family), self.echo.port)
                )
        except TimeoutError as error:
            raise Unobserved("the echo gave no answer in time") from error
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise Unobserved(f"the echo cannot be asked: {error}") from error
        return address_in(text, family)

    async def _address(self, family: str) -> str:
        found = await self.resolve(self.echo.host, family)
        if isinstance(found, Unresolved):
            raise Unobserved(f"{self.echo.host}: {found.reason}")
        if not found:
            raise Unobserved(f"{self.echo.host} has no address of IP{family}")
        return found[0]

    async def _heard(self, opened: Opened) -> str:
        name = self.echo.host if self.context is not None else None
        reader, writer = await asyncio.open_connection(
            sock=opened.sock, ssl=self.context, server_hostname=name, limit=_MOST_BYTES
        )
        try:
            if self.echo.scheme == "smtp":
                return await _banner(reader, writer)
            return await _page(reader, writer, self.echo)
        finally:
            writer.close()


def observer_of(echo: Echo | None, resolve: Resolve) -> Observer | None:
    """Make the observer that the settings name."""
    if echo is None:
        return None
    return Observer(echo, resolve, ssl.create_default_context() if echo.scheme == "https" else None)


async def _banner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    lines = [await reader.readuntil(b"\n")]
    # RFC 5321 4.2.1: a hyphen behind the code says that another line follows.
    while lines[-1][3:4] == b"-" and sum(map(len, lines)) < _MOST_BYTES:
        lines.append(await reader.readuntil(b"\n"))
    writer.write(b"QUIT\r\n")
    return b"".join(line[4:] for line in lines).decode(errors="replace")


async def _page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, echo: Echo) -> str:
    host = f"[{echo.host}]" if ":" in echo.host else echo.host
    # HTTP/1.0: the page ends with the connection, and comes in one piece.
    writer.write(f"GET {echo.path} HTTP/1.0\r\nHost: {host}:{echo.port}\r\n\r\n".encode())
    status = await reader.readuntil(b"\n")
    if status.split()[1:2] != [b"200"]:
        raise Unobserved(f"the echo says {status.decode(errors='replace').strip()[:80]}")
    while (await reader.readuntil(b"\n")).strip():
        continue
    try:
        page = await reader.readexactly(_MOST_BYTES)
    except asyncio.IncompleteReadError as whole:
        page = whole.partial
    return page.decode(errors="replace")


def address_in(text: str, family: str) -> str:
    """Give the one address of ``family`` in ``text``; raises Unobserved."""
    version = int(family.removeprefix("v"))
    found = {
        str(each)
        for each in map(_address, _LIKE_ADDRESS.findall(text))
        if each and each.version == version
    }
    if len(found) != 1:
        raise Unobserved(f"the echo tells {len(found) or 'no'} addresses of IP{family}")
    return found.pop()


def _address(word: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    for each in (word, word.strip("."), word.strip(".:")):
        try:
            found = ipaddress.ip_address(each)
        except ValueError:
            continue
        mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
        return mapped or found
    return None
