"""One partition worker's transactions: a round is begun, written, every future checked, committed. Or it never happened.

aiokafka commits although a send in the transaction failed, so nothing is committed before the future of each batch said yes. After one
failure, or any abort, the transactor is dead: its owner fences anew and reads its state back, since memory may be ahead of the log.

A crash before the commit leaves an open transaction, which the next owner's start aborts, or the broker after ``transaction_timeout_ms``;
until then nobody reads past it. A crash after the commit was sent leaves a round that happened or not; the next owner's fence settles it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation

from shared.kafka.backoff import shorten
from shared.kafka.closing import close_producer, heard, hush
from shared.kafka.errors import (
    THEIRS,
    Fenced,
    RecordTooLarge,
    RoundFailed,
    TopicProblem,
    translate,
)
from shared.records.topics import MAX_RECORD_BYTES

# The broker aborts a transaction that is open for 10 s; a commit that takes this long was aborted there anyhow.
_COMMIT_S: Final = 15.0
_ABORT_S: Final = 5.0
# A request above the broker's socket.request.max.bytes (100 MiB) is not refused: the connection is cut, and the client tries for ever.
ROUND_BYTES: Final = 64 << 20
# The broker's ``max.message.bytes`` of every topic, less what a batch of one record adds.
_RECORD_BYTES: Final = MAX_RECORD_BYTES - 1_000


class Round:
    """What goes into one transaction."""

    __slots__ = ("_batches", "_bytes", "_producer", "failure", "futures", "group", "offsets")

    def __init__(self, producer: AIOKafkaProducer) -> None:
        """The transaction was begun."""
        self._producer = producer
        self._bytes = 0
        #: What is not handed over to the producer yet. Records of their own would cost it a future, a look-up and a task's turn each.
        self._batches: dict[tuple[str, int], Any] = {}
        #: Of each batch, and of each record that went by itself.
        self.futures: list[asyncio.Future[Any]] = []
        self.group = ""
        self.offsets: dict[TopicPartition, int] = {}
        #: Why it can no longer be committed, whatever its user makes of that.
        self.failure: Fenced | RoundFailed | None = None

    async def send(
        self,
        topic: str,
        partition: int,
        value: bytes | None,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Add a record; raises Fenced or RoundFailed, here or when the round is committed."""
        self._count(value, key)
        place = (topic, partition)
        batch = self._batches.get(place)
        said = list(headers)
        if (
            batch is None
            or batch.append(timestamp=None, key=key, value=value, headers=said) is None
        ):
            await self._hand_over(place)
            batch = self._batches[place] = self._producer.create_batch()
            # The first record always fits, whatever its size.
            batch.append(timestamp=None, key=key, value=value, headers=said)

    async def send_and_place(
        self, topic: str, partition: int, value: bytes, key: bytes | None = None
    ) -> int:
        """Add a record and wait for its offset, which only counts once the round is committed."""
        self._count(value, key)
        await self._hand_over((topic, partition))
        future = await self._sent(
            f"{topic}/{partition}",
            self._producer.send(topic, value, key=key, partition=partition),
        )
        try:
            return int((await future).offset)
        except THEIRS as error:
            raise self.fail(error) from error

    def _count(self, value: bytes | None, key: bytes | None) -> None:
        size = len(value or b"") + len(key or b"")
        if size > _RECORD_BYTES:
            raise self.fail(RecordTooLarge(f"a record of {size} bytes"))
        self._bytes += size
        if self._bytes > ROUND_BYTES:
            raise self.fail(RecordTooLarge(f"a round of more than {ROUND_BYTES} bytes"))

    async def _hand_over(self, place: tuple[str, int]) -> None:
        """Let the producer send what was added for ``place``, in its order."""
        batch = self._batches.pop(place, None)
        if batch is not None:
            topic, partition = place
            await self._sent(
                f"{topic}/{partition}",
                self._producer.send_batch(batch, topic, partition=partition),
            )

    async def _sent(
        self, where: str, sending: Awaitable["asyncio.Future[Any]"]
    ) -> "asyncio.Future[Any]":
        try:
            future = await sending
        except THEIRS as error:
            raise self.fail(error) from error
        except AssertionError as error:
            # All that aiokafka says of a partition that is not there.
            raise self.fail(TopicProblem(f"{where}: {error}")) from error
        self.futures.append(future)
        return future

    def commit_offsets(self, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
        """Let the group's offsets (the next ones to read) be part of the round; one group a round."""
        if self.group not in {"", group}:
            # aiokafka adds only the first group to the transaction.
            raise ValueError(f"the round commits offsets of {self.group}, not of {group}")
        self.group = group
        self.offsets.update({TopicPartition(*place): at for place, at in offsets.items()})

    def fail(self, error: BaseException) -> Fenced | RoundFailed:
        """Remember the first failure, and give what to raise."""
        if self.failure is None:
            self.failure = _failure(error, self._producer)
        return self.failure

    async def commit(self) -> None:
        """See to it that everything is there, then commit; raises Fenced or RoundFailed."""
        if self.failure is not None:
            raise self.failure
        try:
            async with asyncio.timeout(_COMMIT_S):
                for place in list(self._batches):
                    await self._hand_over(place)
                for future in self.futures:
                    await future
                if self.offsets:
                    # Not beside the records: while the broker adds the group to the transaction it refuses them, as "not enough replicas".
                    await self._producer.send_offsets_to_transaction(self.offsets, self.group)
                await self._producer.commit_transaction()
        except (*THEIRS, TimeoutError) as error:
            raise self.fail(error) from error


def _failure(error: BaseException, producer: AIOKafkaProducer) -> Fenced | RoundFailed:
    if isinstance(error, IllegalOperation):
        # It only says that the transaction is over; the task that ended with it knows why.
        sender = producer._sender.sender_task  # noqa: SLF001
        if sender is not None and sender.done() and not sender.cancelled():
            error = sender.exception() or error
    ours = translate(error)
    if isinstance(ours, Fenced):
        return ours
    return RoundFailed(ours, too_large=isinstance(ours, RecordTooLarge))


class Transactor:
    """The transactions of one transactional id, which fenced every older owner when it started."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        """``producer`` was started."""
        shorten(producer)
        self._producer = producer
        self._dead: str | None = None
        self._open = False

    def __repr__(self) -> str:
        """Name the id and the state."""
        transactional_id = self._producer._txn_manager.transactional_id  # noqa: SLF001
        state = f"dead: {self._dead}" if self._dead else "in a round" if self._open else "ready"
        return f"<Transactor {transactional_id} [{state}]>"

    @property
    def dead(self) -> bool:
        """Say whether a round failed: no other may follow."""
        return self._dead is not None

    @asynccontextmanager
    async def round(self) -> AsyncIterator[Round]:
        """Open a round; leaving the block commits it. Raises Fenced or RoundFailed; what the block raises aborts it."""
        if self._dead is not None:
            raise RoundFailed(RuntimeError(f"this transactor is dead: {self._dead}"))
        if self._open:
            raise RuntimeError("one round at a time")
        self._open = True
        opened = Round(self._producer)
        try:
            await self._begin(opened)
            yield opened
            await opened.commit()
        except BaseException as error:
            self._dead = f"{type(error).__name__}: {error}"
            for future in opened.futures:
                # Each future of a failed round fails too; the first has said why.
                future.add_done_callback(heard)
            hush(self._producer)
            if not isinstance(opened.failure, Fenced):
                await self._abort()
            raise
        finally:
            self._open = False

    async def _begin(self, opened: Round) -> None:
        try:
            await self._producer.begin_transaction()
        except (*THEIRS, AssertionError) as error:
            # Between two rounds the sender may have learned that it is fenced; begin_transaction then only asserts.
            raise opened.fail(IllegalOperation(str(error))) from error

    async def _abort(self) -> None:
        """Abort at the broker, so that readers need not wait for the time-out; best effort."""
        try:
            async with asyncio.timeout(_ABORT_S):
                await self._producer.abort_transaction()
        except (*THEIRS, TimeoutError, AssertionError):
            # Asserted where a commit is under way, or the sender has ended. The broker aborts what is open after
            # transaction_timeout_ms, and the next owner's start does so at once.
            return
        finally:
            # Aborting has made a new one to wait for.
            hush(self._producer)

    async def stop(self) -> None:
        """Close; a transactor that is dead, or in a round, sends nothing more."""
        await close_producer(self._producer, polite_s=0 if self._dead or self._open else _ABORT_S)
