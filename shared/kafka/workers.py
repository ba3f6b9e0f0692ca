"""One worker for each partition that this process owns, and never two of one.

A worker that ended for whatever reason starts again only when the group has confirmed, after that end, that the partition is still
this process's, and after a jittered pause that grows: "fence again on any error" is a livelock of two processes that fence each other.
A partition that was taken away is left at once: its worker is cancelled and awaited before anything else may run it.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from structlog.typing import FilteringBoundLogger

from shared.kafka.errors import Fenced, KafkaUnavailable, RoundFailed
from shared.kafka.membership import Membership

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
_FAILURES: Final = 10
_WITHIN_S: Final = 300.0


class WorkersGaveUp(Exception):
    """A worker failed too often in a short time: the process ends, so that somebody looks at it."""


class WorkerEnded(Exception):
    """A worker ended without having been told to: a bug."""


@dataclass(slots=True)
class PartitionWorkers:
    """Run ``make(partition)`` for every owned partition, until cancelled."""

    membership: Membership
    make: Callable[[int], Awaitable[None]]
    rng: random.Random
    log: FilteringBoundLogger
    restarts: int = 0
    _tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    _bugs: deque[float] = field(default_factory=deque)

    async def run(self) -> None:
        """Follow the membership; raises WorkersGaveUp."""
        known: frozenset[int] = frozenset()
        try:
            while True:
                await self._adjust(known)
                watching = asyncio.create_task(self.membership.changed(known))
                try:
                    done, _ = await asyncio.wait(
                        {watching, *self._tasks.values()}, return_when=asyncio.FIRST_COMPLETED
                    )
                finally:
                    watching.cancel()
                for task in done - {watching}:
                    # A supervisor only ends by giving up.
                    task.result()
                known = self.membership.owned()
        finally:
            await self._adjust(frozenset())

    async def _adjust(self, owned: frozenset[int]) -> None:
        leaving = [self._tasks.pop(p) for p in list(self._tasks) if p not in owned]
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        for partition in owned - self._tasks.keys():
            self._tasks[partition] = asyncio.create_task(
                self._supervise(partition), name=f"partition-{partition}"
            )

    async def _supervise(self, partition: int) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            loop = asyncio.get_running_loop()
            began = loop.time()
            try:
                await self._once(partition)
            except* (Fenced, RoundFailed, KafkaUnavailable) as group:
                self.log.warning("worker_stopped", partition=partition, reason=_reasons(group))
            except* Exception as group:  # noqa: BLE001 - a bug of ours: said loudly, counted, and too many end the process
                self.log.exception("worker_failed", partition=partition, reason=_reasons(group))
                self._count(loop.time(), group)
            self.restarts += 1
            pause = (
                _FIRST_PAUSE_S
                if loop.time() - began > _LONGEST_PAUSE_S * 4
                else min(pause * 2, _LONGEST_PAUSE_S)
            )
            ended = loop.time()
            await asyncio.sleep(pause * self.rng.uniform(0.5, 1.0))
            if not await self.membership.wait_confirmed(partition, ended):
                await (
                    asyncio.Event().wait()
                )  # No longer ours: ``run`` cancels this task when it hears of it.

    async def _once(self, partition: int) -> None:
        try:
            await self.make(partition)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Nobody cancelled us: something inside was cancelled and said so to whoever waited for it.
            raise WorkerEnded(f"partition {partition}: cancelled from inside") from None
        raise WorkerEnded(f"partition {partition}: ended by itself")

    def _count(self, now: float, cause: BaseExceptionGroup[Exception]) -> None:
        self._bugs.append(now)
        while self._bugs and self._bugs[0] < now - _WITHIN_S:
            self._bugs.popleft()
        if len(self._bugs) > _FAILURES:
            raise WorkersGaveUp(
                f"{len(self._bugs)} failures within {_WITHIN_S:.0f} s; the last: {_reasons(cause)}"
            ) from cause


def _reasons(group: BaseExceptionGroup[Exception]) -> str:
    found = []
    for error in group.exceptions:
        found.append(
            _reasons(error)
            if isinstance(error, BaseExceptionGroup)
            else f"{type(error).__name__}: {error}"
        )
    return "; ".join(found)
