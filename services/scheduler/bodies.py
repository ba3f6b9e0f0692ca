"""The records of waiting deliveries, read again from mail.deliveries when they are due.

What has just been read is kept for a while, bounded by bytes, so that a delivery that is granted at once costs no second read. What is
not kept is read by offset, many together in offset order: a dense stretch is scanned, a gap is jumped over by a seek.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from shared.kafka.cluster import SEEK_FETCH_WAIT_MS, Cluster
from shared.kafka.reader import Reader

#: Records between two wanted ones that are read through rather than jumped over: a seek costs about as much.
_DENSE: Final = 200
_POLL_MS: Final = 50
_PATIENCE_POLLS: Final = 600

Place = tuple[str, int]


class BodyLost(Exception):
    """A record that a waiting delivery needs is no longer in mail.deliveries."""


@dataclass(slots=True)
class Bodies:
    """One worker's records: (topic, offset) -> value."""

    cluster: Cluster
    partition: int
    keep_bytes: int
    _kept: OrderedDict[Place, bytes] = field(default_factory=OrderedDict)
    _size: int = 0
    _reader: Reader | None = None
    _topics: tuple[str, ...] = ()

    async def open(self, topics: Iterable[str]) -> dict[str, int]:
        """Open the reader for ``topics``, which only ever reads where it is sent; gives the first offset of each."""
        self._topics = tuple(topics)
        starts = await self.cluster.start_offsets(
            [(topic, self.partition) for topic in self._topics]
        )
        self._reader = await self.cluster.reader(dict(starts), fetch_wait_ms=SEEK_FETCH_WAIT_MS)
        for topic in self._topics:
            self._reader.pause((topic, self.partition))
        return {topic: starts[topic, self.partition] for topic in self._topics}

    async def close(self) -> None:
        """Close the reader."""
        if self._reader is not None:
            await self._reader.stop()

    def keep(self, topic: str, offset: int, value: bytes) -> None:
        """Keep a record that was just read, and let the oldest go past the bound."""
        self._kept[topic, offset] = value
        self._size += len(value)
        while self._size > self.keep_bytes and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._size -= len(dropped)

    def forget(self, topic: str, offset: int) -> None:
        """Let a record go: its delivery ended or was granted."""
        dropped = self._kept.pop((topic, offset), None)
        if dropped is not None:
            self._size -= len(dropped)

    def missing(self, places: Iterable[Place]) -> list[Place]:
        """Give those of ``places`` that must be read again."""
        return [place for place in places if place not in self._kept]

    async def load(self, places: Iterable[Place]) -> dict[Place, bytes]:
        """Give the records at ``places``, from memory or from the log.

        Raises BodyLost: a record is not there although its delivery waits.
        """
        places = list(places)
        found = {place: self._kept[place] for place in places if place in self._kept}
        for topic in self._topics:
            wanted = sorted(
                offset for name, offset in places if name == topic and (name, offset) not in found
            )
            if wanted:
                found.update(await self._read(topic, wanted))
        return found

    async def _read(self, topic: str, offsets: list[int]) -> dict[Place, bytes]:
        if self._reader is None:
            raise RuntimeError("open() comes first")
        here, wanted = (topic, self.partition), set(offsets)
        found: dict[Place, bytes] = {}
        self._reader.resume(here)
        try:
            upcoming, sought = 0, -1
            # Where the reader was left the last time says nothing: the first step is always a seek.
            at = -2 * _DENSE
            for _ in range(_PATIENCE_POLLS + len(offsets)):
                if upcoming >= len(offsets):
                    return found
                if offsets[upcoming] > at + _DENSE and sought != offsets[upcoming]:
                    # Once: a second seek would throw away the fetch that is on its way.
                    sought = offsets[upcoming]
                    self._reader.seek(here, sought)
                for record in await self._reader.poll(max_records=_DENSE, wait_ms=_POLL_MS):
                    at = record.offset
                    if record.offset in wanted and record.value is not None:
                        found[topic, record.offset] = record.value
                while upcoming < len(offsets) and offsets[upcoming] <= at:
                    if (topic, offsets[upcoming]) not in found:
                        raise BodyLost(f"{topic}/{self.partition} offset {offsets[upcoming]}")
                    upcoming += 1
            raise BodyLost(f"{topic}/{self.partition} offset {offsets[upcoming]}: no answer")
        finally:
            self._reader.pause(here)
