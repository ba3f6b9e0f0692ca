"""The Kafka door: one index of both submission topics, transactional first.

Each topic has a reader and a buffer of its own, so that a backlog of bulk never stands before transactional mail; a buffer that is full is
not filled further, and Kafka keeps the rest. A round takes transactional records first, but leaves a tenth of its places to bulk
where some waits: more than enough transactional mail must not stop it for ever.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from shared.kafka.cluster import PATIENT_FETCH_WAIT_MS, Cluster, Position
from shared.kafka.reader import Place, Reader, Received
from shared.records.topics import CLASSES, Topics

ROUND_RECORDS: Final = 1000
ROUND_BYTES: Final = 16 << 20
_POLL_MS: Final = 1_000
_BULK_SHARE: Final = 10


@dataclass(slots=True)
class _Lane:
    reader: Reader
    place: Place
    waiting: deque[Received] = field(default_factory=deque)
    bytes_: int = 0

    @property
    def full(self) -> bool:
        return len(self.waiting) >= ROUND_RECORDS or self.bytes_ >= ROUND_BYTES

    def take(self, records: int, left: int, *, alone: bool) -> list[Received]:
        """Take at most so many records and bytes; with ``alone`` one at least."""
        taken: list[Received] = []
        while self.waiting and len(taken) < records:
            size = len(self.waiting[0].value or b"")
            if size > left and (taken or not alone):
                break
            taken.append(self.waiting.popleft())
            left -= size
        self.bytes_ -= sum(len(record.value or b"") for record in taken)
        return taken


class Door:
    """Read one index of the submission topics, for as long as ``pump`` runs."""

    def __init__(self, lanes: list[_Lane]) -> None:
        """``open_door`` makes it."""
        self._lanes = lanes
        self._some = asyncio.Event()
        self._room = asyncio.Event()

    async def pump(self) -> None:
        """Fill the buffers until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for lane in self._lanes:
                tasks.create_task(self._pump(lane))

    async def _pump(self, lane: _Lane) -> None:
        while True:
            while lane.full:
                self._room.clear()
                await self._room.wait()
            found = await lane.reader.poll(max_records=ROUND_RECORDS, wait_ms=_POLL_MS)
            if found:
                lane.waiting.extend(found)
                lane.bytes_ += sum(len(record.value or b"") for record in found)
                self._some.set()

    async def take(self, records: int) -> list[Received]:
        """Wait until there is something, and take a round: at most ``records`` of them and 16 MiB."""
        await self._some.wait()
        first, second = self._lanes
        reserved = -(-records // _BULK_SHARE) if second.waiting and records > 1 else 0
        taken = first.take(records - reserved, ROUND_BYTES, alone=True)
        left = ROUND_BYTES - sum(len(record.value or b"") for record in taken)
        taken += second.take(records - len(taken), left, alone=not taken)
        self._settle()
        return taken

    def put_back(self, records: Iterable[Received]) -> None:
        """Give back the end of what was taken: it comes first in the next round."""
        for record in reversed(list(records)):
            lane = next(lane for lane in self._lanes if lane.place[0] == record.topic)
            lane.waiting.appendleft(record)
            lane.bytes_ += len(record.value or b"")
        self._settle()

    def _settle(self) -> None:
        if any(lane.waiting for lane in self._lanes):
            self._some.set()
        else:
            self._some.clear()
        self._room.set()

    def oldest_ms(self, class_: str) -> int | None:
        """Give the stamp of the oldest record that waits here; None: none does."""
        waiting = self._lanes[CLASSES.index(class_)].waiting
        return waiting[0].timestamp if waiting else None

    def behind(self, class_: str) -> int | None:
        """Count the records that are not taken yet, here and in Kafka; None: Kafka has not said."""
        lane = self._lanes[CLASSES.index(class_)]
        lag = lane.reader.lag(lane.place)
        return None if lag is None else lag + len(lane.waiting)

    async def close(self) -> None:
        """Stop the readers."""
        for lane in self._lanes:
            await lane.reader.stop()


async def open_door(
    cluster: Cluster, topics: Topics, partition: int, positions: Mapping[Place, Position]
) -> Door:
    """Open the door of ``partition``, each topic from its position."""
    lanes: list[_Lane] = []
    try:
        for class_ in CLASSES:
            place = topics.submissions(class_), partition
            reader = await cluster.reader(
                {place: positions[place]}, fetch_wait_ms=PATIENT_FETCH_WAIT_MS
            )
            lanes.append(_Lane(reader, place))
    except BaseException:
        for lane in lanes:
            await lane.reader.stop()
        raise
    return Door(lanes)
