"""A submission that comes again under its key is not accepted again, and what is not the same is refused, wherever it lay."""

import json
from types import SimpleNamespace
from typing import Any, cast

import structlog

from services.ingest.intake import Draft, Duplicate, Outcome, Refusal, Stray, read
from services.ingest.worker import Shell, Worker
from services.ingest.writes import Writes
from shared.kafka.partitioner import partition_of
from shared.kafka.suspicion import Suspicion
from shared.records.event import EVENT, Event
from shared.records.key import KEY, Key
from shared.records.lanemap import LaneMap, propose
from shared.records.rejected import REJECTED, Rejected
from tests.unit.services.ingest.making import NOW, settings
from tests.unit.services.ingest.test_rejecting import HEAD, TOPICS, Record

MS = 1_000_000
HOUR = 3_600_000 * MS


class World:
    """One worker, to which records come one after the other."""

    def __init__(self, *, partition: int = 0, partitions: int = 1) -> None:
        self.settings = settings()
        self.partition = partition
        using = SimpleNamespace(
            tenants=self.settings.tenants,
            classes=self.settings.classes,
            ingest=self.settings.ingest,
            smarthost=self.settings.smarthost,
            kafka=SimpleNamespace(partitions=partitions),
        )
        shell = SimpleNamespace(
            settings=using, topics=TOPICS, log=structlog.get_logger(), read=read
        )
        self.worker = Worker(partition, cast("Shell", shell), Suspicion(10))
        lanes = propose(1, 2, {}, [])
        assert isinstance(lanes, LaneMap)
        self.lanes = lanes
        self.offset = 0

    def come(
        self,
        value: bytes,
        *,
        class_: str = "bulk",
        now: int = NOW,
        came: int = NOW,
        headers: tuple[tuple[str, bytes | None], ...] = (),
    ) -> tuple[Outcome, Writes]:
        self.offset += 1
        record = Record(
            value,
            TOPICS.submissions(class_),
            self.partition,
            self.offset,
            came // MS,
            b"k",
            headers,
        )
        step = self.worker._step(cast("Any", record), now)
        return self.worker._encode(step, self.lanes, {}, now)


def made(id_: str | None = "1", to: str = "b@c.example", **more: str) -> bytes:
    line = {"v": 1, "tenant": "acme", "from": "a@acme.example", "to": [to]} | more
    return json.dumps(line | ({} if id_ is None else {"id": id_})).encode() + b"\n" + HEAD


def said(writes: Writes) -> list[Event]:
    found = [EVENT.decode(write.value) for write in writes.records if write.topic == TOPICS.events]
    assert all(isinstance(event, Event) for event in found)
    return cast("list[Event]", found)


def test_what_comes_again_is_not_accepted_again_and_its_platform_hears_of_it() -> None:
    world = World()
    first, writes = world.come(made())
    assert isinstance(first, Draft)
    (kept,) = (write for write in writes.records if write.topic == TOPICS.keys)
    assert kept.key == b"acme/1"
    key = KEY.decode(kept.value)
    assert isinstance(key, Key)
    assert (key.class_, key.offset) == ("bulk", 1)
    # The other topic is no other key.
    for class_ in ("bulk", "transactional"):
        again, writes = world.come(made(), class_=class_)
        assert isinstance(again, Duplicate)
        (event,) = said(writes)
        assert len(writes.records) == 1
        assert (event.type, event.final, event.submission) == ("duplicate", False, "1")
        assert event.reason == "accepted before: mail.submissions.bulk-0-1"


def test_without_a_key_nothing_is_the_same() -> None:
    world = World()
    for _ in range(2):
        found, writes = world.come(made(None))
        assert isinstance(found, Draft)
        assert not any(write.topic == TOPICS.keys for write in writes.records)


def test_a_key_is_its_tenants_alone() -> None:
    world = World()
    assert isinstance(world.come(made())[0], Draft)
    quiet = made().replace(b'"acme"', b'"quiet"').replace(b"acme.example", b"quiet.example")
    found, _ = world.come(quiet)
    # Refused for something else: it has no DKIM key.
    assert isinstance(found, Refusal)
    assert found.problems[0].field == "header.from"


def test_another_submission_under_a_taken_key_is_refused_and_not_by_the_name_of_the_first() -> None:
    world = World()
    world.come(made())
    found, writes = world.come(made(to="d@c.example"))
    assert isinstance(found, Refusal)
    line = REJECTED.decode(writes.records[0].value)
    assert isinstance(line, Rejected)
    assert (line.reason, line.field) == ("conflict", "id")
    (event,) = said(writes)
    assert (event.type, event.final) == ("rejected", True)
    # Whoever follows "1" hears only of what was accepted.
    assert event.submission == "mail.submissions.bulk-0-2"
    assert "mail.submissions.bulk-0-1" in event.reason


def test_a_refused_submission_leaves_its_key_to_the_mended_one() -> None:
    world = World()
    assert isinstance(world.come(made(pool="nowhere"))[0], Refusal)
    assert isinstance(world.come(made())[0], Draft)


def test_what_was_accepted_and_would_be_refused_by_now_was_accepted() -> None:
    world = World()
    value = made(expires="2026-11-24T16:00:00Z")
    assert isinstance(world.come(value)[0], Draft)
    late, writes = world.come(value, now=NOW + 3 * HOUR, came=NOW + 3 * HOUR)
    assert isinstance(late, Duplicate)
    assert not any(event.final for event in said(writes))


def test_a_key_is_free_again_after_a_day() -> None:
    world = World()
    world.come(made())
    for hours, expected in ((23, Duplicate), (26, Draft)):
        now = NOW + hours * HOUR
        world.worker.keys.forget(now // MS)
        assert isinstance(world.come(made(), now=now, came=now)[0], expected)


def test_a_stray_goes_to_the_partition_of_its_key_once_and_keeps_its_age() -> None:
    home = partition_of(b"acme/1", 8)
    away = World(partition=(home + 1) % 8, partitions=8)
    value = made(expires="1h")
    stray, writes = away.come(value, came=NOW - HOUR // 2)
    assert isinstance(stray, Stray)
    (write,) = writes.records
    assert (write.topic, write.partition) == (TOPICS.submissions("bulk"), home)
    assert (write.value, write.key) == (value, b"k")
    assert len(away.worker.keys) == 0
    # Kafka stamps it anew.
    there = World(partition=home, partitions=8)
    found, _ = there.come(value, headers=tuple(write.headers))
    assert isinstance(found, Draft)
    assert found.envelope.life.expires_ns == NOW + HOUR // 2
    # Where two do not agree about partitions it does not go to and fro.
    lost, _ = away.come(value, headers=tuple(write.headers))
    assert isinstance(lost, Draft)


def test_what_is_no_key_is_refused_where_it_lies() -> None:
    away = World(partition=0, partitions=1 << 30)
    assert isinstance(away.come(made("x" * 201))[0], Refusal)
    assert isinstance(away.come(made(""))[0], Refusal)
    assert isinstance(away.come(made().replace(b'"acme"', b'"nobody"'))[0], Refusal)
    assert isinstance(away.come(made("x" * 200))[0], Stray)


def test_whoever_invents_a_headers_time_makes_nothing_younger() -> None:
    for told in (b"99999999999999", b"-5", b"x", b"", b"9" * 4000, None):
        found, _ = World().come(
            made(expires="1h"), came=NOW - HOUR // 2, headers=(("postyard-strayed", told),)
        )
        assert isinstance(found, Draft), told
        assert found.envelope.life.expires_ns == NOW + HOUR // 2
