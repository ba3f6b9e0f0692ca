"""A receiving server that reads what comes behind DATA by the spoonful for a while, and the rest at once. It serves one connection."""

import asyncio
import contextlib
import socket
from dataclasses import dataclass, field
from typing import Final, Self

_SPOON: Final = 65_536


@dataclass(slots=True)
class SlowReader:
    """``async with SlowReader(seconds, every_s) as slow: … slow.target``: a spoon of 64 KiB each ``every_s``, for ``seconds``."""

    seconds: float
    every_s: float
    #: Set when DATA has come.
    reading: asyncio.Event = field(default_factory=asyncio.Event)
    #: Set when it reads as fast as it can.
    hurrying: asyncio.Event = field(default_factory=asyncio.Event)
    #: The size of each message that came whole, with its dot.
    sizes: list[int] = field(default_factory=list)
    begun: int = 0
    _listening: socket.socket | None = None
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SPOON)
        self._listening.setblocking(False)
        self._task = asyncio.create_task(self._serve(self._listening))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        assert self._listening is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._listening.close()

    @property
    def target(self) -> str:
        assert self._listening is not None
        host, port = self._listening.getsockname()
        return f"{host}:{port}"

    async def _serve(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listening)
            with sock, contextlib.suppress(ConnectionError):
                sock.setblocking(False)
                await self._talk(loop, sock)

    async def _talk(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        await loop.sock_sendall(sock, b"220 slow.example\r\n")
        heard = b""
        while piece := await loop.sock_recv(sock, 4096):
            *lines, heard = (heard + piece).split(b"\r\n")
            for line in lines:
                # Without PIPELINING: nothing comes behind DATA before it is answered.
                if line == b"DATA":
                    await loop.sock_sendall(sock, b"354 go ahead\r\n")
                    await self._message(loop, sock)
                    answer = b"250 2.0.0 taken\r\n"
                else:
                    answer = (
                        b"250-slow.example\r\n250 SIZE 52428800\r\n"
                        if line[:4] == b"EHLO"
                        else b"250 ok\r\n"
                    )
                await loop.sock_sendall(sock, answer)

    async def _message(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self.begun += 1
        self.reading.set()
        begun, size, end = loop.time(), 0, b""
        while not end.endswith(b"\r\n.\r\n"):
            if loop.time() < begun + self.seconds:
                await asyncio.sleep(self.every_s)
            else:
                self.hurrying.set()
            piece = await loop.sock_recv(sock, _SPOON)
            if not piece:
                return
            size, end = size + len(piece), (end + piece)[-5:]
        self.sizes.append(size)
