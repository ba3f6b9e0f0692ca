"""One partition worker's transactions: a round is begun, written, every future checked, committed. Or it never happened.

aiokafka commits although a send in the transaction failed, so nothing is committed before each record's own future said yes. After one
failure, or any abort, the transactor is dead: its owner fences anew and reads its state back, since memory may be ahead of the log.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.producer import sender as aiokafka_sender

from shared.kafka.errors import Fenced, RecordTooLarge, RoundFailed, translate

# aiokafka waits 20 ms when the markers of the transaction before are still being written; that is the greater part of a round.
# A constant of its module, and there is no parameter: lowered here, in this one place, for the process.
aiokafka_sender.BACKOFF_OVERRIDE = 0.003
# A commit that takes longer than the broker's transaction time-out was aborted there anyhow.
_COMMIT_S: Final = 30.0
_STOP_S: Final = 5.0


class Round:
    """What goes into one transaction."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        """The transaction was begun."""
        self._producer = producer
        self.futures: list[asyncio.Future[object]] = []
        self.offsets: dict[str, dict[TopicPartition, int]] = {}

    async def send(
        self, topic: str, partition: int, value: bytes | None, key: bytes | None = None
    ) -> None:
        """Add a record."""
        self.futures.append(await self._producer.send(topic, value, key=key, partition=partition))

    async def send_and_place(
        self, topic: str, partition: int, value: bytes, key: bytes | None = None
    ) -> int:
        """Add a record and wait for its offset, which only counts once the round is committed."""
        future = await self._producer.send(topic, value, key=key, partition=partition)
        self.futures.append(future)
        return int((await future).offset)

    def commit_offsets(self, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
        """Let the group's offsets (the next ones to read) be part of the round."""
        self.offsets.setdefault(group, {}).update(
            {TopicPartition(*place): at for place, at in offsets.items()}
        )


class Transactor:
    """The transactions of one transactional id, which fenced every older owner when it started."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        """``producer`` was started."""
        self._producer = producer
        self._dead: str | None = None

    @property
    def dead(self) -> bool:
        """Say whether a round failed: no other may follow."""
        return self._dead is not None

    @asynccontextmanager
    async def round(self) -> AsyncIterator[Round]:
        """Open a round; leaving the block commits it. Raises Fenced or RoundFailed; what the block raises aborts it."""
        if self._dead is not None:
            raise RoundFailed(RuntimeError(f"this transactor is dead: {self._dead}"))
        opened: Round | None = None
        try:
            await self._producer.begin_transaction()
            opened = Round(self._producer)
            yield opened
            async with asyncio.timeout(_COMMIT_S):
                for group, offsets in opened.offsets.items():
                    await self._producer.send_offsets_to_transaction(offsets, group)
                for future in opened.futures:
                    await future
                await self._producer.commit_transaction()
        except BaseException as error:
            self._dead = f"{type(error).__name__}: {error}"
            for future in opened.futures if opened is not None else ():
                # Each future of a failed round fails too; the first has said why.
                future.add_done_callback(lambda done: done.cancelled() or done.exception())
            translated = translate(error)
            if isinstance(translated, Fenced):
                raise translated from error
            await self._abort()
            if isinstance(error, KafkaError | TimeoutError):
                too_large = isinstance(translated, RecordTooLarge)
                raise RoundFailed(translated, too_large=too_large) from error
            raise

    async def _abort(self) -> None:
        """Abort at the broker, so that readers need not wait for the time-out; best effort."""
        try:
            async with asyncio.timeout(_STOP_S):
                await self._producer.abort_transaction()
        except (KafkaError, TimeoutError, AssertionError):
            # The broker aborts it after transaction_timeout_ms, and the next owner's start does so at once.
            return

    async def stop(self) -> None:
        """Close; an open round was aborted."""
        try:
            async with asyncio.timeout(_STOP_S):
                await self._producer.stop()
        except (KafkaError, TimeoutError):
            return
