"""The connection over a transport in memory: what the kernel takes is up to the test."""

import asyncio

import pytest

from services.sender.smtp.connection import Connection
from services.sender.smtp.envelope import Capabilities, Transaction
from services.sender.smtp.report import Peer, Report
from services.sender.smtp.session import Accepted, Dropped, Lost
from services.sender.smtp.timeouts import Timeouts
from shared.runtime.clock import SystemClock
from tests.support.sending import send
from tests.support.virtualtime import run

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


def connection(kernel: Kernel, timeouts: Timeouts | None = None) -> Connection:
    return Connection(
        kernel,
        Peer("mx.example.net", "192.0.2.1", 25, "192.0.2.2"),
        Capabilities(pipelining=True),
        timeouts=timeouts or Timeouts(),
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


class Eager:
    """Knows everything at once, and sends ``left`` more in the breath in which one ends."""

    def __init__(self, connection: Connection, left: int, what: Transaction = WHAT) -> None:
        self.connection, self.left, self.what = connection, left, what
        self.reports: list[Report] = []

    def turn(self) -> bool:
        return True

    def message(self) -> list[bytes]:
        return MESSAGE

    def dot(self) -> bool | None:
        return True

    def ended(self, report: Report) -> None:
        self.reports.append(report)
        if self.left:
            self.left -= 1
            self.connection.begin(self.what, self, within_ns=S)

    def broken(self, error: Exception) -> None:
        raise error


async def test_the_next_message_begins_in_the_breath_in_which_one_ends_and_takes_no_task() -> None:
    kernel = Kernel(1000, [b"250 ok\r\n250 ok\r\n354 go\r\n", b"250 ok\r\n"] * 5)
    sending = connection(kernel)
    eager = Eager(sending, left=4)
    tasks = len(asyncio.all_tasks())
    sending.begin(WHAT, eager, within_ns=S)
    while len(eager.reports) < 5:
        assert len(asyncio.all_tasks()) == tasks
        assert not sending.usable
        await asyncio.sleep(0)
    assert sending.usable
    assert [type(each.result) for each in eager.reports] == [Accepted] * 5
    assert [each[:4] for each in kernel.taken] == [b"MAIL", b"Subj"] * 5


@pytest.mark.parametrize(("seconds", "stale"), [(0, False), (4.9, False), (5, True)])
def test_a_peer_that_goes_while_the_first_turn_is_waited_for_is_no_failure_of_the_pair(
    seconds: float, stale: bool
) -> None:
    """Many a host gives ten seconds to a client that says nothing, where a slow rate may take thirty."""

    async def main() -> Report:
        kernel = Kernel(1000, [])
        sending = connection(kernel)
        eager = Eager(sending, left=0)
        await asyncio.sleep(seconds)
        sending.connection_lost(None)
        sending.begin(WHAT, eager, within_ns=60 * S)
        return eager.reports[0]

    report = run(main())
    assert isinstance(report.result, Lost)
    assert report.stale is stale


async def test_a_part_of_the_reply_to_the_dot_gives_no_more_time() -> None:
    """A peer that sends a byte now and then would hold the connection for ever."""
    kernel = Kernel(1000, [b"250 ok\r\n250 ok\r\n354 go\r\n", b"250-x"])
    sending = connection(kernel, Timeouts(dot_ns=S // 4))
    eager = Eager(sending, left=0)
    sending.begin(WHAT, eager, within_ns=60 * S)
    async with asyncio.timeout(30):
        while not eager.reports:
            if kernel.taken[-1].endswith(b"\r\n.\r\n"):
                sending.data_received(b"x")
            await asyncio.sleep(0.05)
    assert isinstance(eager.reports[0].result, Lost)
    assert eager.reports[0].result.after_dot


async def test_whoever_must_allow_the_dot_is_asked_again_though_nobody_comes_back_to_say() -> None:
    kernel = Kernel(1000, [b"250 ok\r\n250 ok\r\n354 go\r\n"])
    sending = connection(kernel, Timeouts(gate_ns=S // 20))

    class Undecided(Eager):
        asked = 0

        def dot(self) -> bool | None:
            self.asked += 1
            return None if self.asked < 3 else False

    undecided = Undecided(sending, left=0)
    sending.begin(WHAT, undecided, within_ns=60 * S)
    async with asyncio.timeout(30):
        while not undecided.reports:
            await asyncio.sleep(0.01)
    assert undecided.asked == 3
    assert isinstance(undecided.reports[0].result, Dropped)
    assert kernel.aborted
    assert not any(b"\r\n.\r\n" in each for each in kernel.taken)


async def test_an_errand_that_breaks_sends_no_dot_and_hears_of_it() -> None:
    kernel = Kernel(1000, [b"250 ok\r\n250 ok\r\n354 go\r\n"])
    sending = connection(kernel)
    heard: list[Exception] = []

    class Broken(Eager):
        def dot(self) -> bool:
            raise ZeroDivisionError

        def broken(self, error: Exception) -> None:
            heard.append(error)

    sending.begin(WHAT, Broken(sending, left=0), within_ns=S)
    async with asyncio.timeout(30):
        while not heard:
            await asyncio.sleep(0)
    assert isinstance(heard[0], ZeroDivisionError)
    assert kernel.aborted
    assert not any(b"\r\n.\r\n" in each for each in kernel.taken)
