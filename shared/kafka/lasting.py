"""A producer that lasts: one for whoever says something now and then, replaced when it has broken.

What was on its way when it broke is lost, or nobody knows: whoever said it decides whether it is said again.
"""

import asyncio
from dataclasses import dataclass, field

from shared.kafka.cluster import Cluster
from shared.kafka.producer import Producer


@dataclass(slots=True)
class Lasting:
    """Have a producer that sends at once."""

    cluster: Cluster
    #: The one there is, which may be broken.
    present: Producer | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def whole(self) -> Producer:
        """Give one that has not broken; raises KafkaTrouble where none can be had."""
        async with self._lock:
            if self.present is None or self.present.broken:
                broken, self.present = self.present, None
                if broken is not None:
                    await broken.stop()
                self.present = await self.cluster.producer(linger_ms=0)
            return self.present

    async def close(self) -> None:
        """Close it."""
        if self.present is not None:
            await self.present.stop()
