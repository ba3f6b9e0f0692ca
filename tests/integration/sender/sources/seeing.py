"""A destination that says in its banner, or on its page, the address that it sees, and remembers whom it saw."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from services.sender.smtp.connect import Endpoint, Origin, Tls, connect
from services.sender.smtp.timeouts import Timeouts
from services.sender.sources.paths import Path
from shared.runtime.clock import SystemClock
from tests.support.sending import hung_up

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


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
            while line := await reader.readline():
                writer.write(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 ok\r\n")

    async def page(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (await reader.readline()).strip():
            continue
        peer = writer.get_extra_info("peername")[0]
        self.seen.append(peer)
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n{peer}\n".encode())


@contextlib.asynccontextmanager
async def served(serve: Serve, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Serve on any port of ``host``; every connection has ended when this does."""
    open_: set[asyncio.StreamWriter] = set()
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        open_.add(writer)
        with contextlib.suppress(ConnectionError):
            await serve(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(one, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in open_:
            writer.transport.abort()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)


@contextlib.asynccontextmanager
async def seeing(
    host: str = "127.0.0.1", *, page: bool = False, found: Seeing | None = None
) -> AsyncIterator[Seeing]:
    """Listen on any port of ``host``, or of the host of ``found``."""
    found = found or Seeing(host)
    async with served(found.page if page else found.greet, found.host) as found.port:
        yield found


async def greeted(path: Path, there: Seeing, timeouts: Timeouts | None = None) -> str:
    """Connect as the sender does, and give the address that its events would name."""
    connection = await connect(
        Endpoint("mx.example.net", there.host, there.port),
        Origin("m1.example.com", path.open),
        Tls(),
        timeouts=timeouts or Timeouts(),
        clock=SystemClock(),
    )
    await hung_up(connection)
    return connection.peer.source_ip
