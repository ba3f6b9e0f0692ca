"""Run transactions on a ready connection: the shell of the session script.

``connect`` hands over a transport that is greeted and, where asked for, encrypted and authenticated; from then on this module alone
reads and writes it. One transaction at a time. What is promised:

- Without PIPELINING, MAIL is written before ``send`` first suspends: a check in the same breath holds for it.
- ``turn`` is asked before the write that holds RCPT (with PIPELINING all three commands). Where it says yes, that is written with nothing
  awaited between; where it says no, nothing is, and the connection stays usable.
- The message is handed to the kernel in full before ``gate`` is asked. Where it says yes, the dot is written with nothing awaited
  between, so a slow peer cannot make an old yes good for a late dot. A small message waits for the gate and goes out with its dot in one
  write, which an empty socket takes as a whole; should it not, the connection is aborted, and the dot with what lies before it.
- Where the gate says no, or anything is raised (a cancellation, a message that could not be made), the connection is aborted without a dot.
- From the write that holds the dot on, every loss is ``after_dot``.
- Data that nobody asked for closes the connection, between transactions as within them.

A crash at any point leaves the peer with half a message, which it drops, or with a message whose outcome nobody reads: the scheduler
knows by ``started`` that it must count it as unknown.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from services.sender.smtp.reply import harmless
from services.sender.smtp.session import (
    Capabilities,
    Lost,
    Phase,
    Refused,
    Result,
    Script,
    Stage,
    Transaction,
)
from shared.records.outcome import Wire
from shared.records.tlslevel import TlsLevel
from shared.runtime.clock import Clock

_S: Final = 1_000_000_000
_MS: Final = 1_000_000
#: So much of a message is written at once; the time-out for a block counts from one to the next.
_BLOCK_BYTES: Final = 128 * 1024
#: What Linux takes in one write even into the smallest socket, when nothing is on its way: tcp_wmem, tcp(7).
_SMALL_BYTES: Final = 16 * 1024
# What lies in the transport below TLS is not announced: it is looked at so often.
_POLL_S: Final = 0.01
_CLOSING: Final = 421

Message = Sequence[bytes] | Awaitable[Sequence[bytes]]
#: Says, when it may be, whether to go on: asked for RCPT (the turn) and for the final dot (the gate).
Gate = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait for the peer, ns: RFC 5321 4.5.3.2, where shorter ones turn slow hosts into lost ones."""

    connect_ns: int = 30 * _S
    banner_ns: int = 300 * _S
    ehlo_ns: int = 300 * _S
    starttls_ns: int = 120 * _S
    auth_ns: int = 120 * _S
    mail_ns: int = 300 * _S
    rcpt_ns: int = 300 * _S
    data_ns: int = 120 * _S
    block_ns: int = 180 * _S
    #: RFC 5321 4.5.3.2.6: ten minutes for the final dot; less invites duplicates.
    dot_ns: int = 600 * _S

    def of(self, stage: Stage) -> int:
        """Give the time to wait for a reply at ``stage``."""
        match stage:
            case "rcpt":
                return self.rcpt_ns
            case "data":
                return self.data_ns
            case "body":
                return self.block_ns
            case "dot":
                return self.dot_ns
            case _:
                return self.mail_ns


@dataclass(frozen=True, slots=True)
class Peer:
    """Both ends of a connection."""

    host: str
    address: str
    port: int
    source_ip: str
    #: The version and the cipher, or empty.
    tls: str = ""
    cipher: str = ""
    #: What this connection is good enough for.
    level: TlsLevel = "opportunistic"
    #: Why TLS was given up, where this connection is the second try.
    fallen_back: str = ""
    #: TLS went on from an earlier connection's.
    resumed: bool = False

    def wire(self) -> Wire:
        """Say where a transaction on the connection goes, and how."""
        return Wire(
            source_ip=self.source_ip,
            mx=self.host,
            mx_ip=self.address,
            tls=self.tls or f"none: {self.fallen_back or 'it is not offered'}",
            tls_cipher=self.cipher,
            tls_verified=self.level == "verified",
            tls_resumed=self.resumed,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """How a transaction ended, and what is to be told of it.

    ``stale``: the connection had served before, and the peer ended it before it said anything about this envelope. Nothing is learnt
    about the pair: the transaction may begin anew on a new connection.
    """

    result: Result
    wire: Wire
    stale: bool = False


class Connection:
    """One ready connection."""

    def __init__(
        self,
        transport: asyncio.Transport,
        peer: Peer,
        capabilities: Capabilities,
        *,
        timeouts: Timeouts,
        clock: Clock,
        raw: asyncio.WriteTransport | None = None,
        opening_ms: Mapping[str, int] | None = None,
    ) -> None:
        """Take ``transport`` over; ``raw`` is what lies below it where it is encrypted."""
        self.peer, self.capabilities = peer, capabilities
        #: How many transactions have begun here.
        self.count = 0
        self._transport, self._raw = transport, raw
        self._timeouts, self._clock = timeouts, clock
        # Told once, in the report of the first transaction: later ones did not wait for it.
        self._opening_ms = dict(opening_ms or {})
        self._unreset = False
        #: Pieces of a small message that waits for its dot.
        self._unwritten: list[bytes | memoryview] = []
        self._wire = _Wire(transport)
        transport.set_protocol(self._wire)
        # Every byte in user space counts as not written: see the promise on the gate. (A high-water mark of 0 makes the TLS
        # transports of asyncio and uvloop pause at an empty buffer.)
        transport.set_write_buffer_limits(high=1, low=0)

    def __repr__(self) -> str:
        """Show where it leads and what it has done."""
        state = "busy" if self._wire.script is not None else "usable" if self.usable else "closed"
        return f"<Connection {self.peer.host} [{self.peer.address}] [{state}, {self.count} sent]>"

    @property
    def usable(self) -> bool:
        """Say whether a transaction may begin."""
        return self._wire.open and self._wire.script is None

    def on_closed(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once when the connection ends, whoever ends it."""
        self._wire.closed = callback

    def close(self) -> None:
        """Say QUIT and close; the answer is not waited for."""
        if self.usable:
            self._transport.write(b"QUIT\r\n")
        self._wire.open = False
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what is not written yet is dropped."""
        self._wire.open = False
        self._transport.abort()

    def give_up(self, why: str, *, after_dot: bool) -> bool:
        """End the transaction under way: dropped before its dot, lost after it, which ``after_dot`` must allow. True: after it."""
        script = self._wire.script
        if script is None or script.result is not None:
            return False
        sent = script.phase is Phase.DOT
        if after_dot or not sent:
            script.drop(why)
            self._wire.wake()
        return sent and after_dot

    async def send(
        self, transaction: Transaction, message: Message, turn: Gate, gate: Gate, *, within_ns: int
    ) -> Report:
        """Run one transaction within ``within_ns``; see the module for what ``turn`` and ``gate`` decide and when.

        ``message`` is awaited only once the peer wants it, so that signing and MAIL go on side by side.
        """
        assert self._wire.script is None, self  # noqa: S101 - a bug of the caller: one transaction at a time
        script = Script(transaction, self.capabilities, reset=self._unreset)
        watch = _Watch(self._clock, self._opening_ms)
        self._opening_ms = {}
        self.count += 1
        self._wire.script = script
        deadline = asyncio.timeout(within_ns / _S)
        try:
            async with deadline:
                await self._run(script, message, turn, gate, watch)
        except TimeoutError:
            if not deadline.expired():
                raise
            script.lost("the attempt took too long")
        finally:
            self._leave(script)
        return self._report(script, watch)

    def _leave(self, script: Script) -> None:
        self._wire.script = None
        self._unwritten = []
        if script.result is None or script.closing:
            self.abort()
        self._unreset = script.unreset

    async def _run(
        self, script: Script, message: Message, turn: Gate, gate: Gate, watch: "_Watch"
    ) -> None:
        script.start()
        if not self._wire.open or self._transport.is_closing():
            script.lost("the peer had closed the connection")
        self._wire.flush(script)
        while script.result is None:
            if script.phase is Phase.TURN:
                await self._take_turn(script, turn, watch)
            elif script.phase is Phase.BODY:
                await self._write_body(script, message, watch)
                if script.result is None:
                    await self._complete(script, gate, watch)
            else:
                await self._hear(script, watch)

    async def _take_turn(self, script: Script, turn: Gate, watch: "_Watch") -> None:
        granted = await turn()
        # Nothing is awaited from here to the write.
        watch.lap("turn")
        if script.result is not None:
            return
        if not granted:
            script.drop("its turn did not come in time")
        elif self._transport.is_closing():
            script.lost("the connection closed before RCPT")
        else:
            if self.capabilities.pipelining:
                watch.begin()
            script.take_turn()
            self._wire.flush(script)

    async def _hear(self, script: Script, watch: "_Watch") -> None:
        stage = script.stage
        wait_ns = self._timeouts.of(stage)
        # Each reply has a time of its own, also where the commands left in one write.
        if not await self._wire.wait(wait_ns / _S) and script.stage == stage:
            script.lost(f"no reply to {stage.upper()} within {wait_ns // _S} s")
        watch.lap(stage)

    async def _write_body(self, script: Script, message: Message, watch: "_Watch") -> None:
        chunks = message if isinstance(message, Sequence) else await message
        watch.lap("message")
        if script.result is not None:  # The peer went while the message was made.
            return
        small = sum(map(len, chunks)) <= _SMALL_BYTES
        for block in _blocks(chunks):
            self._unwritten += script.body(block)
            if script.result is not None:
                return
            if self._unwritten and not small:
                piece = self._take_unwritten()
                watch.bytes += len(piece)
                self._transport.write(piece)
                await self._drain(script)
                if script.result is not None:
                    return
        watch.lap("body")

    def _take_unwritten(self) -> bytes | memoryview:
        pieces, self._unwritten = self._unwritten, []
        # Mostly one: what needs no stuffing is not copied.
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _drain(self, script: Script) -> None:
        """Wait until all that was written has left this process."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._timeouts.block_ns / _S
        while script.result is None and (self._wire.paused or self._held()):
            left = until - loop.time()
            if left <= 0:
                script.lost(
                    f"the peer took nothing of the message for {self._timeouts.block_ns // _S} s"
                )
                return
            await self._wire.wait(left if self._wire.paused else min(left, _POLL_S))

    def _held(self) -> bool:
        below = 0 if self._raw is None else int(self._raw.get_write_buffer_size())
        return below + int(self._transport.get_write_buffer_size()) > 0

    async def _complete(self, script: Script, gate: Gate, watch: "_Watch") -> None:
        granted = await gate()
        # Nothing is awaited from here to the write.
        if script.result is None:
            if not granted:
                script.drop("the gate said no")
            elif self._transport.is_closing():
                script.lost("the connection closed before the dot")
            else:
                self._write_dot(script, watch)
        watch.lap("gate")

    def _write_dot(self, script: Script, watch: "_Watch") -> None:
        script.release_dot()
        if script.phase is not Phase.DOT:
            return
        small = self._take_unwritten()
        watch.bytes += len(small)
        self._transport.write(b"".join((small, script.take_output())))
        if small and self._held():
            # The dot is at the end of what is held here, so it has not left, and never will.
            script.withdraw_dot()

    def _report(self, script: Script, watch: "_Watch") -> Report:
        result = script.result
        assert result is not None  # noqa: S101 - the loop in _run ends with one
        wire = msgspec.structs.replace(
            self.peer.wire(),
            mail_ns=watch.begun_ns,
            end_ns=self._clock.now_ns(),
            bytes=watch.bytes,
            ms=watch.ms,
        )
        return Report(result, wire, stale=self.count > 1 and _ended_unheard(result))


def _ended_unheard(result: Result) -> bool:
    match result:
        case Lost(stage="rset" | "mail"):
            return True
        case Refused(stage="rset" | "mail", reply=reply):
            return reply.code == _CLOSING
        case _:
            return False


def _blocks(chunks: Sequence[bytes]) -> Iterator[bytes]:
    """Join small chunks and cut large ones, so that each write is of a good size."""
    small: list[bytes] = []
    size = 0
    for chunk in chunks:
        if size + len(chunk) <= _BLOCK_BYTES:
            small.append(chunk)
            size += len(chunk)
            continue
        yield b"".join(small)
        small, size = [], 0
        for begin in range(0, len(chunk), _BLOCK_BYTES):
            yield chunk[begin : begin + _BLOCK_BYTES]
    yield b"".join(small)


class _Watch:
    """Note how long each stage took."""

    __slots__ = ("_clock", "_last_ns", "begun_ns", "bytes", "ms")

    def __init__(self, clock: Clock, ms: dict[str, int]) -> None:
        self._clock, self.ms = clock, ms
        self._last_ns = clock.mono_ns()
        #: Of the message, so many were written.
        self.bytes = 0
        self.begin()

    def begin(self) -> None:
        """Note that MAIL is written now."""
        self.begun_ns = self._clock.now_ns()

    def lap(self, stage: str) -> None:
        """Count the time since the last call for ``stage``."""
        now = self._clock.mono_ns()
        self.ms[stage] = self.ms.get(stage, 0) + (now - self._last_ns) // _MS
        self._last_ns = now


class _Wire(asyncio.Protocol):
    """Pass bytes between transport and script, and wake whoever waits for either."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.script: Script | None = None
        self.open = True
        self.paused = False
        self.closed: Callable[[], None] | None = None
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[bool] | None = None

    def flush(self, script: Script) -> None:
        """Write what the script has to say."""
        output = script.take_output()
        if output:
            self._transport.write(output)

    async def wait(self, seconds: float) -> bool:
        """Wait until something happens; False where nothing did."""
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._waiter = waiter
        timer = self._loop.call_later(seconds, self.wake, False)  # noqa: FBT003
        try:
            return await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def wake(self, happened: bool = True) -> None:  # noqa: FBT001, FBT002 - a callback
        """Let whoever waits look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(happened)

    # -- asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        if self.script is None:
            # Between transactions a peer may only close: a 421 says so, and anything else is a reply to nothing.
            self.open = False
            self._transport.close()
            return
        stage = self.script.stage
        self.script.receive(data)
        self.flush(self.script)
        # A part of a reply is no sign of life: who sends a byte now and then gets no more time for the whole.
        if self.script.phase is not Phase.COMMANDS or self.script.stage != stage:
            self.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self.script is not None:
            self.script.lost(harmless(str(exc)) if exc else "the peer closed the connection")
        self.wake()
        if self.closed is not None:
            self.closed()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.wake()
