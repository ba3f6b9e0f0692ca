"""Say what comes next in one transaction on a ready connection: pure, bytes in, events and bytes out, no clock.

    start -> [RSET] MAIL -> TurnWanted -> take_turn -> RCPT DATA -> 354: BodyWanted -> body pieces -> release_dot -> Accepted | Refused
                        | a refusal: Refused, after the replies to all that was written

MAIL, RCPT and DATA leave in one write where PIPELINING is offered, else one after the other. What counts against a rate is RCPT, so the
write that holds it (with PIPELINING that is the first one) waits for ``take_turn``. The body and the final dot are two steps:
after ``BodyWanted`` the shell writes what ``body`` gives, but the bytes that complete the message come only from ``release_dot``, which
the shell calls when the attempt's gate has said yes, with nothing awaited before the write. Giving up before that is ``drop``: the
connection is closed and no dot is sent. After ``release_dot`` a loss is ``after_dot``: nobody knows whether the peer has the message.

Each script ends with exactly one result. ``closing`` then says that the connection is of no more use, ``unreset`` that the peer still
holds an envelope, so that the next transaction must begin with RSET. A reply that nobody asked for is never paired with a later
command: the script ends as ``Lost``.
"""

import enum
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

from services.sender.smtp.envelope import Capabilities, Transaction, declined, mail_command
from services.sender.smtp.reply import ProtocolError, Reply, ReplyParser
from services.sender.smtp.stuffing import BareLineEnd, Piece, Stuffer

Stage = Literal["local", "rset", "mail", "rcpt", "data", "body", "dot"]

_START_INPUT: Final = 354
_CLOSING: Final = 421


@dataclass(frozen=True, slots=True)
class TurnWanted:
    """The next write holds RCPT: it waits for the pair's turn."""


@dataclass(frozen=True, slots=True)
class BodyWanted:
    """The peer waits for the message."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The peer has taken the message over."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Refused:
    """The peer said no; at stage ``local`` we did, on its behalf, and nothing was written."""

    stage: Stage
    reply: Reply


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection ended, or the peer spoke nonsense, before an answer; ``after_dot``: it may have the message."""

    stage: Stage
    after_dot: bool
    why: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """We gave up before the dot: the peer has not got the message."""

    why: str


Result = Accepted | Refused | Lost | Dropped
Event = TurnWanted | BodyWanted | Accepted | Refused | Lost | Dropped


class Phase(enum.Enum):
    """Where a script stands."""

    NEW = "new"
    TURN = "turn"
    COMMANDS = "commands"
    BODY = "body"
    DOT = "dot"
    #: The peer wants a message although it refused the recipient: it gets none.
    LONE_DOT = "lone dot"
    DONE = "done"


class Script:
    """Drive one transaction."""

    __slots__ = (
        "_caps",
        "_expected",
        "_output",
        "_parser",
        "_refusal",
        "_reset",
        "_stuffer",
        "_todo",
        "_turn_taken",
        "_what",
        "answered",
        "closing",
        "phase",
        "result",
        "unreset",
    )

    def __init__(
        self, transaction: Transaction, capabilities: Capabilities, *, reset: bool = False
    ) -> None:
        """Prepare; ``reset``: the peer still holds the envelope of the transaction before."""
        self._what, self._caps, self._reset = transaction, capabilities, reset
        self._parser, self._stuffer = ReplyParser(), Stuffer()
        self._expected: deque[Stage] = deque()
        self._todo: deque[Stage] = deque()
        self._output: list[bytes] = []
        self._refusal: Refused | None = None
        self._turn_taken = False
        self.phase = Phase.NEW
        self.result: Result | None = None
        self.closing = False
        self.unreset = reset
        #: Whether the peer has answered anything to this transaction.
        self.answered = False

    def __repr__(self) -> str:
        """Show the phase, and the result where there is one."""
        return f"<Script {self.phase.value} [{self.result or self.stage}]>"

    @property
    def stage(self) -> Stage:
        """Say to what the next reply answers: it chooses the time-out."""
        if self.phase is Phase.BODY:
            return "body"
        if self.phase is Phase.DOT:
            return "dot"
        return self._expected[0] if self._expected else "mail"

    def take_output(self) -> bytes:
        """Give the commands to write now."""
        output, self._output = b"".join(self._output), []
        return output

    def start(self) -> list[Event]:
        """Begin, or decline at once what this peer cannot take."""
        refusal = declined(self._what, self._caps)
        if refusal is not None:
            return self._end(Refused("local", refusal))
        self.phase = Phase.COMMANDS
        self._todo.extend(
            ("rset", "mail", "rcpt", "data") if self._reset else ("mail", "rcpt", "data")
        )
        return self._say_next()

    def take_turn(self) -> list[Event]:
        """Go on with the write that holds RCPT, unless the peer has broken in meanwhile."""
        assert self.phase is Phase.TURN, self.phase  # noqa: S101 - a bug of the shell
        if not self._parser.empty:
            return self._break("the peer spoke before it was asked")
        self.phase, self._turn_taken = Phase.COMMANDS, True
        return self._say_next()

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the peer."""
        if self.phase is Phase.DONE:
            # More than was asked for: whatever it is, no later command must get it as its answer.
            self.closing = True
            return []
        self._parser.feed(data)
        events: list[Event] = []
        try:
            while self.result is None and (reply := self._parser.next()) is not None:
                self.answered = True
                events += self._hear(reply)
        except ProtocolError as error:
            events += self._break(error.why)
        if self.result is not None and not self._parser.empty:
            self.closing = True
        return events

    def body(self, chunk: bytes) -> list[Piece]:
        """Give the pieces to write for the next chunk of the message; none where the script has ended over it."""
        assert self.phase is Phase.BODY, self.phase  # noqa: S101 - a bug of the shell
        try:
            return self._stuffer.push(chunk)
        except BareLineEnd:
            self._spoilt()
            return []

    def release_dot(self) -> list[Event]:
        """Complete the message: the output then holds the dot, unless the peer has broken in meanwhile."""
        assert self.phase is Phase.BODY, self.phase  # noqa: S101 - a bug of the shell
        if not self._parser.empty:
            return self._break("the peer spoke before the end of the message")
        try:
            self._output.append(self._stuffer.end())
        except BareLineEnd:
            return self._spoilt()
        self.phase = Phase.DOT
        self._expected.append("dot")
        return []

    def withdraw_dot(self) -> list[Event]:
        """Take it that the dot has not left, and close: only for a shell that knows."""
        assert self.phase is Phase.DOT, self.phase  # noqa: S101 - a bug of the shell
        self.closing = True
        return self._end(Dropped("the peer took no more bytes"))

    def _spoilt(self) -> list[Event]:
        # Refused, not dropped: it would come back, and be the same again.
        self.closing = True
        return self._end(Refused("local", Reply(554, "5.6.0", "the message holds a bare CR or LF")))

    def drop(self, why: str) -> list[Event]:
        """Give up; after the dot this is a loss like any other. Nothing is under way while a turn is waited for, so that closes nothing."""
        if (
            self.phase in (Phase.NEW, Phase.TURN, Phase.COMMANDS, Phase.BODY)
            and self._refusal is None
        ):
            self.closing = self.phase is not Phase.TURN or not self._parser.empty
            return self._end(Dropped(why))
        return self.lost(why)

    def lost(self, why: str) -> list[Event]:
        """Take it that no more answers will come: end of stream, an error, a time-out."""
        return [] if self.phase is Phase.DONE else self._break(why)

    # -- inside

    def _say_next(self) -> list[Event]:
        while self._todo:
            if not self._turn_taken and (self._caps.pipelining or self._todo[0] == "rcpt"):
                self.phase = Phase.TURN
                return [TurnWanted()]
            stage = self._todo.popleft()
            self._expected.append(stage)
            self._output.append(self._command(stage))
            if not self._caps.pipelining:
                break
        return []

    def _command(self, stage: Stage) -> bytes:
        match stage:
            case "rset":
                return b"RSET\r\n"
            case "mail":
                return mail_command(self._what, self._caps)
            case "rcpt":
                return b"RCPT TO:<%b>\r\n" % self._what.rcpt.encode()
            case _:
                return b"DATA\r\n"

    def _hear(self, reply: Reply) -> list[Event]:
        if reply.code == _CLOSING:
            # RFC 5321 3.8: at any moment; the peer closes, and there is nothing more to wait for.
            return self._refuse(self.stage, reply, final=True)
        match self.phase:
            case Phase.TURN:
                return self._break("the peer spoke before it was asked")
            case Phase.BODY:
                return self._hear_early(reply)
            case Phase.DOT:
                return self._hear_last(reply)
            case Phase.LONE_DOT:
                return self._end(self._known())
            case _:
                return self._hear_command(reply)

    def _hear_command(self, reply: Reply) -> list[Event]:
        stage = self._expected.popleft()
        if stage == "data":
            return self._hear_data(reply)
        if reply.code < 200 or 300 <= reply.code < 400:  # noqa: PLR2004
            return self._break(f"{reply.code} in reply to {stage.upper()}", stage)
        if not reply.positive:
            # A peer that cannot even reset is of no use, whatever it says about the rest.
            return self._refuse(stage, reply, final=stage == "rset")
        self.unreset = stage != "rset" and (self.unreset or stage == "mail")
        return self._go_on()

    def _go_on(self) -> list[Event]:
        if self._todo:
            if not self._parser.empty:
                return self._break("the peer spoke before it was asked")
            return self._say_next()
        return []

    def _hear_data(self, reply: Reply) -> list[Event]:
        if reply.code != _START_INPUT:
            if reply.code < 400:  # noqa: PLR2004
                return self._break(f"{reply.code} in reply to DATA", "data")
            return self._refuse("data", reply)
        if self._refusal is None:
            self.phase = Phase.BODY
            return [BodyWanted()]
        # RFC 2920 3.1: it must get an end of message, or the two would wait for each other.
        self._output.append(b".\r\n")
        self.phase = Phase.LONE_DOT
        self._expected.append("dot")
        return []

    def _hear_early(self, reply: Reply) -> list[Event]:
        if reply.code < 400:  # noqa: PLR2004
            return self._break(f"{reply.code} before the end of the message")
        return self._refuse("body", reply, final=True)

    def _hear_last(self, reply: Reply) -> list[Event]:
        self._expected.clear()
        if reply.positive:
            self.unreset = False
            return self._end(Accepted(reply))
        if reply.code < 400:  # noqa: PLR2004
            return self._break(f"{reply.code} in reply to the message", "dot")
        return self._refuse("dot", reply)

    def _refuse(self, stage: Stage, reply: Reply, *, final: bool = False) -> list[Event]:
        """Note the first refusal; it is the result once all that was written is answered."""
        if self._refusal is None:
            self._refusal = Refused(stage, reply)
        self._todo.clear()
        self.closing = self.closing or final
        return self._end(self._refusal) if final or not self._expected else []

    def _known(self) -> Refused:
        assert self._refusal is not None  # noqa: S101 - only a refusal leads here
        return self._refusal

    def _break(self, why: str, stage: Stage | None = None) -> list[Event]:
        self.closing = True
        if self._refusal is not None:
            return self._end(self._refusal)
        after_dot = self.phase is Phase.DOT
        return self._end(Lost(stage or self.stage, after_dot, why))

    def _end(self, result: Result) -> list[Event]:
        self.phase, self.result = Phase.DONE, result
        if self.closing:
            self._output.clear()
        return [result]
