"""Records at known offsets, fetched from wherever they lie in a long log, many side by side over one connection.

A consumer reads on: sent from place to place it fetches what lies behind the wanted record, and makes an object of each record that it
passes. Here a request asks for one offset, and the answer is one batch of the log, the smallest thing that the broker gives out; where the
wanted lie close together it asks for a longer piece. Of what comes, the rest is only counted past.

Offsets are those of committed records, read before, so nobody's aborted transaction can be among them. A broker that is away, or no longer
leads the partition, is asked again for a while.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, NoError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from shared.kafka.errors import THEIRS, KafkaUnavailable, translate

#: Requests under way at a time: the broker looks one up while another's answer is unpacked.
_SIDE_BY_SIDE: Final = 4
#: Where so many wanted ones lie among so few records, a longer piece is fetched at a time.
_DENSE: Final = 16
_AMONG: Final = 400
_PIECE_BYTES: Final = 1 << 20
#: The broker gives the batch with the wanted offset, however small the bound.
_ONE_BATCH_BYTES: Final = 1
_PATIENCE_S: Final = 30.0
_AGAIN_S: Final = 0.1
_WAIT_MS: Final = 50
_READ_COMMITTED: Final = 1

#: offset -> value.
Found = dict[int, bytes]


class Picker:
    """Fetch from any partition by offset."""

    def __init__(self, client: AIOKafkaClient) -> None:
        """``client`` is this picker's own, and started."""
        self._client = client

    async def pick(self, topic: str, partition: int, offsets: Iterable[int]) -> Found:
        """Give the values at ``offsets``; one that holds no record, or a tombstone, is left out.

        Raises OffsetOutOfRange (one was deleted), KafkaUnavailable and NotAllowed.
        """
        wanted = sorted(set(offsets))
        place, found = TopicPartition(topic, partition), Found()
        # Each walks through a stretch of its own, so that no two fetch the same batch but at the seams.
        each = max(_DENSE, -(-len(wanted) // _SIDE_BY_SIDE))
        walks = [wanted[at : at + each] for at in range(0, len(wanted), each)]
        try:
            async with asyncio.TaskGroup() as tasks:
                for walk in walks:
                    tasks.create_task(self._walk(place, walk, found))
        except ExceptionGroup as failed:
            # The first has ended the others.
            raise failed.exceptions[0] from failed
        return found

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _walk(self, place: TopicPartition, wanted: list[int], found: Found) -> None:
        at = 0
        while at < len(wanted):
            near = wanted[at : at + _DENSE]
            dense = len(near) == _DENSE and near[-1] - near[0] < _AMONG
            data = await self._fetch(place, near[0], _PIECE_BYTES if dense else _ONE_BATCH_BYTES)
            passed = _unpack(data, wanted, at, found)
            # What is not in a piece that should begin with it is not in the log.
            at = max(passed, at + 1)

    async def _fetch(self, place: TopicPartition, offset: int, max_bytes: int) -> bytes:
        """Give the piece of the log that begins with the batch of ``offset``."""
        last: BaseException = TimeoutError()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while True:
                    try:
                        data = await self._ask(place, offset, max_bytes)
                    except THEIRS as error:
                        last = translate(error)
                        retriable = isinstance(error, KafkaError) and error.retriable
                        if not retriable and not isinstance(last, KafkaUnavailable):
                            raise last from error
                        await asyncio.sleep(_AGAIN_S)
                        await self._client.force_metadata_update()
                        continue
                    if data:
                        return data
        except TimeoutError as error:
            raise translate(last) from error

    async def _ask(self, place: TopicPartition, offset: int, max_bytes: int) -> bytes:
        node = self._client.cluster.leader_for_partition(place)
        if node is None or node < 0:
            await self._client.add_topic(place.topic)
            node = self._client.cluster.leader_for_partition(place)
        if node is None or node < 0:
            raise KafkaError(f"nobody leads {place}") from ConnectionError()
        request = FetchRequest(
            _WAIT_MS,
            1,
            max_bytes,
            _READ_COMMITTED,
            [(place.topic, [(place.partition, offset, max_bytes)])],
        )
        response: Any = await self._client.send(node, request)
        ((_, ((_, code, _, *rest),)),) = response.topics
        error = for_code(code)
        if error is not NoError:
            raise error(f"{place} offset {offset}")
        return bytes(rest[-1] or b"")


def _unpack(data: bytes, wanted: list[int], at: int, found: Found) -> int:
    """Take what is wanted, from ``wanted[at]`` on, out of a piece of the log; gives how far in ``wanted`` the piece reaches."""
    records = MemoryRecords(data)
    while at < len(wanted) and records.has_next():
        batch = records.next_batch()
        if batch.next_offset <= wanted[at]:
            continue
        if batch.is_control_batch:
            at = bisect_left(wanted, batch.next_offset, at)
            continue
        if not batch.validate_crc():
            raise KafkaUnavailable(f"a batch at offset {batch.base_offset} came damaged")
        for record in batch:
            offset = record.offset
            if offset < wanted[at]:
                continue
            at = bisect_left(wanted, offset, at)
            if at < len(wanted) and wanted[at] == offset:
                if record.value is not None:
                    found[offset] = bytes(record.value)
                at += 1
            if at == len(wanted):
                break
        else:
            at = bisect_left(wanted, batch.next_offset, at)
    return at
