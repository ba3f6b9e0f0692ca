"""The ingest process: membership, one worker for each partition that it owns, the control feed for the lane map.

Kafka's group gives the partitions out (through the empty mail.members); each is fenced and run by a worker of its own. Nothing is shared
between workers but what is read only: the settings, the view of mail.control, the resolver.
"""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Final

from structlog.typing import FilteringBoundLogger

from services.ingest.doors.kafka import ROUND_RECORDS
from services.ingest.intake import read
from services.ingest.meters import Meters
from services.ingest.resolving import Resolving
from services.ingest.worker import Read, Shell, Worker
from shared.kafka.cluster import Cluster
from shared.kafka.controlfeed import ControlFeed, Listener
from shared.kafka.suspicion import Suspicion
from shared.kafka.workers import PartitionWorkers
from shared.net.destinations import Destinations
from shared.protocol.control import ControlView
from shared.records.topics import Topics
from shared.runtime.clock import Clock
from shared.runtime.metrics import Metrics
from shared.runtime.settings import Settings

#: The sections of the configuration that are taken over while running.
HOT: Final = ("sources", "pools", "tenants", "classes", "providers", "routes", "dns", "ingest")


@dataclass(slots=True)
class Ingest:
    """One ingest process."""

    settings: Settings
    cluster: Cluster
    clock: Clock
    rng: random.Random
    log: FilteringBoundLogger
    metrics: Metrics
    #: The same for a restart in the same pod.
    pod: str = ""
    read: Read = read
    #: Hears every record of mail.control, beside the service.
    heard: Listener | None = None
    view: ControlView = field(default_factory=ControlView)
    workers: dict[int, Worker] = field(default_factory=dict)
    _suspicions: dict[int, Suspicion] = field(default_factory=dict)
    _shell: Shell | None = None
    _destinations: Destinations | None = None
    _joined: bool = False
    _running: PartitionWorkers | None = None

    def not_ready(self) -> list[str]:
        """Say why the process is not ready; empty when it is."""
        reasons = []
        if not self._joined:
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
        shell = self._shell = Shell(
            settings=self.settings,
            topics=topics,
            cluster=self.cluster,
            view=self.view,
            resolving=resolving,
            clock=self.clock,
            log=self.log,
            meters=Meters(self.metrics, self.clock, self.workers),
            read=self.read,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                feeding = tasks.create_task(feed.run())
                if await feed.mapped(stop):
                    await self._work(shell, tasks, stop)
                feeding.cancel()
        finally:
            await resolving.close()

    async def renew(self, settings: Settings) -> None:
        """Go on under ``settings``: each worker from its next round on."""
        self.settings = settings
        if self._shell is not None and self._destinations is not None:
            self._destinations.renew(settings)
            self._shell.settings = settings

    async def _work(self, shell: Shell, tasks: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        membership = await self.cluster.membership(
            shell.group, shell.topics.members, instance=self.pod or None
        )
        try:
            self._joined = True
            self._running = PartitionWorkers(
                membership, lambda partition: self._run(partition, shell), self.rng, self.log
            )
            working = tasks.create_task(self._running.run())
            await stop.wait()
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        finally:
            await membership.stop()

    async def _run(self, partition: int, shell: Shell) -> None:
        suspicion = self._suspicions.setdefault(partition, Suspicion(ROUND_RECORDS))
        worker = Worker(partition, shell, suspicion)
        self.workers[partition] = worker
        try:
            await worker.run()
        finally:
            del self.workers[partition]
