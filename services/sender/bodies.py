"""Large and shared bodies out of mail.bodies: read once, kept for a while, bounded by bytes.

A message to 100 recipients is one body and 100 grants: whoever comes second waits for the first one's read.
"""

import asyncio
from dataclasses import dataclass, field

from shared.kafka.cluster import Cluster
from shared.kafka.errors import KafkaTrouble
from shared.kafka.kept import Kept
from shared.kafka.picker import Picker
from shared.records.body import BodyRef
from shared.records.codec import split

Where = tuple[int, int]


class BodyMissing(Exception):
    """The body is not in mail.bodies (any more), or Kafka did not give it in time."""


@dataclass(slots=True)
class StoredBodies:
    """Read mail.bodies by reference."""

    cluster: Cluster
    topic: str
    kept: Kept[Where]
    _under_way: dict[Where, asyncio.Task[bytes]] = field(default_factory=dict)
    #: Made when it is needed: most mail carries its body with it.
    _picker: Picker | None = None
    _making: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def get(self, ref: BodyRef) -> bytes:
        """Give the body's RFC 5322 bytes; raises BodyMissing."""
        where = ref.partition, ref.offset
        body = self.kept.get(where)
        if body is not None:
            return body
        task = self._under_way.get(where)
        if task is None:
            task = self._under_way[where] = asyncio.create_task(self._read(*where))
            task.add_done_callback(lambda _: self._under_way.pop(where, None))
        # Shielded: one waiter that gives up must not take the body from the others.
        return await asyncio.shield(task)

    async def _read(self, partition: int, offset: int) -> bytes:
        place = f"mail.bodies/{partition} offset {offset}"
        try:
            async with self._making:
                picker = self._picker = self._picker or await self.cluster.picker()
            found = await picker.pick(self.topic, partition, [offset])
        except KafkaTrouble as error:
            raise BodyMissing(f"{place}: {error}") from error
        if offset not in found:
            raise BodyMissing(f"{place}: no record is there")
        body = split(found[offset])[1]
        self.kept.put((partition, offset), body)
        return body

    async def close(self) -> None:
        """Close the connections."""
        if self._picker is not None:
            await self._picker.close()
