"""One attempt on its way: what its connection asks of it, and what it waits for meanwhile.

``started`` and the signature are asked for when it begins, so both are made while the envelope goes out; each wakes the connection when
it is there, and takes no task. What must be waited for by the clock (a turn at RCPT, a heartbeat that is read back) has a task of its own:
it is rare. The connection asks in the breath in which it writes, so each answer here is one of that very moment.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final

from services.sender.attempt import Go, Hold, Stop
from services.sender.messages import Made
from services.sender.ownership import Now
from services.sender.pair import Job, Pair
from services.sender.smtp.envelope import Transaction
from services.sender.smtp.report import Report
from shared.kafka.errors import KafkaTrouble

if TYPE_CHECKING:
    from services.sender.line import Tools
    from services.sender.smtp.connection import Connection

#: How often a dot that may not be sent yet is looked at again.
_LOOK_S: Final = 0.02

#: How an attempt ended; an exception is the message's, or a bug.
Ended = Report | Exception


class Attempt:
    """Carry one grant over a connection; ``then`` hears how that ended, maybe before ``begin`` returns."""

    __slots__ = (
        "_bug",
        "_cancel",
        "_connection",
        "_job",
        "_made",
        "_may_wait",
        "_pair",
        "_stamp",
        "_task",
        "_then",
        "_tools",
        "_turn",
    )

    def __init__(
        self,
        tools: "Tools",
        pair: Pair,
        job: Job,
        connection: "Connection",
        may_wait: Callable[[Now], bool],
        then: Callable[["Attempt", Ended], None],
    ) -> None:
        """``may_wait`` says whether the turn at RCPT may still be waited for."""
        self._tools, self._pair, self._job, self._connection = tools, pair, job, connection
        self._may_wait, self._then = may_wait, then
        self._made: Made | None = None
        self._stamp: int | KafkaTrouble | None = None
        self._turn: bool | None = None
        self._bug: BaseException | None = None
        self._cancel: Callable[[], object] | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begin: the grant was taken in this breath, and MAIL is written in it where no turn is waited for."""
        grant, tools = self._job.grant, self._tools
        self._cancel = tools.messages.ask(grant, self._job.body, self._message_made)
        tools.journal.started(grant, self._stamped)
        self._connection.begin(
            Transaction(
                mail_from=grant.from_,
                rcpt=grant.to,
                size=grant.size_bytes + len(grant.prepend) + tools.messages.overhead_bytes,
                eight_bit=grant.eight_bit,
                smtputf8=grant.smtputf8,
            ),
            self,
            within_ns=tools.settings.timing.attempt_max_ns,
        )

    def abandon(self) -> None:
        """End it without a word: the connection is aborted, and ``then`` hears nothing."""
        self._leave()
        self._connection.abandon()

    def _leave(self) -> None:
        if self._cancel is not None:
            self._cancel()
        if self._task is not None:
            self._task.cancel()
        self._cancel = self._task = None

    # -- what it waits for

    def _message_made(self, made: Made) -> None:
        self._cancel = None
        self._made = made
        self._connection.resume()

    def _stamped(self, stamp: int | KafkaTrouble) -> None:
        self._stamp = stamp
        if not isinstance(stamp, KafkaTrouble):
            self._job.gate.started(stamp)
        # Where the message is not there yet, nobody waits for this.
        if self._made is not None:
            self._connection.resume()

    def _wait(self, waiting: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.create_task(waiting)
        self._task.add_done_callback(self._waited)

    def _waited(self, task: "asyncio.Task[None]") -> None:
        """Let the connection run into a bug of what was waited for: nobody else would ever go on."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._bug = error
            self._connection.resume()

    async def _wait_for_turn(self) -> None:
        self._turn = await self._pair.rcpts.next(self._may_mail, self._may_wait)
        # Nothing is awaited from here to the write.
        self._task = None
        self._connection.resume()

    async def _look_again(self) -> None:
        await self._tools.clock.sleep(_LOOK_S)
        self._task = None
        self._connection.resume()

    def _may_mail(self, now: Now) -> bool:
        return isinstance(self._job.gate.may_mail(now), Go)

    # -- Errand

    def turn(self) -> bool | None:
        """Say whether RCPT may be written now; raises what the waiting for it raised."""
        if self._bug is not None:
            raise self._bug
        if self._turn is None and self._task is None:
            self._turn = self._pair.rcpts.now(self._may_mail)
            if self._turn is None:
                self._wait(self._wait_for_turn())
        return self._turn

    def message(self) -> Sequence[bytes] | None:
        """Give the message; raises MessageFailed."""
        if isinstance(self._made, Exception):
            raise self._made
        return self._made

    def dot(self) -> bool | None:
        """Say whether the final dot may be written now; raises what the waiting for it raised."""
        if self._bug is not None:
            raise self._bug
        if isinstance(self._stamp, KafkaTrouble):
            self._tools.log.warning(
                "started_failed", attempt=self._job.grant.attempt, reason=str(self._stamp)
            )
            return False
        match self._job.gate.may_dot(self._now()):
            case Go():
                return True
            case Hold():
                # Of a `started` that is not acknowledged it hears, and the connection asks again when there was time enough for that.
                if self._task is None and self._stamp is not None:
                    self._wait(self._look_again())
                return None
            case Stop(reason=reason):
                self._tools.log.warning(
                    "dot_withheld", attempt=self._job.grant.attempt, reason=reason
                )
                return False

    def ended(self, report: Report) -> None:
        """Hear how it ended."""
        self._leave()
        self._then(self, report)

    def broken(self, error: Exception) -> None:
        """Hear that there is no message, or of a bug."""
        self._leave()
        self._then(self, error)

    def _now(self) -> Now:
        return Now(self._tools.clock.mono_ns(), self._tools.clock.now_ns())
