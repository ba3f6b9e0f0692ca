"""Reads mail.control from its start into a ControlView, for as long as the process lives.

One feed a process. Whoever wants each record as it comes (a slot's owner) listens; whoever wants the fold reads the view. The log is read
to its end when the reader has no lag: only then is silence silence.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from structlog.typing import FilteringBoundLogger

from shared.kafka.cluster import Cluster
from shared.kafka.errors import KafkaTrouble
from shared.protocol.control import ControlView
from shared.records.codec import Unreadable
from shared.records.control import CONTROL, Control

_MS: Final = 1_000_000
_WAIT_MS: Final = 250
_PAUSE_S: Final = 0.5
_LOOK_S: Final = 0.2

Listener = Callable[[int, Control], None]


async def read_to_end(cluster: Cluster, topic: str) -> ControlView:
    """Read mail.control to the end that it has now."""
    view, here = ControlView(), (topic, 0)
    end = (await cluster.end_offsets([here]))[here]
    reader = await cluster.reader({here: "start"})
    try:
        while reader.position(here) < end:
            for record in await reader.poll(max_records=5000, wait_ms=_WAIT_MS):
                if record.value is None:
                    view.bury(record.offset, record.key or b"")
                    continue
                read = CONTROL.decode(record.value)
                # A newer version's kind is none of this one's business.
                if not isinstance(read, Unreadable):
                    view.feed(record.offset, record.timestamp * _MS, read)
    finally:
        await reader.stop()
    return view


@dataclass(slots=True)
class ControlFeed:
    """Feed ``view``; listeners get (stamp ns, record) after the view has it."""

    cluster: Cluster
    topic: str
    view: ControlView
    log: FilteringBoundLogger
    listeners: list[Listener] = field(default_factory=list)
    at_end: bool = False

    async def run(self) -> None:
        """Read until cancelled; whatever goes wrong with Kafka, read on from where it was."""
        while True:
            try:
                await self._read()
            except KafkaTrouble as error:
                self.log.warning("control_read_failed", reason=str(error))
                await asyncio.sleep(_PAUSE_S)

    async def mapped(self, stop: asyncio.Event) -> bool:
        """Wait until the lane map is read: without one nobody knows who decides; False: ``stop`` was set before."""
        while not stop.is_set():
            if self.at_end and self.view.lane_map is not None:
                return True
            await asyncio.sleep(_LOOK_S)
        return False

    async def _read(self) -> None:
        here = (self.topic, 0)
        reader = await self.cluster.reader({here: self.view.position or "start"})
        try:
            while True:
                for record in await reader.poll(max_records=5000, wait_ms=_WAIT_MS):
                    self._take(record.offset, record.timestamp * _MS, record.key, record.value)
                self.at_end = reader.lag(here) == 0
        finally:
            self.at_end = False
            await reader.stop()

    def _take(self, offset: int, stamp_ns: int, key: bytes | None, value: bytes | None) -> None:
        if value is None:
            self.view.bury(offset, key or b"")
            return
        record = CONTROL.decode(value)
        if isinstance(record, Unreadable):
            # A newer version's kind, or rubbish: neither may stop the cluster.
            self.log.warning("control_unreadable", offset=offset, reason=record.reason)
            return
        self.view.feed(offset, stamp_ns, record)
        for listen in self.listeners:
            listen(stamp_ns, record)
