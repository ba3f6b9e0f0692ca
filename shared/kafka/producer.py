"""An idempotent producer, acks=all. One failed batch poisons it: the sequence of its records has a hole, so it sends no more.

With the first failure everything that is not acknowledged fails with ProducerBroken. Some of it may be in the log all the same: who sends
it again through a new producer sends it at least once. While Kafka is merely away nothing fails: it is sent when Kafka is back, once and
in order.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import UnknownTopicOrPartitionError

from shared.kafka.closing import POLITE_S, close_producer
from shared.kafka.errors import (
    THEIRS,
    KafkaUnavailable,
    ProducerBroken,
    RecordTooLarge,
    TopicProblem,
    translate,
)

_STOPPED: Final = "stopped"


@dataclass(frozen=True, slots=True)
class Stamped:
    """Where an acknowledged record lies, and the stamp that the topic keeps."""

    offset: int
    timestamp_ms: int


#: What becomes of a record that was handed over.
Acknowledged = Stamped | ProducerBroken | RecordTooLarge
Heard = Callable[[Acknowledged], None]


class Producer:
    """Append records; the order of sending is kept in each partition."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        """``producer`` was started."""
        self._producer = producer
        self._broken: str | None = None
        self._open: set[_Waiting] = set()

    def __repr__(self) -> str:
        """Say how it is and what it waits for."""
        return f"<Producer [{self._broken or 'whole'} | {len(self._open)} not acknowledged]>"

    @property
    def broken(self) -> bool:
        """Say whether it can no longer be used."""
        return self._broken is not None

    async def append_batch(
        self, topic: str, partition: int, values: Sequence[bytes], then: Heard
    ) -> int:
        """Hand over as many of ``values`` as one batch takes, at least one, and give how many.

        ``then`` hears once what becomes of all of them, with the offset of the first. Records of their own would cost a future, a look-up
        and a task's turn each. Where the partition's last batch has not left yet it waits. Raises what ``put`` does.
        """
        batch = self._producer.create_batch()
        # The first record always fits, whatever its size.
        taken = 0
        for value in values:
            if batch.append(timestamp=None, key=None, value=value) is None:
                break
            taken += 1
        send = partial(self._producer.send_batch, batch, topic, partition=partition)
        await self._sent(f"{topic}/{partition}", send, then)
        return taken

    async def _sent(
        self, where: str, send: Callable[[], Awaitable["asyncio.Future[Any]"]], then: Heard
    ) -> None:
        if self._broken is not None:
            raise ProducerBroken(self._broken)
        try:
            theirs = await send()
        except UnknownTopicOrPartitionError as error:
            # After a long wait, for a topic of which this client has never heard: it may not be there, or Kafka may be away.
            raise KafkaUnavailable(f"no word of {where}") from error
        except THEIRS as error:
            ours = translate(error)
            if isinstance(ours, RecordTooLarge):
                raise ours from error
            raise self._break(error) from error
        except AssertionError as error:
            # All that aiokafka says of a partition that is not there.
            raise TopicProblem(f"{where}: {error}") from error
        waiting = _Waiting(then)
        self._open.add(waiting)
        theirs.add_done_callback(partial(self._acknowledged, waiting))

    async def put(
        self, topic: str, partition: int, value: bytes | None, key: bytes | None = None
    ) -> "Sending":
        """Hand a record over, in order; the result is its acknowledgement.

        Raises ProducerBroken; and, with nothing sent and the producer still whole, RecordTooLarge, TopicProblem or KafkaUnavailable.
        """
        future: asyncio.Future[Stamped] = asyncio.get_running_loop().create_future()
        send = partial(self._producer.send, topic, value, key=key, partition=partition)
        await self._sent(f"{topic}/{partition}", send, partial(_settle, future))
        return Sending(future)

    async def send(
        self, topic: str, partition: int, value: bytes | None, key: bytes | None = None
    ) -> Stamped:
        """Append a record and wait for its acknowledgement; raises what ``put`` and ``done`` raise."""
        return await (await self.put(topic, partition, value, key)).done()

    def _acknowledged(self, waiting: "_Waiting", theirs: "asyncio.Future[Any]") -> None:
        self._open.discard(waiting)
        error = theirs.exception()
        if error is None:
            meta = theirs.result()
            waiting.hear(Stamped(meta.offset, meta.timestamp))
            return
        translated = translate(error)
        if isinstance(translated, RecordTooLarge):
            # The culprit is told so: sent again it would break the next producer as well.
            waiting.hear(translated)
        waiting.hear(self._break(error))

    def _break(self, error: BaseException | str) -> ProducerBroken:
        if self._broken is None:
            self._broken = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        waiting, self._open = self._open, set()
        for each in waiting:
            each.hear(ProducerBroken(self._broken))
        return ProducerBroken(self._broken)

    async def stop(self) -> None:
        """Send what is left, where that is still possible, and close."""
        await close_producer(self._producer, polite_s=0 if self.broken else POLITE_S)
        self._break(_STOPPED)


class _Waiting:
    """Who waits for the acknowledgement of a record, and hears of it once."""

    __slots__ = ("_then",)

    def __init__(self, then: Heard) -> None:
        self._then: Heard | None = then

    def hear(self, what: Acknowledged) -> None:
        then, self._then = self._then, None
        if then is not None:
            then(what)


def _settle(future: "asyncio.Future[Stamped]", what: Acknowledged) -> None:
    if future.done():
        return
    if isinstance(what, Stamped):
        future.set_result(what)
    else:
        future.set_exception(what)
        # Nobody need have asked.
        future.exception()


class Sending:
    """A record on its way."""

    __slots__ = ("_future",)

    def __init__(self, future: "asyncio.Future[Stamped]") -> None:
        """``future`` is its acknowledgement."""
        self._future = future

    async def done(self) -> Stamped:
        """Wait for the acknowledgement; raises ProducerBroken, or RecordTooLarge where it was this record."""
        # Shielded: the record is on its way whoever waits for it.
        return await asyncio.shield(self._future)
