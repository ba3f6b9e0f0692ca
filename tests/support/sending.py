"""Send one message over a connection as a coroutine: what the connection asks for is awaited."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from services.sender.smtp.connection import Connection
from services.sender.smtp.envelope import Transaction
from services.sender.smtp.report import Report

T = TypeVar("T")
Ask = Callable[[], Awaitable[bool]]


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


async def send(
    connection: Connection,
    transaction: Transaction,
    message: Sequence[bytes] | Awaitable[Sequence[bytes]],
    turn: Ask = yes,
    gate: Ask = yes,
    *,
    within_ns: int,
) -> Report:
    """Run one transaction; ``message`` is awaited only once it is wanted."""
    errand = _Errand()
    connection.begin(transaction, errand, within_ns=within_ns)
    try:
        while errand.report is None:
            match errand.wanted:
                case "turn":
                    errand.may_rcpt = await turn()
                case "message":
                    errand.chunks = message if isinstance(message, Sequence) else await message
                case "dot":
                    errand.may_dot = await gate()
                case None:
                    await errand.happened.wait()
                    continue
            errand.wanted = None
            errand.happened.clear()
            connection.resume()
    except BaseException:
        connection.abandon()
        raise
    return errand.report


async def hung_up(connection: Connection) -> None:
    """Say QUIT and wait for the end: a transport that outlives its loop is found open by whoever comes next."""
    closed = asyncio.Event()
    connection.on_closed(closed.set)
    connection.close()
    await asyncio.wait_for(closed.wait(), 10)


@dataclass
class _Errand:
    """Knows nothing until it was asked for."""

    wanted: Literal["turn", "message", "dot"] | None = None
    may_rcpt: bool | None = None
    chunks: Sequence[bytes] | None = None
    may_dot: bool | None = None
    report: Report | None = None
    happened: asyncio.Event = field(default_factory=asyncio.Event)

    def turn(self) -> bool | None:
        return self._ask("turn", self.may_rcpt)

    def message(self) -> Sequence[bytes] | None:
        return self._ask("message", self.chunks)

    def dot(self) -> bool | None:
        return self._ask("dot", self.may_dot)

    def _ask(self, what: Literal["turn", "message", "dot"], known: T | None) -> T | None:
        if known is None:
            self.wanted = what
            self.happened.set()
        return known

    def ended(self, report: Report) -> None:
        self.report = report
        self.happened.set()

    def broken(self, error: Exception) -> None:
        raise error
