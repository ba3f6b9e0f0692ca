"""writes: what one draft or refusal puts on Kafka. Pure: everything is encoded and measured before a transaction begins.

A stored body's offset is known only once it was sent, inside the transaction: its deliveries are finished there, and are so small that
their size needs no check.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from services.ingest.intake import LARGEST_BYTES, Draft, Duplicate, Refusal, Stray
from services.ingest.keys import Taken
from services.ingest.problem import Problem
from services.ingest.route import Resolved, Routed, route
from services.ingest.validate import Recipient, RefusedRecipient
from shared.records.body import Body, BodyRef
from shared.records.codec import encode
from shared.records.delivery import Delivery
from shared.records.event import Event
from shared.records.key import Key
from shared.records.lanemap import LaneMap
from shared.records.rejected import KEEP_BYTES, Rejected
from shared.records.times import rfc3339
from shared.records.topics import Topics
from shared.runtime.settings import Settings

_SHOWN: Final = 1000
_SHOWN_ADDRESS: Final = 320


#: A header of what was forwarded: when Kafka took it, ms since the epoch.
STRAYED: Final = "postyard-strayed"


#: A round has one time.
_time: Final = lru_cache(maxsize=8)(rfc3339)


class Write(NamedTuple):
    """One record."""

    topic: str
    partition: int
    value: bytes
    key: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(slots=True)
class Stored:
    """A body for mail.bodies, and the deliveries that will refer to it."""

    body: Write
    size_bytes: int
    #: Of the deliveries.
    topic: str
    deliveries: list[tuple[int, Delivery]] = field(default_factory=list)

    def referring(self, offset: int) -> list[Write]:
        """Finish the deliveries: the body lies at ``offset``."""
        ref = BodyRef(partition=self.body.partition, offset=offset, size_bytes=self.size_bytes)
        return [
            Write(
                self.topic,
                partition,
                encode(msgspec.structs.replace(delivery, body=ref)),
                delivery.id.encode(),
            )
            for partition, delivery in self.deliveries
        ]


@dataclass(slots=True)
class Writes:
    """What belongs to one submission."""

    records: list[Write] = field(default_factory=list)
    stored: Stored | None = None


@dataclass(frozen=True, slots=True)
class Writer:
    """Encode for one ingest partition."""

    settings: Settings
    topics: Topics
    partition: int

    def accepted(
        self, draft: Draft, lanes: LaneMap, resolved: Mapping[str, Resolved], now_ns: int
    ) -> Writes | Problem:
        """Write one delivery and one event for each recipient; a record that Kafka would refuse is a problem."""
        found, time = Writes(), _time(now_ns)
        if draft.stored(self.settings.ingest.inline_max):
            found.stored = self._body(draft)
        smarthost = self.settings.smarthost(draft.envelope.pool)
        deliveries = self.topics.deliveries(draft.envelope.class_)
        for recipient in draft.envelope.recipients:
            domain = recipient.address.domain
            group = lanes.group(draft.envelope.pool, str(recipient.address))
            routed = route(lanes, domain, resolved.get(domain), smarthost, group)
            delivery = _delivery(draft, recipient, routed, lanes.version, now_ns)
            key = delivery.id.encode()
            if found.stored is not None:
                found.stored.deliveries.append((routed.partition, delivery))
            else:
                value = encode(delivery, draft.message.data)
                found.records.append(Write(deliveries, routed.partition, value, key))
            event = encode(_accepted(draft, delivery, time))
            # Where the scheduler will say more about it: so its events keep their order.
            found.records.append(Write(self.topics.events, routed.partition, event, key))
        for refused in draft.envelope.refused:
            id_ = draft.source.delivery(refused.index)
            event = encode(_refused(draft, id_, refused, time))
            found.records.append(Write(self.topics.events, self.partition, event, id_.encode()))
        return _measured(found)

    def _body(self, draft: Draft) -> Stored:
        data = draft.message.data
        body = Body(
            submission=draft.id,
            tenant=draft.envelope.tenant.name,
            size_bytes=len(data),
        )
        key = draft.token.encode()
        write = Write(self.topics.bodies, self.partition, encode(body, data), key)
        return Stored(write, len(data), self.topics.deliveries(draft.envelope.class_))

    def taken(self, key: str, taken: Taken) -> Write:
        """Write that ``taken`` was accepted under ``key``."""
        record = Key(class_=taken.class_, offset=taken.offset, fingerprint=taken.fingerprint.hex())
        return Write(self.topics.keys, self.partition, encode(record), key.encode())

    def duplicate(self, duplicate: Duplicate, now_ns: int) -> Writes:
        """Say on mail.events that nothing comes of it, and why."""
        submission, name = duplicate.submission, duplicate.submission.id or ""
        event = Event(
            type="duplicate",
            final=False,
            time=_time(now_ns),
            submission=name,
            tenant=submission.tenant,
            class_=duplicate.source.class_,
            from_=submission.from_,
            stream=submission.stream,
            tags=submission.tags,
            reason=f"accepted before: {duplicate.earlier}",
        )
        return Writes([Write(self.topics.events, self.partition, encode(event), name.encode())])

    def forwarded(self, stray: Stray, value: bytes, key: bytes | None) -> Writes:
        """Write the record to the partition of its key, as it is, and when Kafka took it."""
        taken = str(stray.source.timestamp_ms).encode()
        headers = [(STRAYED, taken)]
        return Writes([Write(stray.source.topic, stray.partition, value, key, headers)])

    def rejected(self, refusal: Refusal, value: bytes | None, now_ns: int) -> Writes:
        """Write the record's beginning to mail.rejected, and say it on mail.events where somebody can be told."""
        source, time = refusal.source, _time(now_ns)
        detail = "; ".join(map(str, refusal.problems))[:_SHOWN]
        line = Rejected(
            time=time,
            topic=source.topic,
            partition=source.partition,
            offset=source.offset,
            reason=refusal.reason,
            detail=detail,
            field=refusal.problems[0].field if refusal.problems else "",
            size_bytes=len(value or b""),
        )
        key = source.submission.encode()
        found = Writes(
            [
                Write(
                    self.topics.rejected,
                    self.partition,
                    encode(line, (value or b"")[:KEEP_BYTES]),
                    key,
                )
            ]
        )
        found.records += [
            Write(
                self.topics.events,
                self.partition,
                encode(event),
                (event.delivery or event.submission).encode(),
            )
            for event in _rejections(refusal, detail, time)
        ]
        return found


def _measured(writes: Writes) -> Writes | Problem:
    records = writes.records if writes.stored is None else [*writes.records, writes.stored.body]
    for record in records:
        if len(record.value) > LARGEST_BYTES:
            rule = f"would be a record of {len(record.value)} bytes on {record.topic}"
            return Problem("message", rule, too_large=True)
    return writes


def _delivery(
    draft: Draft, recipient: Recipient, routed: Routed, version: int, now_ns: int
) -> Delivery:
    envelope, message = draft.envelope, draft.message
    path = envelope.return_path
    from_ = "" if path is None else str(path)
    return Delivery(
        id=draft.source.delivery(recipient.index),
        submission=draft.id,
        tenant=envelope.tenant.name,
        class_=envelope.class_,
        from_=from_,
        return_path=from_,
        to=str(recipient.address),
        domain=recipient.address.domain,
        provider=routed.provider,
        site=routed.site,
        pool=envelope.pool,
        map=version,
        accepted_ns=now_ns,
        # What waited for ingest is due now, not since then: its age here begins here.
        not_before_ns=max(now_ns, envelope.life.not_before_ns),
        expires_ns=envelope.life.expires_ns,
        size_bytes=len(message.data),
        header_domain=message.header_domain,
        stream=draft.submission.stream,
        tags=draft.submission.tags,
        prepend=draft.prepend(recipient.index),
        eight_bit=message.eight_bit,
        smtputf8=message.smtputf8
        or recipient.address.smtputf8
        or (path is not None and path.smtputf8),
    )


def _accepted(draft: Draft, delivery: Delivery, time: str) -> Event:
    return Event(
        type="accepted",
        final=False,
        time=time,
        submission=draft.id,
        tenant=delivery.tenant,
        class_=delivery.class_,
        delivery=delivery.id,
        to=delivery.to,
        from_=delivery.from_,
        provider=delivery.provider,
        site=delivery.site,
        pool=delivery.pool,
        stream=delivery.stream,
        tags=delivery.tags,
        warnings=draft.warnings,
    )


def _refused(draft: Draft, id_: str, refused: RefusedRecipient, time: str) -> Event:
    return Event(
        type="rejected",
        final=True,
        time=time,
        submission=draft.id,
        tenant=draft.envelope.tenant.name,
        class_=draft.envelope.class_,
        delivery=id_,
        to=refused.text[:_SHOWN_ADDRESS],
        stream=draft.submission.stream,
        tags=draft.submission.tags,
        category="invalid",
        reason=refused.problem.rule,
        field=refused.problem.field,
    )


def _rejections(refusal: Refusal, detail: str, time: str) -> list[Event]:
    submission, source = refusal.submission, refusal.source
    if submission is None:
        return []
    # What was refused may be refused for its size: nothing of it is repeated unbounded. And what would take another's name has none of
    # its own: who hears of that name hears of the other.
    id_ = "" if refusal.reason == "conflict" else submission.id
    name = id_ if id_ and len(id_) <= _SHOWN_ADDRESS else None
    whole = Event(
        type="rejected",
        final=True,
        time=time,
        submission=name or source.submission,
        tenant=submission.tenant[:_SHOWN_ADDRESS],
        class_=source.class_,
        from_=submission.from_[:_SHOWN_ADDRESS],
        stream=submission.stream[:_SHOWN_ADDRESS],
        category=refusal.reason,
        reason=detail,
        field=refusal.problems[0].field,
    )
    if not refusal.refused:
        return [whole]
    return [
        msgspec.structs.replace(
            whole,
            delivery=source.delivery(one.index),
            to=one.text[:_SHOWN_ADDRESS],
            reason=one.problem.rule,
            field=one.problem.field,
        )
        for one in refusal.refused
    ]
