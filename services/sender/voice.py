"""What one process says in mail.control: through one producer, which is replaced when it breaks.

A record that was on its way then is lost, or nobody knows: whoever said it sees that it is not read back. Nothing here says it again.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from structlog.typing import FilteringBoundLogger

from shared.kafka.errors import KafkaTrouble
from shared.kafka.lasting import Lasting
from shared.kafka.producer import Stamped
from shared.records.codec import encode
from shared.records.control import Control, control_key
from shared.runtime.clock import Clock


@dataclass(slots=True)
class Voice:
    """Append to mail.control."""

    producer: Lasting
    topic: str
    clock: Clock
    log: FilteringBoundLogger
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def mend(self) -> None:
        """Have a producer, unless there is one that works."""
        try:
            await self.producer.whole()
        except KafkaTrouble as error:
            self.log.warning("control_producer_failed", reason=str(error))
            await self.clock.sleep(1)

    def say(self, record: Control) -> None:
        """Append ``record``, and tell nobody what became of it."""
        self.spawn(self._forget(record, control_key(record)))

    def bury(self, key: bytes) -> None:
        """Append a tombstone."""
        self.spawn(self._forget(None, key))

    async def _forget(self, record: Control | None, key: bytes) -> None:
        await self.append(record, key)

    async def append(self, record: Control | None, key: bytes) -> Stamped | None:
        """Append a record (None: a tombstone); None: nobody knows whether it is there."""
        producer = self.producer.present
        if producer is None:
            return None
        try:
            value = None if record is None else encode(record)
            return await producer.send(self.topic, 0, value, key=key)
        except KafkaTrouble as error:
            self.log.warning("control_send_failed", key=key.decode(), reason=str(error))
            return None

    def spawn(self, what: Coroutine[Any, Any, None]) -> None:
        """Do something beside the loop, which ends with ``close``."""
        task = asyncio.ensure_future(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for what is on its way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.producer.close()
