"""A scheduler in the process of the test: no file can tell another process to have a bug."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from services.scheduler.service import Scheduler
from shared.kafka.cluster import Cluster
from shared.kafka.controlfeed import Listener
from shared.runtime.clock import SystemClock, system_rng
from shared.runtime.metrics import Metrics
from shared.runtime.settings import Settings
from tests.support.stack import Stack

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


@asynccontextmanager
async def scheduler_on(
    stack: Stack, settings: Settings, heard: Listener | None = None
) -> AsyncIterator[tuple[Scheduler, "asyncio.Task[None]"]]:
    """Run the service; what it ends with is raised at the end, unless it was awaited before."""
    cluster = Cluster(stack.kafka, client_id="test-scheduler")
    log: FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(),
        # The default one draws tracebacks, with every local, for seconds.
        processors=[structlog.processors.KeyValueRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(30),
    )
    service = Scheduler(
        settings, cluster, SystemClock(), system_rng(), log, Metrics(), "test", heard=heard
    )
    stop = asyncio.Event()
    running = asyncio.create_task(service.run(stop))
    try:
        yield service, running
    finally:
        stop.set()
        if not running.done():
            await running
        await cluster.close()
