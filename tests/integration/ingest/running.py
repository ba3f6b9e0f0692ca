"""What the tests of ingest share: a stack without a receiver, submissions put where they are wanted, the service in the test itself."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from services.ingest.intake import read
from services.ingest.service import Ingest
from services.ingest.worker import Read
from shared.kafka.cluster import Cluster
from shared.runtime.clock import SystemClock, system_rng
from shared.runtime.loading import load
from shared.runtime.metrics import Metrics
from tests.support.reading import PARTITIONS, put
from tests.support.stack import Stack
from tests.support.yard import Yard

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


def stack_for(yard: Yard) -> Stack:
    """Topics, configuration and lane map; recipients at .test need no name server."""
    stack = yard.stack({"*.test": ("127.0.0.1:2525", "local")}, partitions=PARTITIONS)
    stack.set_up()
    return stack


@asynccontextmanager
async def ingest(stack: Stack, *, read: Read = read) -> AsyncIterator[Ingest]:
    """Run the service here: for what no other process can be told, such as a bug in its pure steps."""
    settings = load(stack.config_path, {})
    cluster = Cluster(stack.kafka, client_id="test-ingest")
    log: FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(),
        # The default one draws tracebacks, with every local, for seconds.
        processors=[structlog.processors.KeyValueRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(30),
    )
    service = Ingest(settings, cluster, SystemClock(), system_rng(), log, Metrics(), read=read)
    stop = asyncio.Event()
    running = asyncio.create_task(service.run(stop))
    try:
        yield service
    finally:
        stop.set()
        await running
        await cluster.close()


async def produce(stack: Stack, values: Sequence[bytes], class_: str, partition: int) -> None:
    """Produce submissions to one partition, in this order."""
    await put(stack, stack.topics.submissions(class_), partition, values)
