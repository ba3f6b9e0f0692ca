"""A peer at the other end of a socket pair: no port and no network, so that it can live in virtual time."""

import asyncio
import socket

from services.sender.sources.paths import Opened


class SocketPeer:
    """Serve whoever dials; a subclass says how."""

    tasks: list[asyncio.Task[None]]

    async def dial(self, _: str, port: int) -> Opened:
        """Connect, as a source does."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        self.tasks.append(asyncio.create_task(self._serve(theirs)))
        return Opened(ours, "127.0.0.11")

    async def close(self) -> None:
        """End every conversation."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _serve(self, sock: socket.socket) -> None:
        raise NotImplementedError
