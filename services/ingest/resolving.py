"""Resolve the domains of a round together, before its transaction, and never wait longer than the bound for them.

A domain that nobody answered for in time goes on unresolved; its look-up ends in the background, and fills the cache. Until then no later
round waits for it again: one dead name server would slow everybody to a round a second.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from structlog.typing import FilteringBoundLogger

from services.ingest.route import Resolved
from shared.net.destinations import Answer, Destination

_S: Final = 1_000_000_000
WAIT_NS: Final = 1 * _S


class Names(Protocol):
    """What is asked: ``shared.net.destinations.Destinations``."""

    def routed(self, domain: str) -> Destination | None:
        """Give what needs no look-up."""
        ...

    async def resolve(self, domain: str) -> Answer:
        """Look up, or give what is cached."""
        ...


@dataclass(slots=True)
class Resolving:
    """Resolve for all workers of a process."""

    destinations: Names
    log: FilteringBoundLogger
    wait_ns: int = WAIT_NS
    _slow: dict[str, asyncio.Task[Answer]] = field(default_factory=dict)

    async def resolve(self, domains: Iterable[str]) -> dict[str, Resolved]:
        """Give what is known of ``domains`` within the bound."""
        found: dict[str, Resolved] = {}
        asked: dict[str, asyncio.Task[Answer]] = {}
        for domain in domains:
            routed = self.destinations.routed(domain)
            if routed is not None:
                found[domain] = Resolved(routed.site, routed.provider)
            elif domain not in self._slow:
                asked[domain] = asyncio.create_task(self.destinations.resolve(domain))
        if asked:
            await asyncio.wait(asked.values(), timeout=self.wait_ns / _S)
        for domain, task in asked.items():
            if not task.done():
                self._slow[domain] = task
                task.add_done_callback(partial(self._late, domain))
            elif isinstance(answer := self._answer(domain, task), Destination):
                found[domain] = Resolved(answer.site, answer.provider)
        return found

    def _late(self, domain: str, task: asyncio.Task[Answer]) -> None:
        self._slow.pop(domain, None)
        self._answer(domain, task)

    def _answer(self, domain: str, task: asyncio.Task[Answer]) -> Answer | None:
        if task.cancelled():
            return None
        error = task.exception()
        if error is not None:
            # A bug of ours, or of the resolver's; the scheduler asks again, so the mail need not wait for its repair.
            self.log.error("resolve_failed", domain=domain, error=repr(error))
            return None
        return task.result()

    async def close(self) -> None:
        """End the look-ups that are under way."""
        tasks = list(self._slow.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
