"""From a delivery's record in the log to the records that are made of it: pure; the message stays the bytes that it was."""

import msgspec

from services.scheduler.policy.decisions import Forwarded, Granted
from shared.records.codec import encode, split
from shared.records.delivery import DELIVERY, Delivery
from shared.records.state import DeliveryState


def grant_value(granted: Granted, value: bytes) -> bytes:
    """Join the grant and the message; what only the delivery's record knows is added to the grant."""
    delivery, body = _read(granted.delivery, value)
    grant = msgspec.structs.replace(
        granted.grant,
        header_domain=delivery.header_domain,
        size_bytes=delivery.size_bytes,
        prepend=delivery.prepend,
        body=delivery.body,
        eight_bit=delivery.eight_bit,
        smtputf8=delivery.smtputf8,
    )
    return encode(grant, body)


def straggler_value(state: DeliveryState, value: bytes) -> bytes:
    """Write the record anew, for the same partition; a known id takes the new offset, an unknown one is dropped."""
    delivery, body = _read(state, value)
    return encode(msgspec.structs.replace(delivery, again=True), body)


def forwarded_value(forwarded: Forwarded, value: bytes) -> bytes:
    """Write the record for the partition that decides about it now, with what it has been through here."""
    state = forwarded.delivery
    delivery, body = _read(state, value)
    moved = msgspec.structs.replace(
        delivery,
        site=state.site,
        provider=state.provider,
        pool=state.pool,
        map=forwarded.map,
        n=state.n,
        steps=state.steps,
        unknowns=state.unknowns,
        refusals=state.refusals,
        pinned=state.pinned,
        held=state.held,
        ordered=state.ordered,
        back_ns=state.back_ns,
        # An older version knows this one alone; what the platform asked for is all that an order to hurry must keep to.
        not_before_ns=max(state.not_before_ns, state.due_ns),
        first_ns=state.not_before_ns if state.not_before_ns < state.due_ns else 0,
        hop=state.hop + 1,
        again=False,
    )
    return encode(moved, body)


def _read(state: DeliveryState, value: bytes) -> tuple[Delivery, bytes]:
    line, body = split(value)
    delivery = DELIVERY.decode_line(line)
    if not isinstance(delivery, Delivery):
        raise TypeError(f"{state.id}: the record at offset {state.offset} is no delivery")
    return delivery, body
