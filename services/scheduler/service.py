"""The scheduler process: membership, one worker for each partition that it owns, the control feed, the gauges.

Kafka's group gives the partitions out (through the empty mail.members); each is fenced, restored and run by a worker of its own. Nothing
is shared between workers but what is read only: the settings, the view of mail.control, the resolver.
"""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Final

from structlog.typing import FilteringBoundLogger

from services.scheduler.gauges import Gauges
from services.scheduler.marks import Marks
from services.scheduler.resolving import Resolving
from services.scheduler.worker import GROUP, MAX_RECORDS, Shell, Worker
from shared.kafka.cluster import Cluster
from shared.kafka.controlfeed import ControlFeed
from shared.kafka.suspicion import Suspicion
from shared.kafka.workers import PartitionWorkers
from shared.net.destinations import Destinations
from shared.protocol.control import ControlView
from shared.records.topics import Topics
from shared.runtime.clock import Clock
from shared.runtime.metrics import Metrics
from shared.runtime.settings import Settings

_LOOK_S: Final = 0.2


@dataclass(slots=True)
class Scheduler:
    """One scheduler process."""

    settings: Settings
    cluster: Cluster
    clock: Clock
    rng: random.Random
    log: FilteringBoundLogger
    metrics: Metrics
    owner: str
    view: ControlView = field(default_factory=ControlView)
    workers: dict[int, Worker] = field(default_factory=dict)
    _suspicions: dict[int, Suspicion] = field(default_factory=dict)
    _ready: set[str] = field(default_factory=set)

    def not_ready(self) -> list[str]:
        """Say why the process is not ready; empty when it is."""
        reasons = []
        if "kafka" not in self._ready:
            reasons.append("no membership yet")
        if self.view.lane_map is None:
            reasons.append("no lane map: run `postyard config apply`")
        return reasons

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set."""
        topics = Topics(self.settings.kafka.prefix)
        feed = ControlFeed(self.cluster, topics.control, self.view, self.log)
        resolving = Resolving(Destinations(self.settings, self.clock))
        marks = Marks(self.cluster, topics.outcomes, self.owner)
        gauges = Gauges(self.metrics, self.settings, self.clock, self.workers, self.view)
        shell = Shell(
            settings=self.settings,
            topics=topics,
            cluster=self.cluster,
            marks=marks,
            view=self.view,
            resolving=resolving,
            clock=self.clock,
            rng=self.rng,
            log=self.log,
            count=gauges.count,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                feeding = tasks.create_task(feed.run())
                await self._lane_map(feed, stop)
                membership = await self.cluster.membership(topics.prefix + GROUP, topics.members)
                self._ready.add("kafka")
                working = tasks.create_task(
                    PartitionWorkers(
                        membership, lambda p: self._work(p, shell), self.rng, self.log
                    ).run()
                )
                await stop.wait()
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
                await membership.stop()
                feeding.cancel()
        finally:
            await resolving.close()
            await marks.close()

    async def _lane_map(self, feed: ControlFeed, stop: asyncio.Event) -> None:
        """Wait for the lane map: without one nobody knows who decides."""
        while not stop.is_set() and not (feed.at_end and self.view.lane_map is not None):
            await self.clock.sleep(_LOOK_S)

    async def _work(self, partition: int, shell: Shell) -> None:
        worker = Worker(
            partition, shell, self._suspicions.setdefault(partition, Suspicion(MAX_RECORDS))
        )
        self.workers[partition] = worker
        try:
            await worker.run()
        finally:
            del self.workers[partition]
