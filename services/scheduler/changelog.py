"""The scheduler's memory in mail.state: read back before a worker runs, written in the transaction of what it decided.

Restoring reads the partition from its start to the end that was taken after the fence: the older owner can write nothing more, so what
is read is all that was committed. The last record of a key counts; one without a value says that the delivery ended.

A million deliveries are half a minute's work, and the process has other partitions and a session to keep: so the loop has its turn
after each portion. What has been taken in is let go of at once, for the log's form of it is larger than the memory that it becomes.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final

from services.scheduler.policy.decisions import Decisions
from services.scheduler.policy.ledger import Ledger
from shared.kafka.cluster import Cluster
from shared.records.codec import Newer, NewerRecord, Unreadable, encode
from shared.records.state import (
    DELIVERY_KEYS,
    META_KEY,
    STATE,
    Meta,
    State,
    delivery_key,
    domain_key,
    moved_key,
    order_key,
    pair_key,
    parked_key,
    state_key,
)

_POLL_MS: Final = 200
#: Records read, or taken in, between two turns of the loop: some 30 ms.
_PORTION: Final = 1_000


class StateUnreadable(Exception):
    """mail.state holds a record that this version cannot read: nobody may decide on half a memory."""


async def restore(cluster: Cluster, topic: str, partition: int, ledger: Ledger) -> Meta:
    """Fill ``ledger`` from mail.state and give the positions of the inputs; the partition must be fenced before.

    Raises NewerRecord: a newer version wrote the state; StateUnreadable: it is damaged.
    """
    latest = await _latest(cluster, topic, partition)
    meta = Meta()
    deliveries = []
    for key in list(latest):
        if key.startswith(DELIVERY_KEYS):
            deliveries.append(key)
            continue
        state = _decoded(key, latest.pop(key))
        ledger.restore(state)
        if isinstance(state, Meta):
            meta = state
    # Lanes and orders are known: each delivery goes where it belongs at once.
    ledger.restored()
    for at, key in enumerate(deliveries, start=1):
        ledger.restore(_decoded(key, latest.pop(key)))
        if not at % _PORTION:
            await asyncio.sleep(0)
    return meta


async def _latest(cluster: Cluster, topic: str, partition: int) -> dict[bytes, bytes]:
    """Read the last value of each key that has one."""
    here = (topic, partition)
    end = (await cluster.end_offsets([here]))[here]
    latest: dict[bytes, bytes] = {}
    reader = await cluster.reader({here: "start"})
    try:
        while reader.position(here) < end:
            for record in await reader.poll(max_records=_PORTION, wait_ms=_POLL_MS):
                key = record.key or b""
                if record.value is None:
                    latest.pop(key, None)
                else:
                    latest[key] = record.value
            await asyncio.sleep(0)
    finally:
        await reader.stop()
    return latest


def _decoded(key: bytes, value: bytes) -> State:
    state = STATE.decode(value)
    if isinstance(state, Newer):
        raise NewerRecord(f"mail.state, key {key!r}: {state.reason}")
    if isinstance(state, Unreadable):
        raise StateUnreadable(f"mail.state, key {key!r}: {state.reason}")
    return state


def writes(
    decided: Decisions, now_ns: int, positions: Mapping[str, int]
) -> Iterator[tuple[bytes, bytes | None]]:
    """Give the (key, value) records of mail.state that make ``decided`` last."""
    for id_, state in decided.deliveries.items():
        yield delivery_key(id_), None if state is None else encode(state)
    for pair in decided.pairs:
        yield state_key(pair), encode(pair)
    for key, slot in decided.forgotten:
        yield pair_key(key, slot), None
    for total in decided.totals:
        yield state_key(total), encode(total)
    for which, domain in decided.domains.items():
        yield domain_key(*which), None if domain is None else encode(domain)
    for lane in decided.lanes:
        yield state_key(lane), encode(lane)
    for id_, moved in decided.moved.items():
        yield moved_key(id_), None if moved is None else encode(moved)
    for unit, parked in decided.parked.items():
        yield parked_key(*unit), None if parked is None else encode(parked)
    for offset, order in decided.orders.items():
        yield order_key(offset), None if order is None else encode(order)
    yield (
        META_KEY,
        encode(
            Meta(
                now_ns=now_ns,
                groups=decided.groups,
                divided_ns=decided.divided_ns,
                configuration=decided.configuration,
                positions=dict(positions),
            )
        ),
    )
