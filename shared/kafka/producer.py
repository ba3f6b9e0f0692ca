"""An idempotent producer, acks=all. One failed batch poisons it: the sequence of its records has a hole, so it sends no more."""

import asyncio
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from shared.kafka.errors import TOO_LARGE, ProducerBroken, RecordTooLarge, translate

# A poisoned aiokafka producer may wait for ever for batches that can no longer be sent.
_STOP_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Stamped:
    """Where an acknowledged record lies, and the stamp that the topic keeps."""

    offset: int
    timestamp_ms: int


class Producer:
    """Append records; the order of sending is kept in each partition."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        """``producer`` was started."""
        self._producer = producer
        self._broken: str | None = None

    @property
    def broken(self) -> bool:
        """Say whether it can no longer be used."""
        return self._broken is not None

    async def put(
        self, topic: str, partition: int, value: bytes | None, key: bytes | None = None
    ) -> "Sending":
        """Hand a record over, in order; the result is its acknowledgement.

        Raises ProducerBroken, and RecordTooLarge for what could never be sent (the producer stays whole: nothing was).
        """
        if self._broken is not None:
            raise ProducerBroken(self._broken)
        try:
            future = await self._producer.send(topic, value, key=key, partition=partition)
        except TOO_LARGE as error:
            raise RecordTooLarge(str(error)) from error
        except KafkaError as error:
            raise self._break(error) from error
        return Sending(self, future)

    async def send(
        self, topic: str, partition: int, value: bytes | None, key: bytes | None = None
    ) -> Stamped:
        """Append a record and wait for its acknowledgement; raises ProducerBroken."""
        return await (await self.put(topic, partition, value, key)).done()

    def _break(self, error: BaseException) -> ProducerBroken:
        self._broken = self._broken or f"{type(error).__name__}: {error}"
        return ProducerBroken(self._broken)

    async def stop(self) -> None:
        """Send what is left, where that is still possible, and close."""
        try:
            async with asyncio.timeout(_STOP_S):
                await self._producer.stop()
        except (TimeoutError, KafkaError):
            self._broken = self._broken or "stopped"


@dataclass(slots=True)
class Sending:
    """A record on its way."""

    producer: Producer
    future: "asyncio.Future[object]"

    async def done(self) -> Stamped:
        """Wait for the acknowledgement; raises ProducerBroken."""
        try:
            # Shielded: the record is on its way whoever waits for it.
            meta = await asyncio.shield(self.future)
        except KafkaError as error:
            translated = translate(error)
            if isinstance(translated, RecordTooLarge):
                raise translated from error
            raise self.producer._break(error) from error  # noqa: SLF001
        return Stamped(int(meta.offset), int(meta.timestamp))  # type: ignore[attr-defined]
