"""One worker for each partition that this process owns, and never two of one.

A worker that ended for whatever reason starts again only when the group has confirmed, after that end, that the partition is still
this process's, and after a jittered pause that grows: "fence again on any error" is a livelock of two processes that fence each other.
A partition that was taken away is left at once: its worker is cancelled and awaited before anything else may run it.

What is Kafka's doing is said and tried again for ever. So is a newer version's record: the partition waits for a process of that version.
What is a bug of ours is counted, and too many end the process.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from structlog.typing import FilteringBoundLogger

from shared.kafka.closing import heard
from shared.kafka.errors import Fenced, KafkaUnavailable, ProducerBroken, RoundFailed
from shared.kafka.membership import Membership
from shared.records.codec import NewerRecord

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
# A worker that ran for so long before it ended is not the one that failed before.
_WELL_S: Final = 20.0
_FAILURES: Final = 10
_WITHIN_S: Final = 300.0
_KAFKAS: Final = (Fenced, RoundFailed, KafkaUnavailable, ProducerBroken)


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
    #: How often a newer owner of a partition fenced one of these workers.
    fencings: int = 0
    #: Partitions that only a newer version can work on, and why.
    newer: dict[int, str] = field(default_factory=dict)
    _tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    _bugs: deque[float] = field(default_factory=deque)

    def __repr__(self) -> str:
        """Say which partitions run."""
        return f"<PartitionWorkers {sorted(self._tasks)} [{self.restarts} restarts, {self.fencings} fencings]>"

    def waiting(self) -> list[str]:
        """Say which partitions wait for a process of a newer version, and why."""
        return [f"partition {number}: {reason}" for number, reason in sorted(self.newer.items())]

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
                # What the watcher saw, not what is so by now: a loss that was made good again is a loss.
                known = watching.result() if watching in done else known
        finally:
            await self._adjust(frozenset())

    async def _adjust(self, owned: frozenset[int]) -> None:
        leaving = {p: task for p, task in self._tasks.items() if p not in owned}
        for task in leaving.values():
            # Once: a second one would break into what the worker does to end.
            if not task.cancelling():
                task.cancel()
        if leaving:
            # Still listed meanwhile: if this wait is cancelled, the last one waits for them again.
            await asyncio.gather(*map(_ended, leaving.values()))
        for partition in leaving:
            del self._tasks[partition]
            self.newer.pop(partition, None)
        for partition in owned - self._tasks.keys():
            self._tasks[partition] = asyncio.create_task(
                self._supervise(partition), name=f"partition-{partition}"
            )

    async def _supervise(self, partition: int) -> None:
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while True:
            began_s = loop.time()
            error = await self._once(partition)
            ended_s = loop.time()
            self.restarts += 1
            self._judge(partition, error, ended_s)
            if ended_s - began_s > _WELL_S:
                pause_s = _FIRST_PAUSE_S
            await asyncio.sleep(pause_s * self.rng.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            while not await self.membership.wait_confirmed(partition, ended_s):
                # No longer ours: ``run`` cancels this task when it hears of it.
                await self.membership.wait_owned(partition)
                ended_s = loop.time()

    async def _once(self, partition: int) -> Exception:
        """Run the worker and give what it ended with.

        In a task of its own: a task whose TaskGroup failed counts as cancelled for ever after (Python 3.11), and it is the supervisor's
        own task that says whether the partition was taken away.
        """
        worker = asyncio.ensure_future(self.make(partition))
        try:
            await asyncio.wait({worker})
        except asyncio.CancelledError:
            worker.cancel()
            await _ended(worker)
            raise
        if worker.cancelled():
            # Nobody cancelled us: something inside was cancelled and said so to whoever waited for it.
            return WorkerEnded(f"partition {partition}: cancelled from inside")
        error = worker.exception()
        if isinstance(error, Exception):
            return error
        if error is not None:
            raise error
        return WorkerEnded(f"partition {partition}: ended by itself")

    def _judge(self, partition: int, error: Exception, now_s: float) -> None:
        causes = list(_leaves(error))
        reason = "; ".join(f"{type(cause).__name__}: {cause}" for cause in causes)
        self.fencings += any(isinstance(cause, Fenced) for cause in causes)
        if any(isinstance(cause, NewerRecord) for cause in causes):
            self.newer[partition] = reason
            self.log.error("newer_version", partition=partition, reason=reason)
            return
        if all(isinstance(cause, _KAFKAS) for cause in causes):
            self.log.warning("worker_stopped", partition=partition, reason=reason)
            return
        self.log.error("worker_failed", partition=partition, reason=reason, exc_info=error)
        self._bugs.append(now_s)
        while self._bugs[0] < now_s - _WITHIN_S:
            self._bugs.popleft()
        if len(self._bugs) >= _FAILURES:
            raise WorkersGaveUp(
                f"{len(self._bugs)} failures within {_WITHIN_S:.0f} s; the last: {reason}"
            ) from error


async def _ended(task: "asyncio.Future[None]") -> None:
    await asyncio.wait({task})
    heard(task)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
