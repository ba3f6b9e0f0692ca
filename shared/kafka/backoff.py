"""The waits of a transaction, shortened: the one place where aiokafka's own workings are changed.

The markers of the transaction before are written after its commit has returned. Until then the broker answers each request of the next
one with "not yet": to the first partition or the offsets that are added, and, since it looks at produce requests too (KIP-890), to those
as "not enough replicas". aiokafka then waits 20 ms, a constant, or ``retry_backoff_ms``: the greater part of a round. A short
``retry_backoff_ms`` would help, but is also the pause between two tries while Kafka is away: a storm of tries and of log lines.

So the sender of a transactor gets handlers that ask again soon *where the broker has answered*. Each method here is the sender's own of
that name but for the handler.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import CoordinationType
from aiokafka.errors import NotEnoughReplicasError
from aiokafka.producer.sender import (
    AddOffsetsToTxnHandler,
    AddPartitionsToTxnHandler,
    SendProduceReqHandler,
)

_SOON_S: Final = 0.002
#: After so many tries of a batch it is no matter of moments: replicas are missing, and no storm of requests brings them back.
_FEW: Final = 25


class _AddPartitions(AddPartitionsToTxnHandler):  # type: ignore[misc]
    def handle_response(self, resp: Any) -> float | None:
        return _soon(super().handle_response(resp))


class _AddOffsets(AddOffsetsToTxnHandler):  # type: ignore[misc]
    def handle_response(self, resp: Any) -> float | None:
        return _soon(super().handle_response(resp))


class _Produce(SendProduceReqHandler):  # type: ignore[misc]
    def handle_response(self, response: Any) -> None:
        tried = max((batch.retry_count for batch in self._batches.values()), default=0)
        if tried <= _FEW:
            # What is sent again because of this answer is sent again after this wait.
            self._default_backoff = _SOON_S
        topics = [
            (topic, [answer for answer in answers if not self._is_early(topic, answer)])
            for topic, answers in response.topics
        ]
        super().handle_response(SimpleNamespace(API_VERSION=response.API_VERSION, topics=topics))

    def _is_early(self, topic: str, answer: Sequence[Any]) -> bool:
        """Take a "not yet" as such: it is no warning to anybody that replicas are missing, unless it lasts."""
        partition, code = answer[:2]
        batch = self._batches.get(TopicPartition(topic, partition))
        if code != NotEnoughReplicasError.errno or batch is None or batch.retry_count > _FEW:
            return False
        self._to_reenqueue.append(batch)
        return True


def _soon(wait_s: float | None) -> float | None:
    return None if wait_s is None else min(wait_s, _SOON_S)


def shorten(producer: AIOKafkaProducer) -> None:
    """Let a transactional producer that was started ask again soon."""
    sender = producer._sender  # noqa: SLF001

    async def coordinator() -> Any:
        return await sender._find_coordinator(  # noqa: SLF001
            CoordinationType.TRANSACTION,
            sender._txn_manager.transactional_id,  # noqa: SLF001
        )

    async def add_partitions(partitions: Any) -> Any:
        node = await coordinator()
        return await _AddPartitions(sender, partitions).do(node)

    async def add_offsets(group: str) -> Any:
        node = await coordinator()
        return await _AddOffsets(sender, group).do(node)

    async def produce(node: int, batches: Any) -> None:
        await _Produce(sender, batches).do(node)
        sender._in_flight.remove(node)  # noqa: SLF001
        for tp in batches:
            sender._muted_partitions.remove(tp)  # noqa: SLF001

    sender._do_add_partitions_to_txn = add_partitions  # noqa: SLF001
    sender._do_add_offsets_to_txn = add_offsets  # noqa: SLF001
    sender._send_produce_req = produce  # noqa: SLF001
