"""No record stops a scheduler's partition: what cannot be taken is rejected with its reason, and the mail around it is delivered."""

import itertools
import json
import time
from dataclasses import fields
from typing import Any

import pytest

from shared.kafka.cluster import Cluster
from shared.records.codec import encode
from shared.records.delivery import Delivery
from shared.records.lanemap import propose
from shared.records.rejected import KEEP_BYTES
from shared.runtime.loading import load
from shared.runtime.settings import LimitRow, Settings
from tests.integration.scheduler.running import scheduler_on
from tests.support.reading import Log, put, rejections
from tests.support.stack import Events, Stack
from tests.support.yard import Yard

MAIL = b"From: Acme <news@acme.example>\r\nTo: u@a.test\r\nSubject: Test\r\n\r\nhello\r\n"


def delivery(name: str, *, seconds: float = 600, **more: object) -> bytes:
    """Make a record of mail.deliveries.bulk; ``more`` is put over its line as it is."""
    now = time.time_ns()
    made = Delivery(
        id=name,
        submission=name,
        tenant="acme",
        class_="bulk",
        from_="b@acme.example",
        return_path="b@acme.example",
        to=f"{name}@a.test",
        domain="a.test",
        provider="local",
        site="mx.a.test",
        pool="main",
        map=1,
        accepted_ns=now,
        not_before_ns=now,
        expires_ns=now + int(seconds * 1e9),
        size_bytes=len(MAIL),
        header_domain="acme.example",
    )
    line = json.loads(encode(made)) | {key.rstrip("_"): value for key, value in more.items()}
    return json.dumps(line).encode() + b"\n" + MAIL


def said(kind: str, **more: object) -> bytes:
    base = {"k": kind, "v": 1, "id": "nobody", "n": 1, "slot": 0, "epoch": 1}
    return json.dumps(base | more).encode()


HUGE = 10**400
#: What it is -> the record, and why it is rejected.
DELIVERIES: dict[str, tuple[bytes | None, str, str]] = {
    "no record": (b"\x00\xff" * 10_000, "unreadable", "not JSON"),
    "no value": (None, "unreadable", "no value"),
    "half a line": (delivery("half")[:200], "unreadable", "not JSON"),
    "deep JSON": (b'{"k":"delivery","x":' + b"[" * 100_000, "unreadable", "not JSON"),
    "another kind of record": (said("started"), "unreadable", "`$.k`"),
    "an older version than any": (
        delivery("v0", v=0),
        "unreadable",
        "v: this reader knows version 1",
    ),
    "a wrong type": (delivery("type", to=["a@a.test"]), "unreadable", "`$.to`"),
    "a time that no clock gives": (
        delivery("late", accepted_ns=HUGE),
        "unreadable",
        "`$.accepted_ns`",
    ),
    "fewer steps than none": (delivery("steps", steps=-3), "unreadable", "`$.steps`"),
    "a line of megabytes": (delivery("long", tags=["x" * (2 << 20)]), "unreadable", "a line of"),
    "another class's topic": (
        delivery("class", class_="transactional"),
        "invalid",
        "is 'transactional', on the topic of bulk",
    ),
}
OUTCOMES: dict[str, tuple[bytes | None, str, str]] = {
    "no record": (b"\xde\xad" * 10_000, "unreadable", "not JSON"),
    "no value": (None, "unreadable", "no value"),
    "a delivery": (delivery("astray"), "unreadable", "`$.k`"),
    "no such result": (said("outcome", result="eaten"), "unreadable", "`$.result`"),
    "a wrong type": (said("started", n="one"), "unreadable", "`$.n`"),
}
#: Can be read, and means nothing here.
HARMLESS = (
    said("outcome", result="delivered", n=HUGE, slot=-1, epoch=HUGE),
    said("handback", reason="", id="good-0", n=77),
    said("mark", sent_ns=-1, owner=""),
    delivery("ended", again=True),
)


def decided(stack: Stack, provider: str | None, site: str | None = None) -> int:
    """Say in which partition a provider, or a site, is decided."""
    lanes = propose(1, 2, load(stack.config_path, {}).providers, [])
    return lanes.partition(lanes.lane(provider, site, ""))


@pytest.mark.timeout(400)
async def test_every_kind_of_poison_is_rejected_and_the_mail_around_it_is_delivered(
    yard: Yard,
) -> None:
    receiver = yard.receiver()
    stack = yard.stack(receiver)
    stack.set_up()
    topics, here = stack.topics, decided(stack, "local")
    good = [f"good-{at}" for at in range(len(DELIVERIES))]
    logs: dict[str, list[bytes | None]] = {
        topics.deliveries("bulk"): [
            value
            for name, (bad, _, _) in zip(good, DELIVERIES.values(), strict=True)
            for value in (bad, delivery(name))
        ],
        topics.outcomes: [bad for bad, _, _ in OUTCOMES.values()],
    }
    logs[topics.outcomes] += HARMLESS[:3]
    logs[topics.deliveries("bulk")] += [
        HARMLESS[3],
        delivery("poolless", pool="nowhere"),
        delivery("stranger", tenant="nobody", seconds=8),
    ]
    for topic, values in logs.items():
        await put(stack, topic, here, values)
    await put(stack, topics.deliveries("bulk"), 1 - here, [delivery("astray")])
    scheduler = stack.start("scheduler", wait=False)
    stack.wait_ready(scheduler, stack.start("sender", wait=False))
    async with Events(stack, 2) as world, Log(stack, [topics.rejected]) as bad:
        await world.until_final(len(good) + 3, 150)
        assert {id_: event.type for id_, event in world.finals().items()} == {
            **dict.fromkeys(good, "delivered"),
            # Forwarded to the partition that decides.
            "astray": "delivered",
            # It was accepted, so its end is said.
            "class": "rejected",
            # The sender has no key for it.
            "stranger": "expired",
        }
        assert 'reason="no_source"} 1.0' in scheduler.metrics(), "what has no pool waits"
        # A second one of that name, whose offset is the other topic's.
        twin = delivery("poolless", class_="transactional")
        await put(stack, topics.deliveries("transactional"), here, [twin])
        await bad.until(len(DELIVERIES) + len(OUTCOMES) + 1)
    found = {(line.topic, line.offset): (line, kept) for line, kept in rejections(bad)}
    expected = {
        (topics.deliveries("bulk"), 2 * at): row for at, row in enumerate(DELIVERIES.values())
    }
    expected |= {(topics.outcomes, at): row for at, row in enumerate(OUTCOMES.values())}
    expected[topics.deliveries("transactional"), 0] = (twin, "invalid", "waits on the topic")
    assert set(found) == set(expected)
    for place, (value, reason, detail) in expected.items():
        line, kept = found[place]
        assert (line.reason, line.partition) == (reason, here), place
        assert detail in line.detail, place
        assert (kept, line.size_bytes) == ((value or b"")[:KEEP_BYTES], len(value or b""))
    assert receiver.copies() == {f"{name}@a.test": 1 for name in [*good, "astray"]}
    assert "worker_failed" not in scheduler.log.read_text()
    assert scheduler.alive


class Clumsy(Settings):
    """Settings on which the scheduler's own code stumbles: while a record is looked at."""

    def smarthost(self, pool: str) -> str | None:
        if pool == "clumsy":
            raise RecursionError("a bug of ours")
        return super().smarthost(pool)


class ClumsyRows(dict[str, LimitRow]):
    """Rows of limits on which it stumbles while a grant is planned."""

    def get(self, key: str, default: Any = None, /) -> Any:
        if key.startswith("clumsy"):
            raise ZeroDivisionError("a bug of ours, later")
        return super().get(key, default)


@pytest.mark.timeout(400)
async def test_a_bug_on_one_record_rejects_that_record_alone(yard: Yard) -> None:
    receiver = yard.receiver()
    stack = yard.stack(receiver)
    stack.set_up()
    settings = load(stack.config_path, {})
    given = {field.name: getattr(settings, field.name) for field in fields(settings)}
    clumsy = Clumsy(**{**given, "limits": ClumsyRows(settings.limits)})
    topic, here = stack.topics.deliveries("bulk"), decided(stack, "local")
    sites = (f"clumsy{at}.test" for at in itertools.count())
    site = next(site for site in sites if decided(stack, None, site) == here)
    unread = delivery("unread", pool="clumsy")
    unplanned = delivery("unplanned", provider=None, site=site)
    # Before the scheduler: what is due is planned in the round that reads it.
    stack.start("sender")
    await put(stack, topic, here, [delivery("a"), unread, delivery("b")])
    async with (
        scheduler_on(stack, clumsy),
        Log(stack, [stack.topics.rejected]) as bad,
        Events(stack, 2) as world,
    ):
        await world.until_final(3, 150)
        await put(stack, topic, here, [unplanned, delivery("c")])
        await world.until_final(5, 150)
        ends = {id_: event.type for id_, event in world.finals().items()}
        bugs = {name for name, end in ends.items() if end == "rejected"}
        assert bugs == {"unread", "unplanned"}
        assert {ends[name] for name in "abc"} == {"delivered"}
        await bad.until(2)
        assert {(line.topic, line.offset, line.reason) for line, _ in rejections(bad)} == {
            (topic, 1, "internal"),
            (topic, 3, "internal"),
        }
    assert set(receiver.copies().values()) == {1}


@pytest.mark.timeout(300)
async def test_mail_whose_record_was_deleted_ends_and_stops_nobody(yard: Yard) -> None:
    receiver = yard.receiver()
    stack = yard.stack(receiver)
    stack.set_up()
    scheduler = stack.start("scheduler")
    stack.start("sender")
    topic, here = stack.topics.deliveries("bulk"), decided(stack, "local")
    later = time.time_ns() + 3600 * 1_000_000_000
    async with Events(stack, 2) as world:
        waits = [
            delivery(f"waits-{at}", not_before_ns=later, expires_ns=later + 1) for at in (0, 1)
        ]
        await put(stack, topic, here, [*waits, delivery("before")])
        await world.until_final(1, 120)
        scheduler.kill()
        cluster = Cluster(stack.kafka, client_id="test")
        try:
            await cluster.delete_before({(topic, here): 1})
        finally:
            await cluster.close()
        stack.start("scheduler")
        await put(stack, topic, here, [delivery("after")])
        await world.until_final(3, 120)
        assert {id_: (event.type, event.category) for id_, event in world.finals().items()} == {
            "before": ("delivered", ""),
            "waits-0": ("bounced", "internal"),
            "after": ("delivered", ""),
        }
    assert "waits-1@a.test" not in receiver.copies()
