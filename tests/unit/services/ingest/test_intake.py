"""From a record to a draft or a refusal; and what either writes."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.intake import Draft, Refusal, Source, Stray, read
from services.ingest.problem import Problem
from services.ingest.route import Resolved
from services.ingest.writes import Writer, Writes
from shared.records.body import BODY, Body, BodyRef
from shared.records.codec import split
from shared.records.delivery import DELIVERY, Delivery
from shared.records.event import EVENT, Event
from shared.records.lanemap import propose
from shared.records.rejected import KEEP_BYTES, REJECTED, Rejected
from shared.records.topics import Topics
from shared.runtime.settings import Pool, Settings
from shared.runtime.settings import Source as From
from shared.runtime.workings import Ingest
from tests.unit.services.ingest.making import NOW, settings

RAW = b"From: Ann <ann@acme.example>\r\nTo: x@b.example\r\nSubject: s\r\n\r\nbody\r\n"
TOPICS = Topics("p.")
LANES = propose(3, 8, ["gmail"], ["relay"])


def source(class_: str = "bulk", offset: int = 7) -> Source:
    return Source(f"p.mail.submissions.{class_}", 2, offset, NOW // 1_000_000, class_)


def line(**fields: Any) -> bytes:
    base = {"tenant": "acme", "from": "bounce@acme.example", "to": ["bob@b.example"]}
    return json.dumps(base | fields).encode()


def taken(
    class_: str = "bulk", *, raw: bytes = RAW, using: Settings | None = None, **fields: Any
) -> Draft | Refusal:
    value = line(**fields) + (b"\n" + raw if raw else b"")
    found = read(source(class_), value, using or settings(), NOW)
    assert not isinstance(found, Stray)
    return found


def draft(class_: str = "bulk", **fields: Any) -> Draft:
    found = taken(class_, **fields)
    assert isinstance(found, Draft), found
    return found


def refusal(class_: str = "bulk", **fields: Any) -> Refusal:
    found = taken(class_, **fields)
    assert isinstance(found, Refusal), found
    return found


# -- reading


def test_a_good_submission_becomes_a_draft() -> None:
    found = draft(id="order-7", stream="news", tags=["a"], to=["bob@b.example", "C@B.example"])
    assert found.id == "order-7"
    assert [str(r.address) for r in found.envelope.recipients] == ["bob@b.example", "C@b.example"]
    assert found.envelope.pool == "main"
    assert found.envelope.life.not_before_ns == NOW


def test_without_a_key_the_place_is_the_name() -> None:
    assert draft().id == "p.mail.submissions.bulk-2-7"


@pytest.mark.parametrize("stamp_ms", [-1, NOW // 1_000_000 + 5_000])
def test_what_has_no_stamp_or_one_that_is_ahead_came_now(stamp_ms: int) -> None:
    assert source()._replace(timestamp_ms=stamp_ms).came_ns(NOW) == NOW


def test_the_null_return_path_is_allowed() -> None:
    assert draft(**{"from": ""}).envelope.return_path is None
    assert draft(**{"from": "<>"}).envelope.return_path is None


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tenant": "nobody"}, "tenant"),
        ({"from": "bounce@other.example"}, "from"),
        ({"from": "bounce"}, "from"),
        ({"from": "<b@acme.example>"}, "from"),
        ({"to": []}, "to"),
        ({"to": ["x@b.example"] * 1001}, "to"),
        ({"to": ["x@b"]}, "to[0]"),
        ({"pool": "other"}, "pool"),
        ({"pool": "acme"}, "pool"),
        ({"id": ""}, "id"),
        ({"id": "x" * 201}, "id"),
        ({"id": "a\nb"}, "id"),
        ({"stream": "a\u2028b"}, "stream"),
        ({"tags": ["t"] * 21}, "tags"),
        ({"tags": ["ok", "x" * 101]}, "tags[1]"),
        ({"not_before": "soon"}, "not_before"),
        ({"expires": "never"}, "expires"),
        ({"raw": b""}, "message"),
        ({"message": {"from": "a@acme.example", "text": "t"}}, "message"),
        ({"raw": b"", "message": {"from": "a@acme.example"}}, "message"),
        ({"raw": b"", "message": {"from": "a@other.example", "text": "t"}}, "header.from"),
        ({"raw": RAW.replace(b"acme.example", b"other.example")}, "header.from"),
        ({"raw": RAW.replace(b"body", b"a\rb")}, "message"),
    ],
)
def test_what_is_refused_names_its_field(fields: dict[str, Any], field: str) -> None:
    found = refusal(**fields)
    assert found.reason == "invalid"
    assert field in [problem.field for problem in found.problems]


@pytest.mark.parametrize(
    "value",
    [
        None, b"", b"{", b"[]", b"null", b"7", b'"x"', b"\xff\xfe", b"{}", line(to="x@b.example"),
        line(to=[7]), line(tags=[None]), line(v=2), line(tenant=None), b"[" * 100_000,
        line()[:-1], line(**{"from": 7}), b"\n" + RAW, line() + b"x",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_unreadable(value: bytes | None) -> None:
    found = read(source(), value, settings(), NOW)
    assert isinstance(found, Refusal)
    assert (found.reason, found.submission) == ("unreadable", None)


@given(st.binary(max_size=300))
def test_reading_is_total(value: bytes) -> None:
    assert isinstance(read(source(), value, settings(), NOW), Draft | Refusal)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "tenant": st.sampled_from(["acme", "quiet", "x"]) | st.text(max_size=5),
            "from": st.text(max_size=10) | st.just("a@acme.example"),
            "to": st.lists(st.text(max_size=10) | st.just("b@b.example"), max_size=4),
            "id": st.none() | st.text(max_size=5),
            "pool": st.none() | st.text(max_size=5),
            "expires": st.none() | st.text(max_size=5),
            "tags": st.lists(st.text(max_size=5), max_size=3),
        },
    ),
    st.binary(max_size=60) | st.just(RAW),
)
def test_any_submission_is_drafted_or_refused_and_can_be_written(
    fields: dict[str, Any], raw: bytes
) -> None:
    found = taken(raw=raw, **fields)
    writer = Writer(settings(), TOPICS, 2)
    if isinstance(found, Draft):
        assert isinstance(writer.accepted(found, LANES, {}, NOW), Writes)
    else:
        assert writer.rejected(found, b"x", NOW).records


def test_a_class_without_a_pool_needs_one_named() -> None:
    found = refusal("transactional", tenant="quiet", **{"from": ""})
    assert [problem.field for problem in found.problems] == ["pool"]


def test_all_problems_of_the_envelope_are_found_at_once() -> None:
    wrong: dict[str, Any] = {"from": "x", "to": [], "pool": "?", "expires": "?", "id": ""}
    found = refusal(**wrong)
    assert {p.field for p in found.problems} == {"from", "to", "pool", "expires", "id"}


def test_bad_recipients_are_refused_alone_and_doubles_too() -> None:
    found = draft(to=["a@b.example", "bad", "a@B.example", "c@[1.2.3.4]", "c@b.example"])
    assert [r.index for r in found.envelope.recipients] == [0, 4]
    assert [r.index for r in found.envelope.refused] == [1, 2, 3]


def test_no_key_that_fits_is_refused_unless_the_tenant_may_send_unsigned() -> None:
    raw = RAW.replace(b"acme.example", b"quiet.example")
    fields: dict[str, Any] = {"tenant": "quiet", "from": "b@quiet.example", "raw": raw}
    assert "no DKIM key" in refusal(**fields).problems[0].rule
    assert (
        "not signed: no DKIM key fits the From domain"
        in draft(using=settings(unsigned=True)).warnings
    )


def test_warnings_are_about_what_receivers_judge() -> None:
    assert draft().warnings == ("no one-click unsubscribe (RFC 8058)",)
    assert draft("transactional").warnings == ()
    unsubscribe = (
        b"List-Unsubscribe: <mailto:u@acme.example>,\r\n <https://acme.example/u>\r\n"
        b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    )
    assert draft(raw=unsubscribe + RAW).warnings == ()
    other = draft("transactional", **{"from": "b@xn--bcher-kva.example"})
    assert other.warnings == ("From is not aligned with the return path",)


def test_message_ids_are_one_for_all_in_transactional_and_one_each_in_bulk() -> None:
    bulk = draft(to=["a@b.example", "c@b.example"])
    ids = [bulk.prepend(r.index) for r in bulk.envelope.recipients]
    assert len(set(ids)) == 2
    assert all(i.startswith("Message-ID: <") and i.endswith("@acme.example>\r\n") for i in ids)
    assert b"Message-ID" not in bulk.message.data
    assert "p.mail" not in ids[0]
    both = draft("transactional", to=["a@b.example", "c@b.example"])
    assert [both.prepend(0), both.prepend(1)] == ["", ""]
    assert both.message.data.count(b"Message-ID: <") == 1
    own = draft(raw=b"Message-ID: <1@x.example>\r\n" + RAW)
    assert own.prepend(0) == ""


def test_the_same_record_gives_the_same_draft_whoever_reads_it() -> None:
    assert draft() == draft()


# -- writing


def written(
    found: Draft, resolved: Mapping[str, Resolved] | None = None, now_ns: int = NOW
) -> tuple[list[Delivery], list[Event], Writes]:
    writes = Writer(settings(), TOPICS, 2).accepted(found, LANES, resolved or {}, now_ns)
    assert isinstance(writes, Writes), writes
    records = list(writes.records)
    if writes.stored is not None:
        records += writes.stored.referring(99)
    deliveries, events = [], []
    for record in records:
        if record.topic == "p.mail.events":
            event = EVENT.decode(record.value)
            assert isinstance(event, Event)
            assert record.key == (event.delivery or event.submission).encode()
            events.append(event)
        else:
            delivery = DELIVERY.decode(record.value)
            assert isinstance(delivery, Delivery)
            assert record.topic == f"p.mail.deliveries.{delivery.class_}"
            assert record.key == delivery.id.encode()
            deliveries.append(delivery)
    return deliveries, events, writes


@pytest.mark.parametrize("late_s", [0, 3_600, 8 * 86_400])
def test_its_time_counts_from_when_kafka_took_it_however_late_it_is_read(late_s: int) -> None:
    late = NOW + late_s * 1_000_000_000
    found = read(source(), line(expires="600s") + b"\n" + RAW, settings(), late)
    assert isinstance(found, Draft)
    [delivery], _, _ = written(found, now_ns=late)
    assert (delivery.accepted_ns, delivery.not_before_ns) == (late, late)
    assert delivery.expires_ns == NOW + 600 * 1_000_000_000


def test_each_recipient_gets_a_delivery_and_an_event_where_it_is_decided() -> None:
    found = draft(to=["a@gmail.example", "b@b.example", "nonsense"], stream="s", tags=["t"])
    resolved = {"gmail.example": Resolved("mx.google.com", "gmail")}
    deliveries, events, writes = written(found, resolved)
    assert [d.id for d in deliveries] == ["b2-7-0", "b2-7-1"]
    first, second = deliveries
    assert (first.provider, first.site, first.map) == ("gmail", "mx.google.com", 3)
    assert (second.provider, second.site) == (None, None)
    assert (first.domain, first.header_domain, first.pool) == (
        "gmail.example",
        "acme.example",
        "main",
    )
    assert (first.from_, first.return_path) == ("bounce@acme.example", "bounce@acme.example")
    assert first.size_bytes == len(found.message.data)
    assert [e.type for e in events] == ["accepted", "accepted", "rejected"]
    assert events[0].warnings
    assert (events[2].final, events[2].field, events[2].to) == (True, "to[2]", "nonsense")
    where = {(r.topic, r.key): r.partition for r in writes.records}
    assert where["p.mail.deliveries.bulk", b"b2-7-0"] == LANES.partition("provider:gmail")
    assert where["p.mail.events", b"b2-7-0"] == LANES.partition("provider:gmail")
    assert where["p.mail.events", b"b2-7-2"] == 2
    body = next(split(r.value)[1] for r in writes.records if r.topic.endswith("deliveries.bulk"))
    assert body == found.message.data


def test_a_body_goes_to_mail_bodies_once_when_its_copies_would_be_too_much() -> None:
    small = Ingest(inline_max=1000)
    raw = RAW + b"x" * 300 + b"\r\n"
    one = draft(raw=raw)
    assert not one.stored(small.inline_max)
    many = draft(raw=raw, to=[f"u{i}@b.example" for i in range(10)])
    assert many.stored(small.inline_max)
    writer = Writer(settings(bounds=small), TOPICS, 2)
    writes = writer.accepted(many, LANES, {}, NOW)
    assert isinstance(writes, Writes)
    assert writes.stored is not None
    assert (writes.stored.body.topic, writes.stored.body.partition) == ("p.mail.bodies", 2)
    body = BODY.decode(writes.stored.body.value)
    assert isinstance(body, Body)
    assert (body.submission, body.size_bytes) == (many.id, len(many.message.data))
    assert split(writes.stored.body.value)[1] == many.message.data
    for write in writes.stored.referring(99):
        delivery = DELIVERY.decode(write.value)
        assert isinstance(delivery, Delivery)
        assert delivery.body == BodyRef(partition=2, offset=99, size_bytes=len(many.message.data))
        assert split(write.value)[1] == b""


def test_a_record_that_kafka_would_refuse_is_a_problem_before_the_transaction() -> None:
    found = draft()
    huge = with_data(found, b"x" * (36 << 20))
    for bounds in (Ingest(inline_max=1 << 40), Ingest()):
        problem = Writer(settings(bounds=bounds), TOPICS, 2).accepted(huge, LANES, {}, NOW)
        assert isinstance(problem, Problem)
        assert problem.too_large


def with_data(found: Draft, data: bytes) -> Draft:
    return replace(found, message=found.message._replace(data=data))


def test_a_smart_host_pool_decides_in_its_own_lane() -> None:
    base = settings()
    relay = replace(
        base,
        sources={"relay": From("relay", 0, "smarthost", "none", host="h.example")},
        pools={"main": Pool("main", {"relay": 1})},
    )
    writes = Writer(relay, TOPICS, 2).accepted(draft(), LANES, {}, NOW)
    assert isinstance(writes, Writes)
    assert {r.partition for r in writes.records} == {LANES.partition("smarthost:relay")}


def test_smtputf8_is_said_where_only_it_can_carry_the_delivery() -> None:
    deliveries, _, _ = written(draft(to=["jörg@b.example", "bob@b.example", "a@bücher.example"]))
    assert [d.smtputf8 for d in deliveries] == [True, False, False]
    [path], _, _ = written(draft(**{"from": "jörg@acme.example"}))
    assert path.smtputf8


def rejected(found: Refusal, value: bytes) -> tuple[Rejected, bytes, list[Event]]:
    writes = Writer(settings(), TOPICS, 2).rejected(found, value, NOW)
    first, *rest = writes.records
    assert first.topic == "p.mail.rejected"
    record = REJECTED.decode(first.value)
    assert isinstance(record, Rejected)
    events = [EVENT.decode(write.value) for write in rest]
    return record, split(first.value)[1], [e for e in events if isinstance(e, Event)]


def test_a_refusal_keeps_the_first_4_kib_and_tells_the_platform() -> None:
    value = line(id="k", to=[]) + b"\n" + b"x" * 10_000
    record, kept, [event] = rejected(refusal(id="k", to=[]), value)
    assert kept == value[:KEEP_BYTES]
    assert (record.partition, record.offset, record.size_bytes) == (2, 7, len(value))
    assert (record.reason, record.field, record.detail) == ("invalid", "to", "to: has no recipient")
    assert (event.type, event.final, event.submission, event.tenant) == (
        "rejected",
        True,
        "k",
        "acme",
    )


def test_where_every_recipient_is_wrong_each_is_told() -> None:
    found = refusal(to=["x", "y"])
    _, _, events = rejected(found, b"v")
    assert [(e.to, e.field, e.delivery) for e in events] == [
        ("x", "to[0]", "b2-7-0"),
        ("y", "to[1]", "b2-7-1"),
    ]


def test_nothing_of_a_refused_record_is_repeated_unbounded() -> None:
    found = refusal(tenant="t" * 100_000, id="i" * 100_000, stream="s" * 100_000)
    writes = Writer(settings(), TOPICS, 2).rejected(found, line(), NOW)
    assert all(len(write.value) < 10_000 for write in writes.records)
