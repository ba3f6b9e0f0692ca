"""The connection over a transport in memory: what the kernel takes is up to the test."""

import asyncio

import pytest

from services.sender.smtp.connection import Connection
from services.sender.smtp.report import Peer
from services.sender.smtp.session import Accepted, Capabilities, Dropped, Transaction
from services.sender.smtp.timeouts import Timeouts
from shared.runtime.clock import SystemClock
from tests.support.sending import send

WHAT = Transaction("bounce@example.com", "user@example.net", 100)
MESSAGE = [b"Subject: hello\r\n\r\n.dot\r\nend\r\n"]
S = 1_000_000_000


class Kernel(asyncio.Transport):
    """Takes ``room`` bytes of each write; answers what each write is answered with."""

    def __init__(self, room: int, answers: list[bytes]) -> None:
        super().__init__()
        self.room, self.answers = room, answers
        self.taken: list[bytes] = []
        self.held, self.aborted = 0, False
        self.protocol: asyncio.Protocol | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.held

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.taken.append(bytes(data[: self.room]))
        self.held += len(data) - len(self.taken[-1])
        if self.answers and not self.held:
            assert self.protocol is not None
            asyncio.get_running_loop().call_soon(self.protocol.data_received, self.answers.pop(0))

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


def connection(kernel: Kernel) -> Connection:
    return Connection(
        kernel,
        Peer("mx.example.net", "192.0.2.1", 25, "192.0.2.2"),
        Capabilities(pipelining=True),
        timeouts=Timeouts(),
        clock=SystemClock(),
    )


async def yes() -> bool:
    return True


async def test_a_small_message_and_its_dot_are_one_write() -> None:
    kernel = Kernel(1000, [b"250 ok\r\n250 ok\r\n354 go\r\n", b"250 ok\r\n"])
    report = await send(connection(kernel), WHAT, MESSAGE, yes, yes, within_ns=S)
    assert isinstance(report.result, Accepted)
    assert kernel.taken[1:] == [b"Subject: hello\r\n\r\n..dot\r\nend\r\n.\r\n"]


@pytest.mark.parametrize("short", [1, 3, 30])
async def test_a_dot_that_the_kernel_did_not_take_never_leaves(short: int) -> None:
    envelope = b"250 ok\r\n250 ok\r\n354 go\r\n"
    kernel = Kernel(1000, [envelope])
    sending = connection(kernel)

    async def gate() -> bool:
        kernel.room = len(b"Subject: hello\r\n\r\n..dot\r\nend\r\n.\r\n") - short
        return True

    report = await send(sending, WHAT, MESSAGE, yes, gate, within_ns=S)
    assert report.result == Dropped("the peer took no more bytes")
    assert kernel.aborted
    assert not sending.usable
