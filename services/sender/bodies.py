"""Large and shared bodies out of mail.bodies: read once, kept for a while, bounded by bytes.

A message to 100 recipients is one body and 100 grants: whoever comes second waits for the first one's read.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from shared.kafka.cluster import SEEK_FETCH_WAIT_MS, Cluster
from shared.kafka.errors import OffsetOutOfRange
from shared.kafka.reader import Reader
from shared.records.body import BodyRef
from shared.records.codec import split

_POLL_MS: Final = 200
_PATIENCE_POLLS: Final = 150

Where = tuple[int, int]


class BodyMissing(Exception):
    """The body is not in mail.bodies (any more), or Kafka did not give it in time."""


@dataclass(slots=True)
class StoredBodies:
    """Read mail.bodies by reference."""

    cluster: Cluster
    topic: str
    keep_bytes: int
    _kept: OrderedDict[Where, bytes] = field(default_factory=OrderedDict)
    _size: int = 0
    _under_way: dict[Where, asyncio.Task[bytes]] = field(default_factory=dict)
    _readers: dict[int, Reader] = field(default_factory=dict)
    _locks: dict[int, asyncio.Lock] = field(default_factory=dict)

    async def get(self, ref: BodyRef) -> bytes:
        """Give the body's RFC 5322 bytes; raises BodyMissing."""
        where = ref.partition, ref.offset
        if where in self._kept:
            self._kept.move_to_end(where)
            return self._kept[where]
        task = self._under_way.get(where)
        if task is None:
            task = self._under_way[where] = asyncio.create_task(self._read(*where))
            task.add_done_callback(lambda _: self._under_way.pop(where, None))
        # Shielded: one waiter that gives up must not take the body from the others.
        return await asyncio.shield(task)

    async def _read(self, partition: int, offset: int) -> bytes:
        async with self._locks.setdefault(partition, asyncio.Lock()):
            here = (self.topic, partition)
            try:
                reader = self._readers.get(partition)
                if reader is None:
                    reader = self._readers[partition] = await self.cluster.reader(
                        {here: offset}, fetch_wait_ms=SEEK_FETCH_WAIT_MS
                    )
                else:
                    reader.resume(here)
                    reader.seek(here, offset)
                for _ in range(_PATIENCE_POLLS):
                    for record in await reader.poll(max_records=1, wait_ms=_POLL_MS):
                        if record.offset == offset and record.value is not None:
                            reader.pause(here)
                            return self._keep((partition, offset), split(record.value)[1])
            except OffsetOutOfRange as error:
                raise BodyMissing(f"mail.bodies/{partition} offset {offset}: {error}") from error
        raise BodyMissing(f"mail.bodies/{partition} offset {offset}: no answer")

    def _keep(self, where: Where, body: bytes) -> bytes:
        self._kept[where] = body
        self._size += len(body)
        while self._size > self.keep_bytes and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._size -= len(dropped)
        return body

    async def close(self) -> None:
        """Close the readers."""
        for reader in self._readers.values():
            await reader.stop()
