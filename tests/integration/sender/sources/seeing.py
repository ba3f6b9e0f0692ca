"""A destination that says in its banner, or on its page, the address that it sees, and remembers whom it saw."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class Seeing:
    """What a destination saw."""

    host: str
    port: int = 0
    seen: list[str] = field(default_factory=list)
    #: What it says instead of what it sees.
    lie: str = ""
    silent: bool = False

    async def greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        if peer is not None and not self.silent:
            self.seen.append(peer[0])
            writer.write(f"220-echo.example\r\n220 I see {self.lie or peer[0]}\r\n".encode())
            with contextlib.suppress(ConnectionError):
                while line := await reader.readline():
                    word = line[:4].upper()
                    writer.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
        writer.close()

    async def page(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (await reader.readline()).strip():
            continue
        peer = writer.get_extra_info("peername")[0]
        self.seen.append(peer)
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n{peer}\n".encode())
        writer.close()


@contextlib.asynccontextmanager
async def seeing(host: str = "127.0.0.1", *, page: bool = False) -> AsyncIterator[Seeing]:
    """Listen on any port of ``host``."""
    found = Seeing(host)
    server = await asyncio.start_server(found.page if page else found.greet, host, 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
