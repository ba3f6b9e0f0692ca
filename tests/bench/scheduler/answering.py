"""Senders that answer at once: they own every slot, and each grant begins and is delivered as soon as it is read."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from shared.records.codec import Unreadable, encode
from shared.records.control import Claim, Heartbeat, control_key
from shared.records.grant import GRANT, Grant
from shared.records.outcome import Outcome, Reply, Started
from tests.bench.scheduler.log import PARTITIONS, SLOTS
from tests.support.stack import Stack

_BEAT_S: Final = 0.5
_REPLY: Final = Reply(code=250, text="2.0.0 OK", enhanced="2.0.0", stage="dot")
_BATCH: Final = 512 << 10


@dataclass(slots=True)
class Senders:
    """Of all slots of ``stack``."""

    stack: Stack
    grants: int = 0
    #: When the first and the last grant were read, by the monotonic clock.
    first_s: float = 0.0
    last_s: float = 0.0
    _epochs: dict[int, int] = field(default_factory=dict)

    async def run(self, grants: int) -> None:
        """Answer until so many grants were read."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.stack.kafka,
            acks="all",
            compression_type="zstd",
            max_batch_size=_BATCH,
        )
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.stack.kafka,
            enable_auto_commit=False,
            isolation_level="read_committed",
            max_partition_fetch_bytes=4 << 20,
        )
        async with producer, consumer:
            dispatch = [TopicPartition(self.stack.topics.dispatch, slot) for slot in range(SLOTS)]
            consumer.assign(dispatch)
            await consumer.seek_to_beginning(*dispatch)
            await self._claim(producer)
            beating = asyncio.create_task(self._beat(producer))
            try:
                while self.grants < grants:
                    for records in (await consumer.getmany(timeout_ms=100)).values():
                        await self._answer(producer, [record.value for record in records])
            finally:
                beating.cancel()

    async def _claim(self, producer: AIOKafkaProducer) -> None:
        for slot in range(SLOTS):
            claim = Claim(slot=slot, source=f"ip-{slot + 1}", process="bench", pod="bench")
            sent = await producer.send_and_wait(
                self.stack.topics.control, encode(claim), key=control_key(claim)
            )
            self._epochs[slot] = sent.offset

    async def _beat(self, producer: AIOKafkaProducer) -> None:
        while True:
            for slot, epoch in self._epochs.items():
                said = Heartbeat(
                    slot=slot,
                    epoch=epoch,
                    process="bench",
                    ready=True,
                    mono_ns=time.monotonic_ns(),
                    wall_ns=time.time_ns(),
                )
                topic, key = self.stack.topics.control, control_key(said)
                await producer.send(topic, encode(said), key=key)
            await asyncio.sleep(_BEAT_S)

    async def _answer(self, producer: AIOKafkaProducer, values: list[bytes]) -> None:
        batches: dict[int, Any] = {}
        for value in values:
            grant = GRANT.decode(value)
            assert not isinstance(grant, Unreadable), grant
            for said in _said(grant):
                batch = batches.get(grant.part)
                if batch is None:
                    batch = batches[grant.part] = producer.create_batch()
                while batch.append(key=None, value=said, timestamp=None) is None:
                    await producer.send_batch(
                        batch, self.stack.topics.outcomes, partition=grant.part
                    )
                    batch = batches[grant.part] = producer.create_batch()
        for part, batch in batches.items():
            assert part < PARTITIONS
            await producer.send_batch(batch, self.stack.topics.outcomes, partition=part)
        self.last_s = time.monotonic()
        if not self.grants:
            self.first_s = self.last_s
        self.grants += len(values)


def _said(grant: Grant) -> tuple[bytes, bytes]:
    id_, n, slot, epoch = grant.id, grant.n, grant.slot, grant.epoch
    started = Started(id=id_, n=n, slot=slot, epoch=epoch)
    outcome = Outcome(id=id_, n=n, slot=slot, epoch=epoch, result="delivered", reply=_REPLY)
    return encode(started), encode(outcome)
