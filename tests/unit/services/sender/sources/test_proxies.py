"""Which of a proxy's addresses is used."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.sender.sources.proxies import first

S = 1_000_000_000


@asynccontextmanager
async def listening(address: str) -> AsyncIterator[int]:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, address, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_the_first_address_that_takes_a_connection_is_used() -> None:
    async with listening("127.0.0.75") as port:
        for places in (
            ["127.0.0.75"],
            ["127.0.0.76", "127.0.0.75"],
            # This machine may know no IPv6 at all.
            ["2001:db8::1", "127.0.0.76", "127.0.0.75"],
        ):
            sock = await first(places, port, S)
            with sock:
                assert sock.getpeername() == ("127.0.0.75", port)


async def test_where_none_takes_a_connection_the_last_one_says_why() -> None:
    async with listening("127.0.0.75") as port:
        with pytest.raises(ConnectionRefusedError):
            await first(["127.0.0.76", "127.0.0.77"], port, S)
