"""Whose fault, and at which stage: every way in which a peer can fail has its outcome, after exactly the time that it was given."""

import asyncio
import contextlib
import dataclasses
import random
import socket
from typing import TYPE_CHECKING, Final, cast

import pytest
import structlog

from services.sender.outcomes import failed_connection, of_report
from services.sender.reach import Common, Reach, Unreachable
from services.sender.smtp.envelope import Transaction
from services.sender.sources.paths import Opened
from shared.net.destinations import Destinations
from shared.net.guard import Guard
from shared.records.outcome import Outcome
from shared.records.tlslevel import TlsLevel
from shared.runtime.settings import Provider, Route, Settings, Source
from shared.runtime.workings import Net, Sender
from tests.support.grants import grant
from tests.support.sending import send
from tests.support.socketpeer import SocketPeer
from tests.support.virtualtime import LoopClock, run

if TYPE_CHECKING:
    from services.sender.sources.outlet import Outlet

S: Final = 1_000_000_000
MESSAGE: Final = b"Subject: hello\r\n\r\n.dot\r\n"
GRANT: Final = grant(site="127.0.0.1:25", provider="big")
FAULTS: Final = {
    "4xx": b"450 4.0.0 not now\r\n",
    "5xx": b"550 5.0.0 never\r\n",
    "421": b"421 4.0.0 closing\r\n",
}


async def admitted() -> bool:
    """Wait for no turn."""
    return True


class Peer(SocketPeer):
    """Speak SMTP well, until ``stage``; there, do what ``fault`` says."""

    def __init__(self, stage: str, fault: str, *, pipelining: bool, starttls: bool) -> None:
        self.stage, self.fault = stage, fault
        extensions = [b"PIPELINING"] * pipelining + [b"STARTTLS"] * starttls
        lines = [b"host", *extensions]
        self.ehlo = b"".join(b"250-%b\r\n" % line for line in lines) + b"250 8BITMIME\r\n"
        self.heard: list[bytes] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def dial(self, _: str, port: int) -> Opened:
        if self.stage == "connect":
            if self.fault == "drop":
                raise ConnectionRefusedError(111, "Connection refused")
            await asyncio.sleep(1e9)
        return await super().dial(_, port)

    async def _serve(self, sock: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            await self._talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at, known = "banner", b"220 host\r\n"
        refused = False
        while True:
            if at == self.stage:
                if self.fault == "hang":
                    await reader.read()
                while self.fault == "drip":
                    writer.write(b"2")
                    await asyncio.sleep(7)
                if self.fault == "mute":
                    writer.write(b"220 go\r\n")
                    while await reader.read(1 << 16):
                        pass
                if self.fault in ("hang", "drop", "mute"):
                    return
                known = FAULTS[self.fault]
                refused = at in ("mail", "rcpt")
            elif refused and at in ("rcpt", "data"):
                known = b"503 5.5.1 and what before?\r\n"
            writer.write(known)
            if known.startswith((b"421", b"221")):
                return
            if at == "data" and known.startswith(b"354"):
                if self.stage == "body":
                    await asyncio.sleep(1e9)
                await reader.readuntil(b"\r\n.\r\n")
                at, known = "dot", b"250 2.0.0 taken\r\n"
                continue
            line = await reader.readline()
            if not line:
                return
            self.heard.append(line)
            at, known = self._next(line)

    def _next(self, line: bytes) -> tuple[str, bytes]:
        match line[:4]:
            case b"EHLO" | b"HELO":
                return "ehlo", self.ehlo if line[:1] == b"E" else b"250 host\r\n"
            case b"STAR":
                return "starttls", b"454 4.7.0 no\r\n"
            case b"DATA":
                return "data", b"354 go\r\n"
            case b"QUIT":
                return "quit", b"221 bye\r\n"
            case verb:
                return verb.decode().lower(), b"250 ok\r\n"


def reach(peer: Peer, level: TlsLevel, sender: Sender) -> Reach:
    settings = Settings(
        routes={"x.example": Route("x.example", (("127.0.0.1", 25),), "big")},
        providers={"big": Provider("big", tls=level)},
        sender=sender,
    )
    clock = LoopClock()
    common = Common(
        settings,
        Destinations(settings, clock),
        Guard.of(Net(("127.0.0.0/8",)), []),
        clock,
        random.Random(7),
        structlog.get_logger(),
    )
    source = Source("ip-1", 0, "bind", "none", ehlo="m1.acme.example", address="127.0.0.11")
    return Reach(source, cast("Outlet", peer), common)


async def yes() -> bool:
    return True


async def attempt(
    peer: Peer, level: TlsLevel, sender: Sender, message: bytes
) -> tuple[Outcome, float]:
    """Make one attempt as a line does; gives its outcome, and how long it took."""
    loop = asyncio.get_running_loop()
    way = reach(peer, level, sender)
    try:
        connection = await way.connect(GRANT, admitted)
    except Unreachable as error:
        took = loop.time()
        await peer.close()
        return failed_connection(GRANT, error), took
    what = Transaction(GRANT.from_, GRANT.to, len(message))
    report = await send(connection, what, [message], yes, yes, within_ns=1200 * S)
    took = loop.time()
    connection.close()
    # What is said to QUIT is said to nobody.
    await asyncio.sleep(1)
    await peer.close()
    outcome = of_report(GRANT, report)
    assert isinstance(outcome, Outcome)
    return outcome, took


def tried(
    stage: str,
    fault: str,
    *,
    pipelining: bool = False,
    level: TlsLevel = "opportunistic",
    sender: Sender | None = None,
    message: bytes = MESSAGE,
) -> tuple[Outcome, float, Peer]:
    made: list[Peer] = []

    async def main() -> tuple[Outcome, float]:
        made.append(Peer(stage, fault, pipelining=pipelining, starttls=stage == "starttls"))
        return await attempt(made[0], level, sender or Sender(), message)

    outcome, took = run(main())
    return outcome, took, made[0]


PAIR: Final = ("pair_failed", "connection", "pair")
UNKNOWN: Final = ("unknown", "connection", "pair")
FINE: Final = ("delivered", "", "")
#: stage -> 4xx, 5xx, 421, drop, hang
MATRIX: Final = {
    "banner": (PAIR, PAIR, PAIR, PAIR, PAIR),
    "ehlo": (PAIR, PAIR, PAIR, PAIR, PAIR),
    "mail": (
        ("deferred", "other", "domain"),
        ("bounced", "other", "domain"),
        PAIR,
        PAIR,
        PAIR,
    ),
    "rcpt": (
        ("deferred", "other", "recipient"),
        ("bounced", "other", "recipient"),
        ("deferred", "closing", "recipient"),
        ("deferred", "connection", "recipient"),
        ("deferred", "connection", "recipient"),
    ),
    "data": (
        ("deferred", "other", "message"),
        ("bounced", "other", "message"),
        ("deferred", "closing", "message"),
        ("deferred", "connection", "message"),
        ("deferred", "connection", "message"),
    ),
    "dot": (
        ("deferred", "other", "message"),
        ("bounced", "other", "message"),
        ("deferred", "closing", "message"),
        UNKNOWN,
        UNKNOWN,
    ),
    "quit": (FINE, FINE, FINE, FINE, FINE),
}
WAITS: Final = {"banner": 300, "ehlo": 300, "mail": 300, "rcpt": 300, "data": 120, "dot": 600}
ROWS: Final = [
    (stage, fault, verdict)
    for stage, verdicts in MATRIX.items()
    for fault, verdict in zip((*FAULTS, "drop", "hang"), verdicts, strict=True)
]


@pytest.mark.parametrize("pipelining", [False, True])
@pytest.mark.parametrize(("stage", "fault", "verdict"), ROWS)
def test_the_matrix(
    stage: str, fault: str, verdict: tuple[str, str, str], pipelining: bool
) -> None:
    outcome, took, _ = tried(stage, fault, pipelining=pipelining)
    assert (outcome.result, outcome.category, outcome.scope) == verdict
    assert outcome.wire is not None
    assert outcome.reply is not None
    wire, reply = outcome.wire, outcome.reply
    assert (wire.source_ip, wire.mx, wire.mx_ip) == ("127.0.0.11", "127.0.0.1", "127.0.0.1")
    if stage == "quit":
        assert (reply.code, reply.stage, reply.text) == (250, "dot", "taken")
        assert wire.bytes == len(MESSAGE) - 2 + 1, (
            "one dot more, and the last line end is held back"
        )
    else:
        assert reply.stage == stage
        codes = {"4xx": 450, "5xx": 550, "421": 421}
        assert reply.code == codes.get(fault, 0)
        assert reply.text
    waited = WAITS.get(stage, 0) if fault == "hang" else 0
    assert took == pytest.approx(waited)
    if waited:
        assert wire.ms[stage] == waited * 1000
    if stage not in ("banner", "ehlo"):
        assert wire.tls == "none: it is not offered"
        assert {"connect", "banner", "ehlo", "mail"} <= set(wire.ms)


@pytest.mark.parametrize(("fault", "took"), [("drop", 0), ("hang", 30)])
def test_what_cannot_be_connected_to_is_the_pairs_trouble(fault: str, took: int) -> None:
    outcome, spent, _ = tried("connect", fault)
    assert (outcome.result, outcome.category, outcome.scope) == PAIR
    assert outcome.reply is not None
    assert (outcome.reply.stage, spent) == ("connect", took)


STARTTLS_FAILS: Final = ("pair_failed", "tls", "pair")


@pytest.mark.parametrize(
    ("fault", "verdict", "took"),
    [
        ("4xx", STARTTLS_FAILS, 0),
        ("5xx", STARTTLS_FAILS, 0),
        # It is busy, whatever it was asked.
        ("421", PAIR, 0),
        ("drop", STARTTLS_FAILS, 0),
        ("hang", STARTTLS_FAILS, 120),
        # It agrees, and its handshake never comes.
        ("mute", STARTTLS_FAILS, 120),
    ],
)
def test_starttls_that_fails_is_the_pairs_trouble_where_tls_is_required(
    fault: str, verdict: tuple[str, str, str], took: int
) -> None:
    outcome, spent, peer = tried("starttls", fault, level="encrypted")
    assert (outcome.result, outcome.category, outcome.scope) == verdict
    assert outcome.reply is not None
    assert outcome.reply.stage == "starttls"
    assert outcome.wire is not None
    assert outcome.wire.tls.startswith("failed: ")
    assert spent == took
    assert not any(line.startswith(b"MAIL") for line in peer.heard)


@pytest.mark.parametrize("fault", ["4xx", "5xx", "drop", "hang", "mute"])
def test_starttls_that_fails_is_done_without_where_nobody_minds(fault: str) -> None:
    outcome, _, peer = tried("starttls", fault)
    assert outcome.result == "delivered"
    assert outcome.wire is not None
    assert outcome.wire.tls.startswith("none: ")
    assert len(peer.tasks) == 2, "on a new connection"


def test_a_peer_that_takes_nothing_of_a_message_is_left_after_the_time_for_a_block() -> None:
    message = b"Subject: x\r\n\r\n" + (b"x" * 76 + b"\r\n") * 100_000
    outcome, took, _ = tried("body", "hang", message=message)
    assert (outcome.result, outcome.scope) == ("deferred", "message")
    assert took == pytest.approx(180)
    assert outcome.wire is not None
    assert 0 < outcome.wire.bytes < len(message)


def test_a_peer_that_says_a_byte_now_and_then_gets_no_more_time() -> None:
    outcome, took, _ = tried("rcpt", "drip")
    assert (outcome.result, outcome.scope, took) == ("deferred", "recipient", 300)


@pytest.mark.parametrize(
    "stage", ["connect", "banner", "ehlo", "starttls", "mail", "rcpt", "data", "block", "dot"]
)
def test_each_time_out_is_an_operators_to_set(stage: str) -> None:
    sender = dataclasses.replace(Sender(), **{f"{stage}_timeout_ns": 7 * S})  # type: ignore[arg-type]
    message = (
        b"Subject: x\r\n\r\n" + (b"x" * 76 + b"\r\n") * 100_000 if stage == "block" else MESSAGE
    )
    outcome, took, _ = tried(
        "body" if stage == "block" else stage,
        "hang",
        sender=sender,
        message=message,
        level="encrypted" if stage == "starttls" else "opportunistic",
    )
    assert outcome.result != "delivered"
    assert took == pytest.approx(7)
