"""Connections to one site of a provider: a door in front of the receiver counts them, and what each of them brings."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tests.support.config import submission
from tests.support.receiver import Receiver, most_in_window
from tests.support.stack import Events
from tests.support.yard import Yard

PARTITIONS = 2
MESSAGES = 40
#: Both sources, each for itself.
SOURCES = 2


@dataclass
class Door:
    """Passes on what comes, and counts."""

    target: Receiver
    open: int = 0
    most: int = 0
    times_ns: list[int] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.times_ns.append(time.monotonic_ns())
        self.open += 1
        self.most = max(self.most, self.open)
        said = bytearray()
        far_reader, far_writer = await asyncio.open_connection(self.target.host, self.target.port)
        async with asyncio.TaskGroup() as group:
            group.create_task(_pass_on(far_reader, writer, bytearray()))
            await _pass_on(reader, far_writer, said)
            # The sender has closed it: how long the receiver takes to do so too is no connection more.
            self.open -= 1
            self.messages.append(said.count(b"MAIL FROM:"))


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytearray
) -> None:
    try:
        while data := await reader.read(65_536):
            said += data
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def door(receiver: Receiver) -> AsyncIterator[tuple[Door, str]]:
    counting = Door(receiver)
    server = await asyncio.start_server(counting.let_in, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield counting, f"127.0.0.1:{port}"


@pytest.mark.timeout(240)
async def test_a_site_has_fewer_connections_and_shorter_ones_than_its_provider(yard: Yard) -> None:
    receiver = yard.receiver("--dot-delay", "0.2")
    async with door(receiver) as (narrow, narrow_at), door(receiver) as (wide, wide_at):
        stack = yard.stack(
            {"narrow.test": (narrow_at, "local"), "wide.test": (wide_at, "local")},
            limits=(
                "[limits.local]\nconnections = 6\nmessages_per_connection = 20\n"
                f'[limits."{narrow_at}"]\nconnections = 1\nmessages_per_connection = 3\nconnection_rate = "30/min"'
            ),
        )
        await asyncio.to_thread(stack.start_all)
        await stack.produce(
            submission(f"u{at}@{name}.test")
            for at in range(MESSAGES)
            for name in ("narrow", "wide")
        )
        async with Events(stack, PARTITIONS) as events:
            await events.until_final(2 * MESSAGES, 150)
            assert events.types() == {"delivered": 2 * MESSAGES}
        assert set(receiver.copies().values()) == {1}
        await asyncio.to_thread(stack.stop)
        await asyncio.wait_for(asyncio.gather(*narrow.tasks, *wide.tasks), 30)
        assert narrow.most <= SOURCES
        # Two seconds between two of a source; the door may see one of them late.
        assert most_in_window(narrow.times_ns, 4) <= 3 * SOURCES
        assert sum(narrow.messages) >= MESSAGES
        assert max(narrow.messages) <= 3
        # The provider's own are as they were.
        assert wide.most > SOURCES
