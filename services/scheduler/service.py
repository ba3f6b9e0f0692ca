"""The scheduler process: membership, one worker for each partition that it owns, the control feed, the gauges.

Kafka's group gives the partitions out (through the empty mail.members); each is fenced, restored and run by a worker of its own. Nothing
is shared between workers but what is read only: the settings, the view of mail.control, the resolver.

A changed configuration makes no worker anew in the middle of a round: one partition after the other ends its round, and the worker that
follows reads its memory back under the new settings.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from structlog.typing import FilteringBoundLogger

from services.scheduler import collecting
from services.scheduler.census import Census
from services.scheduler.gauges import Gauges
from services.scheduler.marks import Marks
from services.scheduler.resolving import Resolving
from services.scheduler.saying import Saying
from services.scheduler.telling import Telling
from services.scheduler.worker import GROUP, MAX_RECORDS, Shell, Worker
from shared.kafka.cluster import Cluster
from shared.kafka.controlfeed import ControlFeed, Listener
from shared.kafka.lasting import Lasting
from shared.kafka.membership import Membership
from shared.kafka.suspicion import Suspicion
from shared.kafka.workers import PartitionWorkers
from shared.net.destinations import Destinations
from shared.protocol.control import ControlView
from shared.records.event import Configured
from shared.records.topics import Topics
from shared.runtime.clock import Clock
from shared.runtime.metrics import Metrics
from shared.runtime.settings import Settings

#: The sections of the configuration that are taken over while running.
HOT: Final = (
    "sources",
    "pools",
    "tenants",
    "classes",
    "providers",
    "limits",
    "backoff",
    "warmups",
    "routes",
    "dns",
    "scheduler",
)


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
    #: The same for a restart in the same pod.
    pod: str = ""
    #: Where it can be asked; empty: nowhere.
    url: str = ""
    #: Hears every record of mail.control, beside the service.
    heard: Listener | None = None
    #: Says where the settings are from, as often as they change.
    configured: Callable[[], Configured] | None = None
    view: ControlView = field(default_factory=ControlView)
    workers: dict[int, Worker] = field(default_factory=dict)
    _suspicions: dict[int, Suspicion] = field(default_factory=dict)
    _shell: Shell | None = None
    _gauges: Gauges | None = None
    _destinations: Destinations | None = None
    _ready: set[str] = field(default_factory=set)
    _running: PartitionWorkers | None = None

    def not_ready(self) -> list[str]:
        """Say why the process is not ready; empty when it is."""
        reasons = []
        if "kafka" not in self._ready:
            reasons.append("no membership yet")
        if self.view.lane_map is None:
            reasons.append("no lane map: run `postyard config apply`")
        if self._running is not None:
            reasons += self._running.waiting()
        return reasons

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set."""
        topics = Topics(self.settings.kafka.prefix)
        feed = ControlFeed(self.cluster, topics.control, self.view, self.log)
        if self.heard is not None:
            feed.listeners.append(self.heard)
        destinations = self._destinations = Destinations(self.settings, self.clock)
        resolving = Resolving(destinations, self.log)
        marks = Marks(Lasting(self.cluster), topics.outcomes, self.owner)
        saying = Saying(Lasting(self.cluster), topics.control, self.log)
        census = Census(self.workers, self.clock)
        gauges = self._gauges = Gauges(
            self.metrics, self.settings, self.clock, self.workers, self.view, census
        )
        self._shell = Shell(
            settings=self.settings,
            topics=topics,
            cluster=self.cluster,
            marks=marks,
            saying=saying,
            view=self.view,
            resolving=resolving,
            clock=self.clock,
            rng=self.rng,
            log=self.log,
            count=gauges.count,
            configured=None if self.configured is None else self.configured(),
        )
        telling = Telling(
            Lasting(self.cluster),
            topics.control,
            self.clock,
            self.log,
            self.view,
            self.workers,
            self.owner,
            self.pod,
            self.url,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                feeding = tasks.create_task(feed.run())
                talking = tasks.create_task(saying.run())
                if await feed.mapped(stop):
                    membership = await self.cluster.membership(
                        topics.prefix + GROUP, topics.members, instance=self.pod or None
                    )
                    try:
                        await self._decide(membership, telling, census, tasks, stop)
                    finally:
                        # Whatever ends it: others have its partitions at once, and not after a session.
                        await membership.stop()
                feeding.cancel()
                talking.cancel()
        finally:
            await telling.close()
            await resolving.close()
            await marks.close()

    async def _decide(
        self,
        membership: Membership,
        telling: Telling,
        census: Census,
        tasks: asyncio.TaskGroup,
        stop: asyncio.Event,
    ) -> None:
        """Run the partitions that the group gives this process until ``stop`` is set."""
        self._ready.add("kafka")
        self._running = PartitionWorkers(membership, self._work, self.rng, self.log)
        working = tasks.create_task(self._running.run())
        answering = tasks.create_task(telling.run())
        counting = tasks.create_task(census.run())
        await stop.wait()
        counting.cancel()
        answering.cancel()
        working.cancel()
        await asyncio.gather(answering, working, return_exceptions=True)

    async def renew(self, settings: Settings) -> None:
        """Go on under ``settings``: one partition after the other, so that the others decide meanwhile."""
        self.settings = settings
        if self._shell is None or self._gauges is None or self._destinations is None:
            return
        self._gauges.settings = settings
        self._destinations.renew(settings)
        configured = None if self.configured is None else self.configured()
        self._shell = replace(self._shell, settings=settings, configured=configured)
        for worker in list(self.workers.values()):
            await worker.leave()

    async def _work(self, partition: int) -> None:
        """Run the partition, again and again where a worker left for new settings."""
        while True:
            shell = self._shell
            if shell is None:
                raise RuntimeError("workers run only in a process that runs")
            suspicion = self._suspicions.setdefault(partition, Suspicion(MAX_RECORDS))
            self.workers[partition] = Worker(partition, shell, suspicion)
            try:
                await self.workers[partition].run()
            finally:
                del self.workers[partition]
                # Its memory knows itself in circles, and next to nothing of it is counted as garbage: it would stay, beside the next one.
                collecting.drop()
