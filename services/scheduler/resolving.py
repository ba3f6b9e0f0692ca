"""Names are resolved beside the rounds: a domain whose name servers never answer delays nobody else.

A worker asks for a domain and goes on; the answer is an input of a later round. As many look-ups run at once as the bound allows;
the resolver's own cache and single flight make a second question cheap.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from services.scheduler.policy.decisions import Found, Gone, NoAnswer, Resolution
from shared.net.destinations import (
    DOUBTED_NS,
    Answer,
    Destination,
    NoDomain,
    NullMX,
    Unresolved,
)

Answers = deque[tuple[str, Resolution]]


class Names(Protocol):
    """What is asked: ``shared.net.destinations.Destinations``."""

    async def resolve(self, domain: str, *, within_ns: int | None = None) -> Answer:
        """Look up, or give what is cached, where it says so for no longer than ``within_ns``."""
        ...


@dataclass(slots=True)
class Resolving:
    """Resolve for all workers of a process."""

    destinations: Names
    log: FilteringBoundLogger
    at_once: int = 500
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _bound: asyncio.Semaphore | None = None

    def subscribe(self) -> Answers:
        """Give a worker the box that its answers come into."""
        return deque()

    def unsubscribe(self, box: Answers) -> None:
        """Forget what has not been taken out of ``box``."""
        box.clear()

    def answers(self, box: Answers) -> list[tuple[str, Resolution]]:
        """Take out what has come."""
        taken = list(box)
        box.clear()
        return taken

    def ask(self, box: Answers, domain: str, *, doubted: bool = False) -> None:
        """Look ``domain`` up; the answer comes into ``box``. ``doubted``: a sender has found another one."""
        task = asyncio.create_task(self._look_up(box, domain, DOUBTED_NS if doubted else None))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look_up(self, box: Answers, domain: str, within_ns: int | None) -> None:
        if self._bound is None:
            self._bound = asyncio.Semaphore(self.at_once)
        async with self._bound:
            try:
                found = _resolution(await self.destinations.resolve(domain, within_ns=within_ns))
            except Exception as error:
                self.log.exception("resolve_failed", domain=domain, error=repr(error))
                found = NoAnswer("4.4.3 the look-up failed")
            box.append((domain, found))

    async def close(self) -> None:
        """End the look-ups that are under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _resolution(answer: Answer) -> Resolution:
    match answer:
        case Destination(site=site, provider=provider):
            return Found(site, provider)
        case NullMX():
            # RFC 7505 3: the domain says itself that it takes no mail.
            return Gone("5.1.10", "the domain accepts no mail (null MX)", at_once=True)
        case NoDomain():
            return Gone("5.1.2", "the domain does not exist, or has no mail servers", at_once=False)
        case Unresolved(reason=reason):
            return NoAnswer(f"4.4.3 {reason}")
