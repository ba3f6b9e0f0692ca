"""The sender process: the control feed, the journal, one slot for each source that it can serve.

On SIGTERM it stops starting, hands back what it had not begun, finishes what it had, releases its slots, and leaves within the grace time;
whatever is still under way then is dropped before its dot, or said to be unknown (``leaving``). Where that cannot be said either, since
Kafka is away, the process goes all the same, and the scheduler's judgement is the same.
"""

import asyncio
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from structlog.typing import FilteringBoundLogger

from services.sender.bodies import StoredBodies
from services.sender.dispatch import Dispatch
from services.sender.dkim.keyfiles import KeyFiles
from services.sender.dkim.keys import KeyRing
from services.sender.dkim.pool import SigningPool
from services.sender.gauges import Gauges
from services.sender.journal import Journal
from services.sender.line import Tools
from services.sender.messages import Messages
from services.sender.ownership import Identity
from services.sender.podlock import take
from services.sender.reach import Common, guard_of
from services.sender.slots import Slots
from services.sender.sources.echo import observer_of
from shared.kafka.cluster import Cluster
from shared.kafka.controlfeed import ControlFeed, Listener
from shared.kafka.kept import Kept
from shared.net.destinations import Destinations
from shared.protocol.control import ControlView
from shared.records.topics import Topics
from shared.runtime.clock import Clock
from shared.runtime.metrics import Metrics
from shared.runtime.settings import Settings

_S: Final = 1_000_000_000
#: To say what became of what was cut off at the end of the grace time, and to release.
_RELEASING_S: Final = 5
#: The sections of the configuration that are taken over while running.
HOT: Final = (
    "sources",
    "pools",
    "tenants",
    "classes",
    "providers",
    "limits",
    "routes",
    "dns",
    "net",
)


@dataclass(slots=True)
class Sender:
    """One sender process."""

    settings: Settings
    cluster: Cluster
    clock: Clock
    rng: random.Random
    log: FilteringBoundLogger
    metrics: Metrics
    process: str
    pod: str
    #: Where the pod keeps its lock; None: restarts wait as everybody does.
    locks: Path | None
    #: Hears every record of mail.control, beside the service.
    heard: Listener | None = None
    view: ControlView = field(default_factory=ControlView)
    _slots: Slots | None = None

    def not_ready(self) -> list[str]:
        """Say why the process is not ready: it owns no slot although there are some for it."""
        if self._slots is None:
            return ["starting"]
        satisfied = self._slots.owned() or self._slots.idle_by_share()
        return [] if satisfied else ["no slot owned yet"]

    def owned(self) -> list[str]:
        """Say which sources this process has; one that is idle has none and is ready all the same."""
        names = self._slots.owned() if self._slots is not None else []
        return [f"slots {len(names)}{':' if names else ''} {', '.join(names)}".strip()]

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set, then drain."""
        topics = Topics(self.settings.kafka.prefix)
        slots = self._wire(topics)
        self._slots = slots
        Gauges(self.metrics, slots, self.clock)
        async with asyncio.TaskGroup() as tasks:
            feeding = tasks.create_task(slots.feed.run())
            journaling = tasks.create_task(slots.tools.journal.run())
            dispatching = tasks.create_task(slots.dispatch.run())
            turning = tasks.create_task(slots.run())
            await stop.wait()
            self.log.info("draining", sources=slots.owned())
            slots.drain()
            try:
                async with asyncio.timeout(self.settings.sender.grace_ns / _S + _RELEASING_S):
                    await asyncio.shield(turning)
                    await slots.tools.journal.flushed()
            except TimeoutError:
                self.log.warning("grace_over", sources=slots.owned())
            for task in (turning, dispatching, journaling, feeding):
                task.cancel()
        await slots.tools.messages.close()

    async def renew(self, settings: Settings) -> None:
        """Go on under ``settings``; a source that is new, gone or changed begins, ends or begins anew."""
        self.settings = settings
        if self._slots is not None:
            self._slots.renew(settings)

    def _wire(self, topics: Topics) -> Slots:
        settings, clock, log = self.settings, self.clock, self.log
        lock = take(self.locks, self.pod, self.process) if self.locks is not None else None
        feed = ControlFeed(self.cluster, topics.control, self.view, log)
        messages = Messages(
            settings,
            KeyRing(settings, clock, KeyFiles(clock, log)),
            SigningPool(settings.sender.signers, clock),
            StoredBodies(self.cluster, topics.bodies, Kept(settings.sender.body_cache_bytes)),
        )
        journal = Journal(self.cluster, topics.outcomes, clock, log)
        destinations = Destinations(settings, clock)
        common = Common(
            settings,
            destinations,
            guard_of(settings),
            clock,
            self.rng,
            log,
            observer_of(settings.sender.echo, destinations.addresses),
        )
        slots = Slots(
            settings=settings,
            cluster=self.cluster,
            topics=topics,
            clock=clock,
            view=self.view,
            feed=feed,
            dispatch=Dispatch(self.cluster, topics.dispatch, clock, log),
            me=Identity(self.process, self.pod, lock.predecessor if lock is not None else None),
            tools=Tools(settings, clock, journal, messages, log),
            common=common,
            log=log,
        )
        for source in settings.sources.values():
            slots.add(source)
        feed.listeners.append(slots.heard)
        if self.heard is not None:
            feed.listeners.append(self.heard)
        return slots
