"""What the scheduler says in mail.control, one record after the other, beside the rounds.

Never in a round's transaction: one that hangs would hide every heartbeat behind it, and stop all senders. So it is said once the round is
committed, or is such that nothing depends on it. What cannot be written is dropped: what comes after it says more, and tokens of a limit
that nobody hears of are lost, which sends less.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from structlog.typing import FilteringBoundLogger

from shared.kafka.errors import KafkaTrouble
from shared.kafka.lasting import Lasting
from shared.records.codec import encode
from shared.records.control import control_key
from shared.records.shares import Shares, Want

# While Kafka is away: what is older than this many records is not worth saying.
_MOST: Final = 100


@dataclass(slots=True)
class Saying:
    """Append to mail.control."""

    producer: Lasting
    topic: str
    log: FilteringBoundLogger
    _waiting: asyncio.Queue[Want | Shares] = field(default_factory=lambda: asyncio.Queue(_MOST))

    def say(self, record: Want | Shares) -> None:
        """Let a record be written, in its turn."""
        if self._waiting.full():
            self._waiting.get_nowait()
        self._waiting.put_nowait(record)

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            while True:
                record = await self._waiting.get()
                try:
                    producer = await self.producer.whole()
                    await producer.send(self.topic, 0, encode(record), key=control_key(record))
                except KafkaTrouble as error:
                    self.log.warning("control_write_failed", reason=str(error))
        finally:
            await self.producer.close()
