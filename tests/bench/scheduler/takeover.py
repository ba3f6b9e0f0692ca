"""scheduler.takeover: one of two schedulers is killed, and mail comes for what it decided about.

The time from the kill until all of that mail is granted: the group's session must run out, then the other process fences the partitions,
reads back what waits there, and decides. The goal is fifteen seconds beyond the session time-out.
"""

import asyncio
import time
from pathlib import Path
from typing import Final

from services.cli.cluster.broker import LocalKafka
from shared.kafka.membership import SESSION_S
from tests.bench.figures import Figures
from tests.bench.scheduler.answering import Senders
from tests.bench.scheduler.kafka import runs, until
from tests.bench.scheduler.log import PARTITIONS, filler, stack
from tests.support.stack import Stack

PENDING: Final = 200_000
_FRESH: Final = 1_000
_BEYOND_S: Final = 15.0
_PATIENCE_S: Final = 300.0


def run(figures: Figures, directory: Path, pending: int = PENDING) -> None:
    """Measure."""
    with LocalKafka(directory / "kafka", heap_mib=1024) as broker:
        asyncio.run(_run(figures, stack(directory / "stack", broker.bootstrap), pending))


async def _run(figures: Figures, made: Stack, pending: int) -> None:
    async with filler(made) as filling:
        await filling.backlog(pending)
        schedulers = [made.start("scheduler", wait=False) for _ in range(2)]
        try:
            first, other = schedulers
            await until(lambda: runs(first) > 0 and runs(other) > 0)
            await until(lambda: runs(first) + runs(other) >= PARTITIONS)
            senders = Senders(made)
            async with asyncio.timeout(_PATIENCE_S):
                # All is up and granting before anything dies.
                await filling.fresh(_FRESH, pending)
                answering = asyncio.create_task(senders.run(2 * _FRESH))
                await until(lambda: senders.grants >= _FRESH)
                killed = time.monotonic()
                first.kill()
                await filling.fresh(_FRESH, pending + _FRESH)
                await answering
            taken = senders.last_s - killed
        finally:
            made.stop()
    figures.add(
        "scheduler.takeover", f"seconds_beyond_session.{pending}", taken - SESSION_S, "s", _BEYOND_S
    )
