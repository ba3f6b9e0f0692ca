"""Run transactions on a ready connection: the shell of the session script.

``connect`` hands over a transport that is greeted and, where asked for, encrypted and authenticated; from then on this module alone
reads and writes it. One transaction at a time, and no task of its own: what the peer sends, and whoever makes what it waits for
(``resume``), drive the script on, as far as it goes in one breath. What is promised:

- ``Errand.turn`` is asked before the write that holds RCPT (with PIPELINING all three commands). Where it says yes, that is written with
  nothing between; where it says no, nothing is, and the connection stays usable.
- Without PIPELINING, MAIL is written before ``begin`` returns: a check in the same breath holds for it.
- The message is handed to the kernel in full before ``Errand.dot`` is asked. Where it says yes, the dot is written with nothing
  between, so a slow peer cannot make an old yes good for a late dot. A small message waits for the yes and goes out with its dot in one
  write, which an empty socket takes as a whole; should it not, the connection is aborted, and the dot with what lies before it.
- Where the answer is no, or the errand raises anything (a message that could not be made), or is given up (``abandon``), the connection
  is aborted without a dot.
- From the write that holds the dot on, every loss is ``after_dot``.
- Data that nobody asked for closes the connection, between transactions as within them.

A crash at any point leaves the peer with half a message, which it drops, or with a message whose outcome nobody reads: the scheduler
knows by ``started`` that it must count it as unknown.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from services.sender.smtp.blocks import blocks
from services.sender.smtp.deadline import Deadline
from services.sender.smtp.envelope import Capabilities, Transaction
from services.sender.smtp.progress import untaken_bytes
from services.sender.smtp.reply import harmless
from services.sender.smtp.report import Peer, Report, Watch, ended_unheard
from services.sender.smtp.session import Phase, Script
from services.sender.smtp.timeouts import Timeouts
from shared.runtime.clock import Clock

_S: Final = 1_000_000_000
#: What Linux takes in one write even into the smallest socket, when nothing is on its way: tcp_wmem, tcp(7).
_SMALL_BYTES: Final = 16 * 1024
# What lies in the transport below TLS is not announced: it is looked at so often.
_POLL_S: Final = 0.01
#: Who was kept waiting for so long before the first MAIL may have had enough, as anybody who waits between two messages.
_IDLED_S: Final = 5.0
#: A timer may fire so much too early.
_GRAIN_S: Final = 0.001
#: Where a script stands while it waits for a reply.
_ANSWERS: Final = frozenset({Phase.COMMANDS, Phase.DOT, Phase.LONE_DOT})


class Errand(Protocol):
    """What one transaction is for. Asked when the answer is needed; None: not known yet, and ``resume`` will be called when it is."""

    def turn(self) -> bool | None:
        """Say whether RCPT may be written now; it is, in the same breath."""
        ...

    def message(self) -> Sequence[bytes] | None:
        """Give the message; what is raised ends the transaction without a dot."""
        ...

    def dot(self) -> bool | None:
        """Say whether the final dot may be written now; it is, in the same breath."""
        ...

    def ended(self, report: Report) -> None:
        """Hear how it ended; the connection may be used again, if it is ``usable``."""
        ...

    def broken(self, error: Exception) -> None:
        """Hear that the errand itself raised ``error``; the connection is aborted, and nobody knows more."""
        ...


@dataclass(slots=True, eq=False)
class _Run:
    """One transaction under way."""

    script: Script
    errand: Errand
    watch: Watch
    until: float
    #: The peer had been waiting for it.
    idled: bool
    #: What is left of the message; None: it has not been given.
    blocks: Iterator[bytes] | None = None
    small: bool = False
    #: Whether all of the message but its dot has left, or waits for its dot.
    out: bool = False
    #: Pieces of a small message that waits for its dot.
    unwritten: list[bytes | memoryview] = field(default_factory=list)
    #: Bytes that the peer had not taken when it was looked last; of a small message nobody looks.
    untaken: int = 0


class Connection(asyncio.Protocol):
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
        self._wire = peer.wire()
        self._unreset = False
        self._open, self._paused = True, False
        self._run: _Run | None = None
        self._closed: Callable[[], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._ready_s = self._loop.time()
        self._deadline = Deadline(self._loop, self._late)
        transport.set_protocol(self)
        # Every byte in user space counts as not written: see the promise on the gate. (A high-water mark of 0 makes the TLS
        # transports of asyncio and uvloop pause at an empty buffer.)
        transport.set_write_buffer_limits(high=1, low=0)

    def __repr__(self) -> str:
        """Show where it leads and what it has done."""
        state = "busy" if self._run is not None else "usable" if self.usable else "closed"
        return f"<Connection {self.peer.host} [{self.peer.address}] [{state}, {self.count} sent]>"

    @property
    def usable(self) -> bool:
        """Say whether a transaction may begin."""
        return self._open and self._run is None

    @property
    def behind_dot(self) -> bool:
        """Say whether all that is waited for is the reply to a message that has gone out whole."""
        return self._run is not None and self._run.script.phase is Phase.DOT

    def on_closed(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once when the connection ends, whoever ends it."""
        self._closed = callback

    def close(self) -> None:
        """Say QUIT and close; the answer is not waited for."""
        if self.usable:
            self._transport.write(b"QUIT\r\n")
        self._open = False
        self._deadline.close()
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what is not written yet is dropped."""
        self._open = False
        self._deadline.close()
        self._transport.abort()

    def give_up(self, why: str, *, after_dot: bool) -> bool:
        """End the transaction under way: dropped before its dot, lost after it, which ``after_dot`` must allow. True: after it."""
        run = self._run
        if run is None:
            return False
        sent = run.script.phase is Phase.DOT
        if after_dot or not sent:
            run.script.drop(why)
            self._go_on(run)
        return sent and after_dot

    # -- one transaction

    def begin(self, transaction: Transaction, errand: Errand, *, within_ns: int) -> None:
        """Begin a transaction, which ends within ``within_ns``; ``errand`` is asked and told, maybe before this returns."""
        assert self._run is None, self  # noqa: S101 - a bug of the caller: one transaction at a time
        script = Script(transaction, self.capabilities, reset=self._unreset)
        watch = Watch(self._clock, self._opening_ms)
        self._opening_ms = {}
        self.count += 1
        now = self._loop.time()
        idled = self.count > 1 or now - self._ready_s >= _IDLED_S
        self._run = run = _Run(script, errand, watch, now + within_ns / _S, idled)
        script.start()
        if not self._open or self._transport.is_closing():
            script.lost("the peer had closed the connection")
        self._go_on(run)

    def resume(self) -> None:
        """Go on: what the errand did not know it knows now."""
        if self._run is not None:
            self._go_on(self._run)

    def abandon(self) -> None:
        """Give the transaction up without a word; whoever asked for it hears nothing more, and the peer gets no dot."""
        self._run = None
        self.abort()

    def _go_on(self, run: _Run) -> None:
        """Do what can be done now, and set the time for what is waited for."""
        try:
            self._step(run)
        except Exception as error:  # noqa: BLE001 - the errand's, whatever it is
            if self._run is run:
                self.abandon()
            run.errand.broken(error)

    def _step(self, run: _Run) -> None:
        script = run.script
        while script.result is None:
            if script.phase is Phase.TURN:
                answer = run.errand.turn()
                # Nothing is waited for from here to the write.
                if answer is None:
                    return self._deadline.set(run.until)
                self._take_turn(run, answer)
            elif script.phase is Phase.BODY:
                if not run.out and not self._write_body(run):
                    return None
                if script.result is None:
                    answer = run.errand.dot()
                    # Nothing is waited for from here to the write.
                    if answer is None:
                        return self._wait(run, self._timeouts.gate_ns)
                    self._complete(run, answer)
            else:
                self._flush(script)
                return self._wait(run, self._timeouts.of(script.stage))
        self._flush(script)
        return self._finish(run)

    def _wait(self, run: _Run, wait_ns: int) -> None:
        self._deadline.set(min(run.until, self._loop.time() + wait_ns / _S))

    def _late(self) -> None:
        """Take it that the time is over: the one of what is waited for, or the transaction's own."""
        run = self._run
        if run is None:
            return
        script = run.script
        if script.phase is Phase.BODY and run.out and self._loop.time() < run.until - _GRAIN_S:
            # It waits for the errand alone, which may know by now that there is no more time.
            self._go_on(run)
            return
        if script.phase in (Phase.BODY, Phase.DOT) and self._takes(run):
            self._wait(run, self._timeouts.of(script.stage))
            return
        self._lap(run)
        if self._loop.time() >= run.until - _GRAIN_S:
            script.lost("the attempt took too long")
        elif script.phase is Phase.BODY:
            script.lost(
                f"the peer took nothing of the message for {self._timeouts.block_ns // _S} s"
            )
        else:
            stage = script.stage
            script.lost(f"no reply to {stage.upper()} within {self._timeouts.of(stage) // _S} s")
        self._go_on(run)

    def _takes(self, run: _Run) -> bool:
        """Say whether the peer has taken something since this was asked, or written, last: it is slow, and not away."""
        before, run.untaken = run.untaken, untaken_bytes(self._transport, self._raw)
        return run.untaken < before and self._loop.time() < run.until - _GRAIN_S

    def _flush(self, script: Script) -> None:
        output = script.take_output()
        if output:
            self._transport.write(output)

    def _take_turn(self, run: _Run, granted: bool) -> None:  # noqa: FBT001 - an answer
        run.watch.lap("turn")
        if not granted:
            run.script.drop("its turn did not come in time")
        elif self._transport.is_closing():
            run.script.lost("the connection closed before RCPT")
        else:
            if self.capabilities.pipelining:
                run.watch.begin()
            run.script.take_turn()

    # -- the message

    def _write_body(self, run: _Run) -> bool:
        """Write what can be written; True: all of it is out, or ready to go with its dot."""
        if run.blocks is None:
            chunks = run.errand.message()
            if chunks is None:
                self._deadline.set(run.until)
                return False
            run.watch.lap("message")
            run.small = sum(map(len, chunks)) <= _SMALL_BYTES
            run.blocks = iter((b"".join(chunks),)) if run.small else blocks(chunks)
        while self._drained(run):
            block = next(run.blocks, None)
            if block is None:
                run.watch.lap("body")
                run.out = True
                return True
            run.unwritten += run.script.body(block)
            if run.script.result is not None:
                return True
            if run.unwritten and not run.small:
                piece = _taken(run)
                run.watch.bytes += len(piece)
                self._wait(run, self._timeouts.block_ns)
                self._transport.write(piece)
                run.untaken = untaken_bytes(self._transport, self._raw)
        return False

    def _drained(self, run: _Run) -> bool:
        """Say whether all that was written has left this process; ``_go_on`` is called again when it may have."""
        if not self._paused and not self._held():
            return True
        if not self._paused:
            self._loop.call_later(_POLL_S, self._look_again, run)
        return False

    def _look_again(self, run: _Run) -> None:
        if self._run is run and run.script.phase is Phase.BODY:
            self._go_on(run)

    def _held(self) -> bool:
        below = 0 if self._raw is None else int(self._raw.get_write_buffer_size())
        return below + int(self._transport.get_write_buffer_size()) > 0

    def _complete(self, run: _Run, granted: bool) -> None:  # noqa: FBT001 - an answer
        if not granted:
            run.script.drop("the gate said no")
        elif self._transport.is_closing():
            run.script.lost("the connection closed before the dot")
        else:
            self._write_dot(run)
        run.watch.lap("gate")

    def _write_dot(self, run: _Run) -> None:
        script = run.script
        script.release_dot()
        if script.phase is not Phase.DOT:
            return
        small = _taken(run)
        run.watch.bytes += len(small)
        self._transport.write(b"".join((small, script.take_output())))
        if not run.small:
            # What the kernel holds goes before the dot: as long as that goes, nobody waits for a reply yet.
            run.untaken = untaken_bytes(self._transport, self._raw)
        if small and self._held():
            # The dot is at the end of what is held here, so it has not left, and never will.
            script.withdraw_dot()

    # -- the end

    def _finish(self, run: _Run) -> None:
        script, watch, result = run.script, run.watch, run.script.result
        assert result is not None  # noqa: S101 - the loop in _step ends with one
        self._run = None
        self._deadline.clear()
        if script.closing:
            self.abort()
        self._unreset = script.unreset
        wire = msgspec.structs.replace(
            self._wire,
            mail_ns=watch.begun_ns,
            end_ns=self._clock.now_ns(),
            bytes=watch.bytes,
            ms=watch.ms,
        )
        run.errand.ended(Report(result, wire, stale=run.idled and ended_unheard(result)))

    # -- asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Let the script hear it."""
        run = self._run
        if run is None:
            # Between transactions a peer may only close: a 421 says so, and anything else is a reply to nothing.
            self._open = False
            self._deadline.close()
            self._transport.close()
            return
        script = run.script
        phase, stage = script.phase, script.stage
        script.receive(data)
        # A part of a reply is no sign of life: who sends a byte now and then gets no more time for the whole.
        if script.phase is phase and script.stage == stage:
            return
        if phase in _ANSWERS:
            run.watch.lap(stage)
        self._go_on(run)

    def _lap(self, run: _Run) -> None:
        """Count the time for the reply that was waited for, if one was."""
        if run.script.phase in _ANSWERS:
            run.watch.lap(run.script.stage)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the script know that no more will come."""
        self._open = False
        self._deadline.close()
        run = self._run
        if run is not None:
            self._lap(run)
            run.script.lost(harmless(str(exc)) if exc else "the peer closed the connection")
            self._go_on(run)
        if self._closed is not None:
            self._closed()

    def pause_writing(self) -> None:
        """Write no more of a message."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on with the message."""
        self._paused = False
        if self._run is not None:
            self._look_again(self._run)


def _taken(run: _Run) -> bytes | memoryview:
    pieces, run.unwritten = run.unwritten, []
    # Mostly one: what needs no stuffing is not copied.
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
