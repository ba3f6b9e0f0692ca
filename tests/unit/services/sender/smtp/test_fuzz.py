"""Connections against a peer that does everything wrong, in any order and cut anywhere: what is said of a message is true.

The peer knows what it has taken. A message that is said to be delivered lies there; one that will be tried again, or was given up, does
not. Only `unknown` may be either, and only where the dot was written.
"""

import asyncio
import contextlib
import itertools
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from services.sender.smtp.connect import ConnectFailed, Endpoint, Origin, Tls, connect
from services.sender.smtp.envelope import Transaction
from services.sender.smtp.session import Accepted, Dropped, Lost, Refused
from services.sender.smtp.timeouts import Timeouts
from tests.support.sending import send
from tests.support.socketpeer import SocketPeer
from tests.support.virtualtime import LoopClock, run

if TYPE_CHECKING:
    from services.sender.smtp.connection import Connection

S: Final = 1_000_000_000
#: What a peer may make of its reply instead of giving it.
WAYS: Final = (
    "many lines",
    "bare LF",
    "no text",
    "4xx",
    "5xx",
    "421",
    "another class",
    "lines that differ",
    "garbled",
    "binary",
    "a line too long",
    "a reply too long",
    "one too many",
    "drop",
    "half, then drop",
    "hang",
)


@dataclass
class Plan:
    """How the peer behaves, one way for each reply that it gives, and where its bytes are cut."""

    ways: deque[str]
    cuts: deque[int]
    pipelining: bool
    #: Whether it answers RCPT behind a refused MAIL, and DATA behind a refused RCPT, as if nothing had been.
    careless: bool
    #: Whether each refusal can be told to be the answer to its command: not behind a reply too many, where commands leave together.
    orderly: bool = True


@dataclass
class Peer(SocketPeer):
    """Take messages, and know which."""

    plan: Plan
    taken: list[bytes] = field(default_factory=list)
    #: Whose end it has read.
    ended: list[bytes] = field(default_factory=list)
    #: What it has read although it had refused the recipient.
    leaked: bytes = b""
    commands: list[bytes] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def _serve(self, sock: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 20)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, _Gone):
            await self._talk(_Mouth(reader, writer, self.plan))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _talk(self, mouth: "_Mouth") -> None:
        sender = recipient = False
        await mouth.say(b"220", b"host")
        while line := await mouth.reader.readline():
            self.commands.append(line)
            mouth.verb = line[:4].lower()
            match line[:4]:
                case b"EHLO":
                    await mouth.say(b"250", b"host", *[b"PIPELINING"] * self.plan.pipelining)
                case b"MAIL":
                    sender = await mouth.say(b"250", b"ok")
                case b"RCPT":
                    before = sender or self.plan.careless
                    recipient = await mouth.say(
                        *(b"250", b"ok") if before else (b"503", b"no to rcpt")
                    )
                    recipient = recipient and sender
                case b"DATA":
                    before = recipient or self.plan.careless
                    if await mouth.say(*(b"354", b"go") if before else (b"503", b"no to data")):
                        await self._take(mouth, recipient)
                        sender = recipient = False
                case b"QUIT":
                    await mouth.say(b"221", b"bye")
                    return
                case _:
                    sender = recipient = False
                    await mouth.say(b"250", b"ok")

    async def _take(self, mouth: "_Mouth", recipient: bool) -> None:
        message = b""
        while (line := await mouth.reader.readline()) != b".\r\n":
            if not line:
                return
            message += line
        self.ended.append(message)
        mouth.verb = b"dot"
        if not recipient:
            self.leaked += message
            await mouth.say(b"554", b"no to dot")
        # It is taken with the first byte of a reply that says so, whatever becomes of the rest.
        elif mouth.next_is_positive():
            self.taken.append(message)
            await mouth.say(b"250", b"taken")
        else:
            await mouth.say(b"250", b"taken")


class _Gone(Exception):
    """The peer has had enough."""


@dataclass
class _Mouth:
    """Give replies as the plan wants them."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    plan: Plan
    #: What it answers to.
    verb: bytes = b""

    def next_is_positive(self) -> bool:
        way = self.plan.ways[0] if self.plan.ways else "good"
        return way in (
            "good",
            "many lines",
            "bare LF",
            "no text",
            "one too many",
            "half, then drop",
        )

    async def say(self, code: bytes, *lines: bytes) -> bool:  # noqa: PLR0912 - one for each way
        """Reply; True: the command is done."""
        way = self.plan.ways.popleft() if self.plan.ways else "good"
        *first, last = lines
        good = b"".join(b"%b-%b\r\n" % (code, line) for line in first) + b"%b %b\r\n" % (code, last)
        done = code < b"4"
        match way:
            case "many lines":
                good = b"".join(b"%b-%d\r\n" % (code, at) for at in range(20)) + good
            case "bare LF":
                good = good.replace(b"\r\n", b"\n")
            case "no text":
                good = b"%b\r\n" % code
            case "4xx" | "5xx" | "421":
                code, done = way.replace("xx", "50").encode(), False
                good = b"%b-no to\r\n%b %b\r\n" % (code, code, self.verb)
            case "another class":
                good, done = (b"250 ok\r\n" if code == b"354" else b"354 go\r\n"), False
            case "lines that differ":
                good, done = b"250-yes\r\n550 no\r\n", False
            case "garbled":
                good, done = b"hello there\r\n", False
            case "binary":
                good, done = b"\x16\x03\x01\x02\x00\xff\x00\r\n", False
            case "a line too long":
                good, done = b"%b %b\r\n" % (code, b"x" * 9000), False
            case "a reply too long":
                good, done = b"%b-%b\r\n" % (code, b"x" * 1000) * 40 + good, False
            case "one too many":
                await self._write(good, b"250 and more\r\n")
                return done
            case "half, then drop":
                good = good[: len(good) // 2]
            case _:
                pass
        if way == "hang":
            await self.reader.read()
        if way not in ("hang", "drop"):
            await self._write(good)
        if way in ("hang", "drop", "half, then drop", "421"):
            raise _Gone
        return done

    async def _write(self, good: bytes, more: bytes = b"") -> None:
        data, end = good + more, len(good)
        while data:
            size = self.plan.cuts.popleft() if self.plan.cuts else len(data)
            # What nobody asked for comes with the reply before it; a moment later it would be an answer, for all that anybody can know.
            size += size == end and bool(more)
            self.writer.write(data[:size])
            data, end = data[size:], end - size
            # In virtual time this lets everybody else go on first.
            await asyncio.sleep(0.001)


def message(number: int) -> bytes:
    return b"Subject: %d\r\n\r\n.dot\r\nend\r\n" % number


def stuffed(number: int) -> bytes:
    return message(number).replace(b"\r\n.", b"\r\n..")


async def yes() -> bool:
    return True


async def deliver(peer: Peer, count: int, *, gate: bool) -> list[tuple[int, object]]:
    """Send ``count`` messages, on one connection as long as it may be used; gives what is said of each."""

    async def may_dot() -> bool:
        return gate

    told: list[tuple[int, object]] = []
    connection: Connection | None = None
    for number in range(count):
        try:
            if connection is None or not connection.usable:
                connection = await connect(
                    Endpoint("mx.example.net", "192.0.2.1"),
                    Origin("m1.example.com", peer.dial),
                    Tls(),
                    timeouts=Timeouts(),
                    clock=LoopClock(),
                )
        except ConnectFailed as error:
            told.append((number, error))
            continue
        what = Transaction("b@example.com", "u@example.net", 100)
        report = await send(connection, what, [message(number)], yes, may_dot, within_ns=1200 * S)
        told.append((number, report.result))
        assert report.wire.end_ns >= report.wire.mail_ns
        # What comes late comes between the transactions.
        await asyncio.sleep(1)
    if connection is not None:
        connection.close()
    await asyncio.sleep(1)
    await peer.close()
    return told


def check(peer: Peer, told: Sequence[tuple[int, object]]) -> None:
    assert peer.leaked == b""
    for number, result in told:
        mine = stuffed(number)
        assert peer.taken.count(mine) <= 1
        match result:
            case Accepted():
                assert mine in peer.taken
            case Lost(after_dot=True):
                assert mine in peer.ended
            case Lost() | Refused() | Dropped() | ConnectFailed():
                assert mine not in peer.taken
                if isinstance(result, Refused):
                    assert result.reply.code >= 400
                    assert not peer.plan.orderly or result.reply.text == f"no to {result.stage}"
            case _:
                raise AssertionError(result)
    # Nothing of a message is ever read as a command, and nothing but a message as one.
    verbs = {line[:4] for line in peer.commands}
    assert verbs <= {b"EHLO", b"HELO", b"MAIL", b"RCPT", b"DATA", b"RSET", b"QUIT"}
    assert {ended for ended in peer.ended if ended} <= {stuffed(number) for number, _ in told}


def plan(
    faults: Mapping[int, str],
    cuts: Sequence[int] = (),
    pipelining: bool = True,
    careless: bool = False,
) -> Plan:
    """Have the replies with these numbers go wrong."""
    ways = deque(faults.get(at, "good") for at in range(max(faults, default=-1) + 1))
    disorderly = [at for at, way in faults.items() if way == "one too many"]
    # The first two are read with more patience than the rest.
    orderly = not disorderly or (not pipelining and min(disorderly) > 1)
    return Plan(ways, deque(cuts), pipelining, careless, orderly)


PLANS: Final = st.builds(
    plan,
    st.dictionaries(st.integers(0, 20), st.sampled_from(WAYS), max_size=3),
    st.lists(st.integers(1, 40), max_size=40),
    st.booleans(),
    st.booleans(),
)


def told_by(how: Plan, *, gate: bool = True) -> tuple[Peer, list[tuple[int, object]]]:
    async def main() -> tuple[Peer, list[tuple[int, object]]]:
        peer = Peer(how)
        return peer, await deliver(peer, 4, gate=gate)

    return run(main())


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PLANS, st.booleans())
def test_what_is_said_of_a_message_is_true_whatever_the_peer_does(how: Plan, gate: bool) -> None:
    peer, told = told_by(how, gate=gate)
    for _, result in told:
        event(type(result).__name__)
    check(peer, told)


@pytest.mark.parametrize("way", WAYS)
def test_one_fault_at_any_reply_spoils_no_more_than_it_must(way: str) -> None:
    """Banner, EHLO, and three replies and the one to the dot for each of two messages."""
    for at, pipelining in itertools.product(range(10), (False, True)):
        # Only MAIL and RCPT leave something behind them to be careless about.
        peer, told = told_by(plan({at: way}, (), pipelining, careless=at in (2, 3)))
        check(peer, told)
        fine = [number for number, result in told if isinstance(result, Accepted)]
        assert len(fine) >= 3, (at, pipelining, told)


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_reply_before_its_time_is_never_taken_for_the_one_to_the_dot(cut: int) -> None:
    # Behind the 354 comes a 250, cut anywhere; the message is then refused.
    for pipelining in (False, True):
        how = plan({4: "one too many", 5: "5xx"}, [99] * 4 + [8 + cut], pipelining)
        peer, told = told_by(how)
        check(peer, told)
        assert not isinstance(told[0][1], Accepted)


@pytest.mark.parametrize("at", [2, 3])
def test_in_lock_step_no_refusal_is_taken_for_the_answer_to_another_command(at: int) -> None:
    peer, told = told_by(plan({at: "one too many", at + 1: "5xx"}, pipelining=False))
    check(peer, told)


def test_a_good_peer_gets_everything_on_one_connection() -> None:
    """Otherwise nothing above would show anything."""
    peer, told = told_by(plan({}))
    assert [type(result) for _, result in told] == [Accepted] * 4
    assert peer.taken == [stuffed(number) for number in range(4)]
    assert peer.commands.count(b"QUIT\r\n") == 1
