"""The scheduler's memory in mail.state: read back before a worker runs, written in the transaction of what it decided.

Restoring reads the partition from its start to the end that was taken after the fence: the older owner can write nothing more, so what
is read is all that was committed. The last record of a key counts; one without a value says that the delivery ended.
"""

from collections.abc import Iterator, Mapping

from services.scheduler.policy.decisions import Decisions
from services.scheduler.policy.ledger import Ledger
from shared.kafka.cluster import Cluster
from shared.records.codec import Unreadable, encode
from shared.records.state import (
    META_KEY,
    STATE,
    Meta,
    delivery_key,
    domain_key,
    moved_key,
    order_key,
    parked_key,
    state_key,
)

_POLL_MS = 200


class StateUnreadable(Exception):
    """mail.state holds a record that this version cannot read: nobody may decide on half a memory."""


async def restore(cluster: Cluster, topic: str, partition: int, ledger: Ledger) -> Meta:
    """Fill ``ledger`` from mail.state and give the positions of the inputs; the partition must be fenced before.

    Raises StateUnreadable: a newer version wrote the state, or it is damaged.
    """
    here = (topic, partition)
    end = (await cluster.end_offsets([here]))[here]
    latest: dict[bytes, bytes] = {}
    reader = await cluster.reader({here: "start"})
    try:
        while reader.position(here) < end:
            for record in await reader.poll(max_records=5000, wait_ms=_POLL_MS):
                key = record.key or b""
                if record.value is None:
                    latest.pop(key, None)
                else:
                    latest[key] = record.value
    finally:
        await reader.stop()
    meta = Meta()
    for key, value in latest.items():
        state = STATE.decode(value)
        if isinstance(state, Unreadable):
            raise StateUnreadable(f"{topic}/{partition} key {key!r}: {state.reason}")
        ledger.restore(state)
        if isinstance(state, Meta):
            meta = state
    ledger.restored()
    return meta


def writes(
    decided: Decisions, now_ns: int, positions: Mapping[str, int]
) -> Iterator[tuple[bytes, bytes | None]]:
    """Give the (key, value) records of mail.state that make ``decided`` last."""
    for id_, state in decided.deliveries.items():
        yield delivery_key(id_), None if state is None else encode(state)
    for pair in decided.pairs:
        yield state_key(pair), encode(pair)
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
                configuration=decided.configuration,
                positions=dict(positions),
            )
        ),
    )
