"""The records of waiting deliveries, read again from mail.deliveries when they are due.

What has just been read is kept for a while, bounded by bytes, so that a delivery that is granted at once costs no second read. What is
not kept is picked out of the log by its offset, many together in their order.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from shared.kafka.cluster import Cluster
from shared.kafka.kept import Kept
from shared.kafka.picker import Picker

Place = tuple[str, int]


class BodyLost(Exception):
    """A record that a waiting delivery needs is no longer in mail.deliveries."""


@dataclass(slots=True)
class Bodies:
    """One worker's records: (topic, offset) -> value."""

    cluster: Cluster
    partition: int
    kept: Kept[Place]
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

    async def load(self, places: Iterable[Place]) -> dict[Place, bytes]:
        """Give the records at ``places``, from memory or from the log.

        Raises BodyLost: a record is not there although its delivery waits.
        """
        places = list(places)
        found = {place: value for place in places if (value := self.kept.get(place)) is not None}
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
