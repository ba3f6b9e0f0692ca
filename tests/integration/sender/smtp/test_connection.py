"""The connection against real sockets: a scripted peer for what goes wrong, aiosmtpd for what goes right."""

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
import trustme
from aiosmtpd.smtp import SMTP

from services.sender.smtp.connect import (
    ConnectFailed,
    Credentials,
    Endpoint,
    Origin,
    Tls,
    TlsFailed,
    connect,
)
from services.sender.smtp.connection import Connection
from services.sender.smtp.envelope import Transaction
from services.sender.smtp.report import Report
from services.sender.smtp.session import Accepted, Dropped, Lost, Refused
from services.sender.smtp.timeouts import Timeouts
from services.sender.sources.paths import (
    Bound,
    Open,
    Opened,
    SourceUnavailable,
    connected,
    tcp_socket,
)
from shared.runtime.clock import SystemClock
from tests.support.sending import hung_up, send

WHAT = Transaction("bounce@example.com", "user@example.net", 100)
MESSAGE = [b"DKIM-Signature: x\r\n", b"Subject: hello\r\n\r\n.dot\r\nend\r\n"]
WIRE_MESSAGE = b"DKIM-Signature: x\r\nSubject: hello\r\n\r\n..dot\r\nend\r\n.\r\n"
EHLO = b"250-peer\r\n250-PIPELINING\r\n250 SIZE 1000000\r\n"
ENVELOPE = b"250 ok\r\n250 ok\r\n354 go\r\n"
SHORT = Timeouts(*[300_000_000] * 10)
S = 1_000_000_000

Step = bytes | Callable[["Talk"], Awaitable[None]]


@dataclass
class Talk:
    """One connection as the peer sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    heard: bytearray = field(default_factory=bytearray)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, end: bytes) -> bytes:
        data = await self.reader.readuntil(end)
        self.heard += data
        return data

    async def run(self, steps: Sequence[Step]) -> None:
        try:
            for step in steps:
                if isinstance(step, bytes):
                    self.writer.write(step)
                else:
                    await step(self)
            self.heard += await self.reader.read()
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            self.heard += getattr(error, "partial", b"")
        finally:
            self.writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(self.writer.wait_closed(), 2)
            self.ended.set()


def hear(end: bytes) -> Step:
    async def step(talk: Talk) -> None:
        await talk.until(end)

    return step


async def close(talk: Talk) -> None:
    await talk.writer.drain()
    talk.writer.close()


async def abort(talk: Talk) -> None:
    talk.writer.transport.abort()


async def never(talk: Talk) -> None:
    talk.heard += await talk.reader.read()


LINE, DATA, DOT = hear(b"\r\n"), hear(b"DATA\r\n"), hear(b"\r\n.\r\n")
GREETING: list[Step] = [b"220 peer\r\n", LINE, EHLO]


@contextlib.asynccontextmanager
async def peer(
    *steps: Step, backlog: int = 100, receive_bytes: int | None = None
) -> AsyncIterator[tuple[Endpoint, list[Talk]]]:
    talks: list[Talk] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(Talk(reader, writer))
        await talks[-1].run(steps)

    sock = socket.create_server(("127.0.0.1", 0), backlog=backlog)
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    server = await asyncio.start_server(serve, sock=sock, limit=1 << 24, backlog=backlog)
    try:
        yield Endpoint("mx.example.net", "127.0.0.1", server.sockets[0].getsockname()[1]), talks
    finally:
        server.close()
        for talk in talks:
            talk.writer.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(talk.ended.wait(), 6)


async def opened(
    endpoint: Endpoint,
    *,
    tls: Tls | None = None,
    timeouts: Timeouts | None = None,
    address: str | None = None,
) -> Connection:
    path = Open() if address is None else Bound(address)
    origin = Origin("sender.example.com", path.open)
    return await connect(
        endpoint, origin, tls or Tls(), timeouts=timeouts or Timeouts(), clock=SystemClock()
    )


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


async def sent(connection: Connection, what: Transaction = WHAT, within_ns: int = 5 * S) -> Report:
    return await send(connection, what, MESSAGE, yes, yes, within_ns=within_ns)


async def test_a_connection_serves_many_messages_and_ends_with_quit() -> None:
    turn: list[Step] = [DATA, ENVELOPE, DOT, b"250 2.0.0 queued\r\n"]
    async with peer(*GREETING, *turn, *turn) as (endpoint, talks):
        connection = await opened(endpoint)
        first, second = await sent(connection), await sent(connection)
        await hung_up(connection)
        await talks[0].ended.wait()
    assert isinstance(first.result, Accepted)
    assert isinstance(second.result, Accepted)
    envelope = b"MAIL FROM:<bounce@example.com> SIZE=100\r\nRCPT TO:<user@example.net>\r\nDATA\r\n"
    assert (
        talks[0].heard
        == b"EHLO sender.example.com\r\n" + 2 * (envelope + WIRE_MESSAGE) + b"QUIT\r\n"
    )
    assert (first.wire.mx, first.wire.mx_ip, first.wire.source_ip) == (
        "mx.example.net",
        "127.0.0.1",
        "127.0.0.1",
    )
    assert first.wire.mail_ns <= first.wire.end_ns
    assert {"connect", "banner", "ehlo", "mail", "dot"} <= set(first.wire.ms)
    assert "connect" not in second.wire.ms


async def test_a_connection_comes_from_the_sources_own_address() -> None:
    async with peer(*GREETING) as (endpoint, talks):
        connection = await opened(endpoint, address="127.0.0.9")
        assert talks[0].writer.get_extra_info("peername")[0] == "127.0.0.9"
        assert connection.peer.source_ip == "127.0.0.9"
        await hung_up(connection)


async def test_an_address_that_is_not_here_is_the_sources_trouble() -> None:
    async with peer(*GREETING) as (endpoint, _):
        with pytest.raises(SourceUnavailable) as caught:
            await opened(endpoint, address="192.0.2.1")
    assert caught.value.address == "192.0.2.1"


async def test_a_closed_port_is_the_pairs_trouble() -> None:
    async with peer() as (endpoint, _):
        pass
    with pytest.raises(ConnectFailed) as caught:
        await opened(endpoint)
    assert (caught.value.stage, caught.value.reply) == ("connect", None)


@pytest.mark.parametrize(
    ("steps", "stage", "code"),
    [
        ([b"554 5.7.1 blocked\r\n"], "banner", 554),
        ([b"421 busy\r\n"], "banner", 421),
        ([b"220-hello\r\n220 peer\r\n", LINE, b"421 no\r\n"], "ehlo", 421),
        ([b"220 peer\r\n", LINE, b"550 no\r\n", LINE, b"550 no\r\n"], "ehlo", 550),
        ([b"SSH-2.0-x\r\n"], "banner", None),
        ([b"x" * 40_000], "banner", None),
        ([close], "banner", None),
        ([abort], "banner", None),
        ([b"220 peer\r\n", LINE, close], "ehlo", None),
        ([never], "banner", None),
        ([b"220 peer\r\n", LINE, b"250-x\r\n", never], "ehlo", None),
    ],
)
async def test_a_peer_that_does_not_greet_is_the_pairs_trouble(
    steps: list[Step], stage: str, code: int | None
) -> None:
    async with peer(*steps) as (endpoint, _):
        with pytest.raises(ConnectFailed) as caught:
            await opened(endpoint, timeouts=SHORT)
    assert caught.value.stage == stage
    assert (caught.value.reply.code if caught.value.reply else None) == code


async def test_who_does_not_know_ehlo_is_greeted_with_helo_and_served_in_lock_step() -> None:
    steps: list[Step] = [b"220 peer\r\n", LINE, b"502 what\r\n", LINE, b"250 peer\r\n"]
    for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
        steps += [LINE, reply]
    async with peer(*steps, DOT, b"250 ok\r\n") as (endpoint, talks):
        connection = await opened(endpoint)
        assert isinstance((await sent(connection)).result, Accepted)
        await hung_up(connection)
    assert b"HELO sender.example.com\r\nMAIL FROM:<bounce@example.com>\r\n" in talks[0].heard


async def test_mail_is_written_before_send_first_suspends() -> None:
    async with peer(*GREETING, DATA, ENVELOPE, DOT, b"250 ok\r\n") as (endpoint, talks):
        connection = await opened(endpoint)
        sending = send(connection, WHAT, MESSAGE, yes, yes, within_ns=S)
        # One step of the coroutine, with no turn of the loop between.
        sending.send(None)
        sending.close()
        await asyncio.sleep(0.05)
        assert b"DATA\r\n" in talks[0].heard
        assert not connection.usable


LOCKSTEP: list[Step] = [b"220 peer\r\n", LINE, b"250 peer\r\n"]
OK: Step = b"250 ok\r\n"
LOCKSTEP_TURN: list[Step] = [LINE, OK, LINE, OK, DATA, b"354 go\r\n", DOT, OK]


async def test_a_peer_that_answers_mail_gets_no_recipient_before_its_turn() -> None:
    async with peer(*LOCKSTEP, *LOCKSTEP_TURN) as (endpoint, talks):
        connection = await opened(endpoint)
        waits, go = asyncio.Event(), asyncio.Event()

        async def turn() -> bool:
            waits.set()
            return await go.wait()

        sending = asyncio.create_task(send(connection, WHAT, MESSAGE, turn, yes, within_ns=5 * S))
        await waits.wait()
        # A round trip on the same loop, so that what is written has arrived.
        await hung_up(await opened(endpoint))
        assert bytes(talks[0].heard).endswith(b"MAIL FROM:<bounce@example.com>\r\n")
        go.set()
        assert isinstance((await sending).result, Accepted)
        await hung_up(connection)


async def test_an_envelope_whose_turn_did_not_come_is_reset_and_the_connection_serves_on() -> None:
    async with peer(*LOCKSTEP, LINE, OK, LINE, OK, *LOCKSTEP_TURN) as (endpoint, talks):
        connection = await opened(endpoint)
        late = await send(connection, WHAT, MESSAGE, no, yes, within_ns=5 * S)
        assert late.result == Dropped("its turn did not come in time")
        assert connection.usable
        assert isinstance((await sent(connection)).result, Accepted)
        await hung_up(connection)
    assert talks[0].heard.count(b"RCPT") == 1
    assert b"RSET\r\nMAIL FROM" in talks[0].heard


async def test_a_peer_that_goes_while_a_turn_is_waited_for_gets_nothing_more() -> None:
    async with peer(*LOCKSTEP, LINE, OK, close) as (endpoint, talks):
        connection = await opened(endpoint)

        async def turn() -> bool:
            await talks[0].ended.wait()
            await asyncio.sleep(0.05)
            return True

        report = await send(connection, WHAT, MESSAGE, turn, yes, within_ns=5 * S)
    assert isinstance(report.result, Lost)
    assert not report.result.after_dot
    assert not connection.usable


LARGE = [b"Subject: hello\r\n\r\n" + b"a line\r\n" * 4000]


@pytest.mark.parametrize(
    ("message", "out"), [(LARGE, LARGE[0].removesuffix(b"\r\n")), (MESSAGE, b"")]
)
async def test_before_the_gate_a_large_message_is_out_without_its_dot_and_a_small_one_is_not(
    message: list[bytes], out: bytes
) -> None:
    async def hold(talk: Talk) -> None:
        await asyncio.sleep(0.1)

    async with peer(*GREETING, DATA, ENVELOPE, hold) as (endpoint, talks):
        connection = await opened(endpoint)
        seen: list[bytes] = []

        async def gate() -> bool:
            await asyncio.sleep(0.05)
            seen.append(bytes(talks[0].reader._buffer))  # type: ignore[attr-defined]
            return False

        report = await send(connection, WHAT, message, yes, gate, within_ns=S)
        await talks[0].ended.wait()
    assert report.result == Dropped("the gate said no")
    assert seen == [out]
    assert talks[0].heard.endswith(seen[0])
    assert not connection.usable


async def test_the_message_is_awaited_only_when_the_peer_wants_it() -> None:
    order: list[str] = []

    async def message() -> Sequence[bytes]:
        order.append("message")
        await asyncio.sleep(0.01)
        return MESSAGE

    async def mark(talk: Talk) -> None:
        order.append("354")

    async with peer(*GREETING, DATA, mark, ENVELOPE, DOT, b"250 ok\r\n") as (endpoint, talks):
        connection = await opened(endpoint)
        report = await send(connection, WHAT, message(), yes, yes, within_ns=S)
        await hung_up(connection)
    assert isinstance(report.result, Accepted)
    assert order == ["354", "message"]
    assert WIRE_MESSAGE in talks[0].heard


async def test_a_message_that_cannot_be_made_sends_no_dot() -> None:
    async def message() -> Sequence[bytes]:
        raise ValueError("no key")

    async with peer(*GREETING, DATA, ENVELOPE) as (endpoint, talks):
        connection = await opened(endpoint)
        with pytest.raises(ValueError, match="no key"):
            await send(connection, WHAT, message(), yes, yes, within_ns=S)
        await talks[0].ended.wait()
    assert talks[0].heard.endswith(b"DATA\r\n")


async def test_a_peer_that_goes_while_the_message_is_made_is_lost_before_the_dot() -> None:
    async def message() -> Sequence[bytes]:
        await asyncio.sleep(0.1)
        return MESSAGE

    async with peer(*GREETING, DATA, ENVELOPE, close) as (endpoint, _):
        connection = await opened(endpoint)
        report = await send(connection, WHAT, message(), yes, yes, within_ns=S)
    assert isinstance(report.result, Lost)
    assert (report.result.stage, report.result.after_dot) == ("body", False)


@pytest.mark.parametrize("message", [[b"a\r\n", b"b\nc\r\n"], [b"a\r\n", b"b\r"]])
async def test_a_bare_line_end_sends_no_dot(message: list[bytes]) -> None:
    async with peer(*GREETING, DATA, ENVELOPE) as (endpoint, talks):
        connection = await opened(endpoint)
        report = await send(connection, WHAT, message, yes, yes, within_ns=S)
        await talks[0].ended.wait()
    assert isinstance(report.result, Refused)
    assert (report.result.stage, report.result.reply.enhanced) == ("local", "5.6.0")
    assert b"\r\n.\r\n" not in talks[0].heard


async def test_a_cancelled_transaction_sends_no_dot() -> None:
    async with peer(*GREETING, DATA, ENVELOPE) as (endpoint, talks):
        connection = await opened(endpoint)
        held = asyncio.Event()

        async def gate() -> bool:
            held.set()
            await asyncio.sleep(10)
            return True

        task = asyncio.create_task(send(connection, WHAT, MESSAGE, yes, gate, within_ns=60 * S))
        await held.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await talks[0].ended.wait()
    assert b"\r\n.\r\n" not in talks[0].heard
    assert not connection.usable


async def test_a_peer_that_goes_while_the_gate_holds_gets_no_dot() -> None:
    async with peer(*GREETING, DATA, ENVELOPE, hear(b"a line"), abort) as (endpoint, talks):
        connection = await opened(endpoint)

        async def gate() -> bool:
            await talks[0].ended.wait()
            await asyncio.sleep(0.05)
            return True

        report = await send(connection, WHAT, LARGE, yes, gate, within_ns=5 * S)
    assert isinstance(report.result, Lost)
    assert (report.result.stage, report.result.after_dot) == ("body", False)


async def test_a_peer_that_goes_after_the_dot_leaves_it_unknown() -> None:
    async with peer(*GREETING, DATA, ENVELOPE, DOT, close) as (endpoint, _):
        report = await sent(await opened(endpoint))
    assert report.result == Lost("dot", after_dot=True, why="the peer closed the connection")


@pytest.mark.parametrize(
    ("steps", "stage", "after_dot"),
    [
        ([never], "mail", False),
        ([b"250 ok\r\n", never], "rcpt", False),
        ([b"250 ok\r\n250 ok\r\n", never], "data", False),
        ([ENVELOPE, DOT, never], "dot", True),
    ],
)
async def test_each_stage_has_its_time_out(steps: list[Step], stage: str, after_dot: bool) -> None:
    async with peer(*GREETING, DATA, *steps) as (endpoint, _):
        report = await sent(await opened(endpoint, timeouts=SHORT))
    assert isinstance(report.result, Lost)
    assert (report.result.stage, report.result.after_dot) == (stage, after_dot)
    assert "no reply" in report.result.why


async def test_the_attempt_has_a_time_of_its_own() -> None:
    async with peer(*GREETING, DATA, ENVELOPE, DOT, never) as (endpoint, _):
        report = await sent(await opened(endpoint), within_ns=S // 10)
    assert report.result == Lost("dot", after_dot=True, why="the attempt took too long")


async def test_a_peer_that_takes_nothing_of_a_large_message_is_left_without_a_dot() -> None:
    asked = False

    async def gate() -> bool:
        nonlocal asked
        asked = True
        return True

    async def stop(talk: Talk) -> None:
        talk.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(1.5)

    async with peer(*GREETING, DATA, ENVELOPE, stop) as (endpoint, _):
        connection = await opened(endpoint, timeouts=SHORT)
        report = await send(
            connection, WHAT, [b"x" * 76 + b"\r\n"] * 600_000, yes, gate, within_ns=20 * S
        )
    assert isinstance(report.result, Lost)
    assert not report.result.after_dot
    assert not asked


@pytest.mark.parametrize("waits_for", ["block", "dot"])
async def test_a_peer_that_takes_a_large_message_slowly_is_waited_for(waits_for: str) -> None:
    """It takes twice as long as a block, or a reply, may take, and never stops."""
    within_ns, taken = 3 * S // 2, list[int]()

    async def dawdle(talk: Talk) -> None:
        # By the socket itself: the stream would read ahead.
        sock = talk.writer.get_extra_info("socket")
        talk.writer.transport.pause_reading()  # type: ignore[attr-defined]
        with socket.socket(fileno=os.dup(sock.fileno())) as ours:
            ours.setblocking(False)
            piece, at = b"", 0
            while not piece.endswith(b"\r\n.\r\n"):
                await asyncio.sleep(0.2 if at < 17 else 0)
                with contextlib.suppress(BlockingIOError):
                    piece = ours.recv(32_768)
                    taken.append(len(piece))
                at += 1
            await asyncio.sleep(0.2 * (17 - at))
        talk.writer.transport.resume_reading()  # type: ignore[attr-defined]

    generous = Timeouts(block_ns=60 * S, dot_ns=60 * S)
    # The smaller one fits into the buffers of two sockets: all of it is out before the peer takes much.
    lines, limits = {
        "block": (150_000, replace(generous, block_ns=within_ns)),
        "dot": (9_000, replace(generous, dot_ns=within_ns)),
    }[waits_for]
    async with peer(*GREETING, DATA, ENVELOPE, dawdle, b"250 ok\r\n") as (endpoint, _):
        connection = await opened(endpoint, timeouts=limits)
        begun = time.monotonic()
        report = await send(
            connection, WHAT, [b"x" * 76 + b"\r\n"] * lines, yes, yes, within_ns=60 * S
        )
        took = time.monotonic() - begun
        await hung_up(connection)
    assert isinstance(report.result, Accepted), report
    assert took * S > 2 * within_ns
    assert sum(taken) > 70 * lines


async def test_a_refusal_keeps_the_connection_and_resets_the_envelope() -> None:
    refusal = b"250 ok\r\n550 5.1.1 no\r\n503 no\r\n"
    async with peer(
        *GREETING, DATA, refusal, DATA, b"250 ok\r\n" + ENVELOPE, DOT, b"250 ok\r\n"
    ) as (endpoint, talks):
        connection = await opened(endpoint)
        first, second = await sent(connection), await sent(connection)
        await hung_up(connection)
    assert isinstance(first.result, Refused)
    assert isinstance(second.result, Accepted)
    assert b"DATA\r\nRSET\r\nMAIL" in talks[0].heard


async def test_what_comes_between_transactions_closes_the_connection() -> None:
    async def later(talk: Talk) -> None:
        await asyncio.sleep(0.05)
        talk.writer.write(b"421 4.4.2 idle too long\r\n")

    closed = asyncio.Event()
    async with peer(*GREETING, DATA, ENVELOPE, DOT, b"250 ok\r\n", later) as (endpoint, _):
        connection = await opened(endpoint)
        connection.on_closed(closed.set)
        await sent(connection)
        await closed.wait()
        assert not connection.usable


@pytest.mark.parametrize("ending", [[close], [abort], [b"421 enough\r\n", close]])
async def test_a_used_connection_that_the_peer_ends_teaches_nothing(ending: list[Step]) -> None:
    async with peer(*GREETING, DATA, ENVELOPE, DOT, b"250 ok\r\n", DATA, *ending) as (endpoint, _):
        connection = await opened(endpoint)
        first = await sent(connection)
        second = await sent(connection)
    assert not first.stale
    assert second.stale
    assert not isinstance(second.result, Accepted)


async def test_a_warning_is_heard_on_a_used_connection_too() -> None:
    warning = b"421 4.7.28 an unusual rate of mail from your IP address\r\n"
    steps = (*GREETING, DATA, ENVELOPE, DOT, b"250 ok\r\n", DATA, warning, close)
    async with peer(*steps) as (endpoint, _):
        connection = await opened(endpoint)
        await sent(connection)
        second = await sent(connection)
    assert not second.stale
    assert isinstance(second.result, Refused)


async def test_a_fresh_connection_that_the_peer_ends_is_not_stale() -> None:
    async with peer(*GREETING, DATA, b"421 enough\r\n", close) as (endpoint, _):
        report = await sent(await opened(endpoint))
    assert not report.stale


async def test_a_connection_that_ended_before_its_turn_loses_nothing() -> None:
    async def pause(talk: Talk) -> None:
        await asyncio.sleep(0.05)

    async with peer(*GREETING, pause, close) as (endpoint, _):
        connection = await opened(endpoint)
        await asyncio.sleep(0.1)
        assert not connection.usable
        report = await sent(connection)
    assert isinstance(report.result, Lost)
    assert not report.result.after_dot


# -- TLS and AUTH, with aiosmtpd


class Mailbox:
    """Keep what arrives."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:  # noqa: N802
        self.messages.append(envelope.original_content)  # type: ignore[attr-defined]
        return "250 2.0.0 taken"


@dataclass
class Certificates:
    server: ssl.SSLContext
    trusting: ssl.SSLContext


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("mx.example.net").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return Certificates(server, trusting)


@contextlib.asynccontextmanager
async def aiosmtpd(
    mailbox: Mailbox, context: ssl.SSLContext, *, require: bool = False
) -> AsyncIterator[Endpoint]:
    loop = asyncio.get_running_loop()
    servers: list[SMTP] = []

    def make() -> SMTP:
        servers.append(
            SMTP(mailbox, hostname="peer", tls_context=context, require_starttls=require, loop=loop)
        )
        return servers[-1]

    server = await loop.create_server(make, "127.0.0.1", 0)
    try:
        yield Endpoint("mx.example.net", "127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for each in servers:
            if each.transport is not None:
                each.transport.close()
        await asyncio.sleep(0.05)


async def test_a_verified_connection_delivers(certificates: Certificates) -> None:
    mailbox = Mailbox()
    async with aiosmtpd(mailbox, certificates.server, require=True) as endpoint:
        connection = await opened(endpoint, tls=Tls("required", certificates.trusting))
        reports = [await sent(connection) for _ in range(3)]
        await hung_up(connection)
    assert [type(report.result) for report in reports] == [Accepted] * 3
    assert reports[0].wire.tls == "TLSv1.3"
    assert mailbox.messages == [b"".join(MESSAGE)] * 3


async def test_a_large_message_arrives_whole_over_tls(certificates: Certificates) -> None:
    mailbox, message = Mailbox(), [b"Subject: x\r\n\r\n", (b"." + b"x" * 75 + b"\r\n") * 50_000]
    async with aiosmtpd(mailbox, certificates.server) as endpoint:
        connection = await opened(endpoint, tls=Tls("required", certificates.trusting))
        report = await send(
            connection, Transaction("", "a@example.net", 1), message, yes, yes, within_ns=30 * S
        )
        await hung_up(connection)
    assert isinstance(report.result, Refused | Accepted)
    assert mailbox.messages == [b"".join(message)]


async def test_an_untrusted_certificate_is_a_failure_of_tls(certificates: Certificates) -> None:
    async with aiosmtpd(Mailbox(), certificates.server) as endpoint:
        with pytest.raises(TlsFailed) as caught:
            await opened(endpoint, tls=Tls("required", ssl.create_default_context()))
    assert "verify failed" in caught.value.why.lower().replace("_", " ")


async def test_a_certificate_for_another_name_is_a_failure_of_tls(
    certificates: Certificates,
) -> None:
    async with aiosmtpd(Mailbox(), certificates.server) as endpoint:
        with pytest.raises(TlsFailed):
            await opened(
                endpoint,
                tls=Tls("required", certificates.trusting, server_name="other.example.net"),
            )


@pytest.mark.parametrize("name", ["." + "x" * 70 + ".example", "a" * 64 + ".example", "x..y"])
async def test_a_host_name_that_is_none_is_a_failure_of_tls(
    certificates: Certificates, name: str
) -> None:
    async with aiosmtpd(Mailbox(), certificates.server) as endpoint:
        with pytest.raises(ConnectFailed):
            await opened(endpoint, tls=Tls("required", certificates.trusting, server_name=name))


async def test_what_a_slow_peer_leaves_below_tls_keeps_the_gate_shut(
    certificates: Certificates,
) -> None:
    async def upgrade(talk: Talk) -> None:
        talk.writer.write(b"220 go\r\n")
        await talk.writer.start_tls(certificates.server)

    async def stop(talk: Talk) -> None:
        talk.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0.8)

    asked: list[bool] = []

    async def gate() -> bool:
        asked.append(True)
        return True

    steps: list[Step] = [b"220 peer\r\n", LINE, OFFER, LINE, upgrade, LINE, EHLO, DATA, ENVELOPE]
    async with peer(*steps, stop) as (endpoint, _):
        connection = await opened(
            endpoint, tls=Tls("required", certificates.trusting), timeouts=SHORT
        )
        message = [b"x" * 76 + b"\r\n"] * 200_000
        report = await send(connection, WHAT, message, yes, gate, within_ns=20 * S)
    assert isinstance(report.result, Lost)
    assert not report.result.after_dot
    assert not asked


@pytest.mark.parametrize("implicit", [False, True])
async def test_the_gate_is_not_asked_while_anything_lies_below_tls(
    certificates: Certificates, implicit: bool
) -> None:
    """A transport takes up to 64 KiB without a word; what lies there leaves at some time, whatever becomes of its owner meanwhile."""

    async def upgrade(talk: Talk) -> None:
        if not implicit:
            talk.writer.write(b"220 go\r\n")
        await talk.writer.start_tls(certificates.server)

    async def stop(talk: Talk) -> None:
        talk.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0.8)

    async def dial(address: str, port: int) -> Opened:
        sock = tcp_socket(address)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        await connected(sock, address, port)
        return Opened(sock, address)

    asked: list[bool] = []

    async def gate() -> bool:
        asked.append(True)
        return True

    beginning: list[Step] = [b"220 peer\r\n", LINE, OFFER, LINE, upgrade, LINE, EHLO]
    if implicit:
        beginning = [upgrade, *GREETING]
    async with peer(*beginning, DATA, ENVELOPE, stop, receive_bytes=4096) as (endpoint, _):
        connection = await connect(
            endpoint,
            Origin("sender.example.com", dial),
            Tls("required", certificates.trusting, implicit=implicit),
            timeouts=SHORT,
            clock=SystemClock(),
        )
        report = await send(
            connection, WHAT, [b"x" * 76 + b"\r\n"] * 5_000, yes, gate, within_ns=20 * S
        )
    assert isinstance(report.result, Lost)
    assert not report.result.after_dot
    assert not asked


async def test_required_tls_that_is_not_offered_is_never_done_without() -> None:
    async with peer(*GREETING) as (endpoint, talks):
        with pytest.raises(TlsFailed):
            await opened(endpoint, tls=Tls("required", ssl.create_default_context()))
    assert b"MAIL" not in talks[0].heard


async def test_opportunistic_tls_that_is_not_offered_goes_on_in_the_clear() -> None:
    async with peer(*GREETING) as (endpoint, _):
        connection = await opened(endpoint, tls=Tls("opportunistic", ssl.create_default_context()))
        assert connection.peer.tls == ""
        await hung_up(connection)


OFFER = b"250-peer\r\n250 STARTTLS\r\n"


@pytest.mark.parametrize(
    "answer",
    [[b"454 not now\r\n"], [b"220 go\r\n", b"garbage, not TLS\r\n"], [b"220 go\r\n", close]],
)
async def test_opportunistic_tls_that_breaks_spends_the_connection(answer: list[Step]) -> None:
    async with peer(b"220 peer\r\n", LINE, OFFER, LINE, *answer) as (endpoint, talks):
        with pytest.raises(TlsFailed):
            await opened(
                endpoint, tls=Tls("opportunistic", ssl.create_default_context()), timeouts=SHORT
            )
    assert b"MAIL" not in talks[0].heard


async def test_a_421_to_starttls_is_no_failure_of_tls() -> None:
    async with peer(b"220 peer\r\n", LINE, OFFER, LINE, b"421 busy\r\n") as (endpoint, _):
        with pytest.raises(ConnectFailed) as caught:
            await opened(endpoint, tls=Tls("opportunistic", ssl.create_default_context()))
    assert not isinstance(caught.value, TlsFailed)


async def test_what_was_injected_before_tls_is_forgotten(certificates: Certificates) -> None:
    # A man in the middle adds replies in the clear behind the 220; they must answer nothing (CVE-2021-38371 and its kin).
    async def upgrade(talk: Talk) -> None:
        talk.writer.write(b"220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n")
        await talk.writer.drain()

    async with peer(b"220 peer\r\n", LINE, OFFER, LINE, upgrade) as (endpoint, _):
        with pytest.raises(TlsFailed):
            await opened(endpoint, tls=Tls("required", certificates.trusting), timeouts=SHORT)


PLAIN: list[Step] = [
    b"250-peer\r\n250 AUTH PLAIN LOGIN\r\n",
    hear(b"AUTH PLAIN AHVzZXIAc2VjcmV0\r\n"),
]
LOGIN: list[Step] = [
    b"250-peer\r\n250 AUTH LOGIN\r\n",
    hear(b"AUTH LOGIN dXNlcg==\r\n"),
    b"334 UGFzc3dvcmQ6\r\n",
    hear(b"c2VjcmV0\r\n"),
]


@pytest.mark.parametrize("answer", [b"235 2.7.0 welcome\r\n", b"535 5.7.8 who?\r\n"])
@pytest.mark.parametrize("dialogue", [PLAIN, LOGIN])
async def test_a_smart_host_is_told_the_password_over_tls(
    certificates: Certificates, dialogue: list[Step], answer: bytes
) -> None:
    async def upgrade(talk: Talk) -> None:
        talk.writer.write(b"220 go\r\n")
        await talk.writer.start_tls(certificates.server)

    origin = Origin("sender.example.com", Open().open, Credentials("user", "secret"))
    tls = Tls("required", certificates.trusting)
    async with peer(b"220 peer\r\n", LINE, OFFER, LINE, upgrade, LINE, *dialogue, answer) as (
        endpoint,
        _,
    ):
        if answer.startswith(b"235"):
            connection = await connect(
                endpoint, origin, tls, timeouts=Timeouts(), clock=SystemClock()
            )
            assert connection.usable
            await hung_up(connection)
            return
        with pytest.raises(ConnectFailed) as caught:
            await connect(endpoint, origin, tls, timeouts=Timeouts(), clock=SystemClock())
    assert caught.value.stage == "auth"
    assert caught.value.reply is not None
    assert caught.value.reply.code == 535


@pytest.mark.parametrize(
    "tls",
    [Tls("opportunistic", ssl.create_default_context()), Tls("none", fallen_back="it was broken")],
)
async def test_a_password_is_not_sent_in_the_clear(tls: Tls) -> None:
    async with peer(b"220 peer\r\n", LINE, b"250-peer\r\n250 AUTH PLAIN\r\n") as (endpoint, talks):
        origin = Origin("sender.example.com", Open().open, Credentials("user", "secret"))
        with pytest.raises(ConnectFailed) as caught:
            await connect(endpoint, origin, tls, timeouts=SHORT, clock=SystemClock())
    assert caught.value.stage == "auth"
    assert b"AUTH" not in talks[0].heard


@pytest.mark.parametrize(
    ("steps", "after_dot"),
    [
        ([DATA, never], False),
        ([DATA, b"250 ok\r\n", never], False),
        ([DATA, ENVELOPE, never], False),
        ([DATA, ENVELOPE, DOT, never], True),
    ],
    ids=["nothing", "sender", "body", "dot"],
)
async def test_who_gives_up_has_not_lost_what_the_peer_has_not_got_and_knows_not_of_the_rest(
    steps: list[Step], after_dot: bool
) -> None:
    gate = asyncio.Event()

    async def may_dot() -> bool:
        await gate.wait()
        return True

    if after_dot:
        gate.set()
    end = b"\r\n.\r\n" if after_dot else b""
    async with peer(*GREETING, *steps) as (endpoint, talks):
        connection = await opened(endpoint)
        sending = asyncio.create_task(
            send(connection, WHAT, MESSAGE, yes, may_dot, within_ns=60 * S)
        )
        async with asyncio.timeout(30):
            while not talks or not talks[0].heard.endswith(end) or b"MAIL" not in talks[0].heard:
                await asyncio.sleep(0.01)
        assert not connection.give_up("it leaves", after_dot=False)
        if after_dot:
            await asyncio.sleep(0.05)
            assert not sending.done()
            assert connection.give_up("it leaves", after_dot=True)
        gate.set()
        report = await sending
    assert report.result == (
        Lost("dot", after_dot=True, why="it leaves") if after_dot else Dropped("it leaves")
    )
    assert not connection.usable
    assert b"\r\n.\r\n" not in talks[0].heard or after_dot
