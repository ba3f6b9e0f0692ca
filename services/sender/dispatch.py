"""Reads the grants of every slot that this process owns out of mail.dispatch, with one consumer, and brings each to its slot's line.

One for all: a consumer of its own for each of some hundred slots would ask the broker some hundred times in each half second for nothing,
and for one record at a time where there is mail. A line with much in hand is not read for until it has less: the partition keeps what it
does not take, and leases run. What is no longer in the log is passed over: its lease settles it.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from structlog.typing import FilteringBoundLogger

from services.sender.line import Line
from shared.kafka.cluster import Cluster
from shared.kafka.errors import KafkaTrouble, OffsetOutOfRange
from shared.kafka.reader import Place, Reader, Received
from shared.records.codec import Unreadable, split
from shared.records.grant import GRANT
from shared.runtime.clock import Clock

_READ: Final = 400
_READ_MS: Final = 100
_PAUSE_S: Final = 0.5
#: While the records of one slot are taken, the client asks for the others', and for nothing else before it has the answer.
_FETCH_MS: Final = 100
#: Grants that wait in a line: from so many on it is not read for, until it has less than half.
_MANY: Final = 4000


@dataclass(slots=True)
class _Followed:
    line: Line
    #: The next offset.
    at: int


@dataclass(slots=True)
class Dispatch:
    """Feed the lines of the slots that are followed."""

    cluster: Cluster
    topic: str
    clock: Clock
    log: FilteringBoundLogger
    _slots: dict[int, _Followed] = field(default_factory=dict)
    #: Others are followed than the reader knows; somebody is followed.
    _changed: bool = False
    _some: asyncio.Event = field(default_factory=asyncio.Event)

    def __repr__(self) -> str:
        """Show whom it reads for."""
        return f"<Dispatch {self.topic} {sorted(self._slots)}>"

    async def end(self, slot: int) -> int:
        """Ask where a slot's partition ends now; raises KafkaTrouble."""
        here = (self.topic, slot)
        return (await self.cluster.end_offsets([here]))[here]

    def follow(self, slot: int, start: int, line: Line) -> None:
        """Bring what lies in a slot's partition from ``start`` on to its line."""
        self._slots[slot] = _Followed(line, start)
        self._changed = True
        self._some.set()

    def leave(self, slot: int) -> None:
        """Bring nothing more; a slot that is not followed is left already."""
        if self._slots.pop(slot, None) is not None:
            self._changed = True
        if not self._slots:
            self._some.clear()

    def follows(self, slot: int) -> bool:
        """Say whether a slot is followed."""
        return slot in self._slots

    async def run(self) -> None:
        """Read until cancelled; whatever goes wrong with Kafka, read on from where it was."""
        while True:
            await self._some.wait()
            try:
                await self._read()
            except KafkaTrouble as error:
                self.log.warning(
                    "dispatch_read_failed", slots=sorted(self._slots), reason=str(error)
                )
                await self.clock.sleep(_PAUSE_S)

    async def _read(self) -> None:
        self._changed = False
        reader = await self.cluster.reader(self._positions(), fetch_wait_ms=_FETCH_MS)
        try:
            while self._slots:
                if self._changed:
                    self._changed = False
                    reader.assign(self._positions())
                    self._hold(reader, self._slots)
                try:
                    records = await reader.poll(max_records=_READ, wait_ms=_READ_MS)
                except OffsetOutOfRange:
                    await self._pass_over()
                    continue
                for record in records:
                    self._take(record)
                self._hold(reader, {record.partition for record in records})
        finally:
            await reader.stop()

    def _positions(self) -> dict[Place, int]:
        return {(self.topic, slot): each.at for slot, each in self._slots.items()}

    def _take(self, record: Received) -> None:
        followed = self._slots.get(record.partition)
        if followed is None or record.offset < followed.at:
            return  # The slot was left, or is followed anew from later on, and the reader does not know yet.
        followed.at = record.offset + 1
        line, body = split(record.value or b"")
        grant = GRANT.decode(line)
        if isinstance(grant, Unreadable):
            # Its lease settles it; a scheduler that writes such grants is a bug that must be seen.
            self.log.error("grant_unreadable", slot=record.partition, reason=grant.reason)
            return
        followed.line.offer(grant, body)

    def _hold(self, reader: Reader, came: Collection[int]) -> None:
        """Read no more for a line that has much in hand, and again for one that has not; ``came``: for whom something came."""
        if self._changed:
            return  # Some may not be the reader's yet, or any more.
        for slot, followed in self._slots.items():
            place = self.topic, slot
            held = reader.paused(place)
            if not held and slot not in came:
                continue
            many = followed.line.waiting() > (_MANY // 2 if held else _MANY)
            if many != held:
                (reader.pause if many else reader.resume)(place)

    async def _pass_over(self) -> None:
        """Go on where the log is: retention, or somebody, deleted grants before they were read."""
        places = list(self._positions())
        starts, ends = (
            await self.cluster.start_offsets(places),
            await self.cluster.end_offsets(places),
        )
        for (_, slot), start in starts.items():
            followed = self._slots.get(slot)
            if followed is None:
                continue
            there = min(max(followed.at, start), max(start, ends[self.topic, slot]))
            if there != followed.at:
                self.log.error("dispatch_passed_over", slot=slot, at=followed.at, there=there)
                followed.at = there
        self._changed = True
