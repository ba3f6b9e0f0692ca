"""The records of waiting deliveries, read again from mail.deliveries when they are due.

What has just been read is kept for a while, bounded by bytes, so that a delivery that is granted at once costs no second read. What is
not kept is picked out of the log by its offset, many together in their order.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.kafka.cluster import Cluster
from shared.kafka.picker import Picker

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
    _picker: Picker | None = None
    _topics: tuple[str, ...] = ()

    async def open(self, topics: Iterable[str]) -> dict[str, int]:
        """Be ready to read from ``topics``; gives the first offset of each."""
        self._topics = tuple(topics)
        starts = await self.cluster.start_offsets(
            [(topic, self.partition) for topic in self._topics]
        )
        self._picker = await self.cluster.picker()
        return {topic: starts[topic, self.partition] for topic in self._topics}

    async def close(self) -> None:
        """Close the connection."""
        if self._picker is not None:
            await self._picker.close()

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
            wanted = [
                offset for name, offset in places if name == topic and (name, offset) not in found
            ]
            if wanted:
                found.update(await self._read(topic, wanted))
        return found

    async def _read(self, topic: str, offsets: list[int]) -> dict[Place, bytes]:
        if self._picker is None:
            raise RuntimeError("open() comes first")
        picked = await self._picker.pick(topic, self.partition, offsets)
        if lost := sorted(set(offsets) - picked.keys()):
            raise BodyLost(
                f"{topic}/{self.partition} offset {lost[0]}, of {len(offsets)} asked for"
            )
        return {(topic, offset): value for offset, value in picked.items()}
