"""No record stops a partition: each is rejected with its reason, in the transaction that passes it, and the mail behind it goes on."""

import json
import random

import pytest

from services.ingest.intake import Draft, Home, Refusal, Source, Stray, read
from shared.records.rejected import KEEP_BYTES
from shared.runtime.settings import Settings
from tests.integration.ingest.running import ingest, produce, stack_for
from tests.support.config import submission
from tests.support.reading import Log, delivered, deliveries, events, rejections
from tests.support.yard import Yard

HEAD = b"From: a@acme.example\r\nTo: u@a.test\r\nSubject: s\r\n"


def line(**fields: object) -> bytes:
    base: dict[str, object] = {"tenant": "acme", "from": "b@acme.example", "to": ["u@a.test"]}
    return json.dumps(base | fields).encode()


def nested(depth: int) -> bytes:
    head = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (at, at)
        for at in range(depth)
    )
    return HEAD + b"MIME-Version: 1.0\r\n" + head + b"\r\nthe end\r\n"


INCOMPRESSIBLE = "".join(f"{random.Random(at).randbytes(32).hex()}\r\n" for at in range(2_000))

POISON: dict[str, tuple[bytes, str, str]] = {
    "broken JSON": (b'{"tenant": "acme", \n' + HEAD, "unreadable", "record"),
    "not JSON at all": (b"\x00\xff" * 10_000, "unreadable", "record"),
    "no value": (b"", "unreadable", "record"),
    "deep JSON": (b'{"tags":' + b"[" * 100_000, "unreadable", "record"),
    "a wrong type": (line(to="u@a.test") + b"\n" + HEAD, "unreadable", "record"),
    "unknown tenant": (line(tenant="nobody") + b"\n" + HEAD, "invalid", "tenant"),
    "no recipient": (line(to=[]) + b"\n" + HEAD, "invalid", "to"),
    "no message": (line(), "invalid", "message"),
    "bare CR in a header": (
        line() + b"\n" + HEAD + b"X: a\rEvil: b\r\n\r\n",
        "invalid",
        "message",
    ),
    "NUL in a header": (line() + b"\n" + HEAD + b"X: a\0b\r\n\r\n", "invalid", "message"),
    "an address with a newline": (
        line(to=["u@a.test\r\nRCPT TO:<v@a.test>"]) + b"\n" + HEAD,
        "invalid",
        "to[0]",
    ),
    "MIME nested 1,000 deep": (line() + b"\n" + nested(1000), "invalid", "message"),
    "an output that would be too large": (
        # 8-bit and no text: in base64 it is a third larger than what is accepted.
        line()
        + b"\n"
        + HEAD
        + b"Content-Type: application/octet-stream\r\n\r\n"
        + b"\xff" * (24 << 20),
        "too_large",
        "message",
    ),
    "a line break in a field": (
        line(message={"from": "a@acme.example", "subject": "a\r\nBcc: x@y.test", "text": "t"}),
        "invalid",
        "message.subject",
    ),
}


@pytest.mark.timeout(120)
async def test_every_kind_of_poison_is_rejected_and_the_partition_goes_on(yard: Yard) -> None:
    stack = stack_for(yard)
    values: list[bytes] = []
    for at, (value, _, _) in enumerate(POISON.values()):
        values += [value, submission(f"u{at}@a.test")]
    await produce(stack, values, "bulk", 1)
    stack.start("ingest")
    async with deliveries(stack) as good, Log(stack, [stack.topics.rejected]) as bad:
        await good.until(len(POISON))
        assert [d.to for d, _ in delivered(good)] == [f"u{i}@a.test" for i in range(len(POISON))]
        await bad.until(len(POISON))
        for (kind, (value, reason, field)), (found, kept) in zip(
            POISON.items(), rejections(bad), strict=True
        ):
            assert (found.reason, found.field) == (reason, field), f"{kind}: {found}"
            assert (found.topic, found.partition) == (stack.topics.submissions("bulk"), 1)
            assert values[found.offset] == value
            assert kept == value[:KEEP_BYTES]
            assert found.size_bytes == len(value)
    async with Log(stack, [stack.topics.events]) as log:
        # Whoever can be told is told: one event for each record whose line can be read.
        told = [kind for kind, (_, reason, _) in POISON.items() if reason != "unreadable"]
        await log.until(len(POISON) + len(told))
        finals = [event for event in events(log) if event.final]
        assert {event.type for event in finals} == {"rejected"}
        assert all(event.field and event.reason for event in finals)
    metrics = stack.services[0].metrics()
    assert 'postyard_rejected_total{class="bulk",reason="unreadable"} 5.0' in metrics
    assert "postyard_commit_age_seconds" in metrics
    assert stack.services[0].terminate() == 0


async def test_a_bug_on_one_record_rejects_that_record_alone(yard: Yard) -> None:
    def clumsy(
        source: Source, value: bytes | None, settings: Settings, now: int, home: Home | None
    ) -> Draft | Refusal | Stray:
        if value is not None and b"u2@" in value:
            raise RecursionError("a bug of ours")
        return read(source, value, settings, now, home)

    stack = stack_for(yard)
    await produce(stack, [submission(f"u{at}@a.test") for at in range(5)], "transactional", 0)
    async with (
        ingest(stack, read=clumsy),
        deliveries(stack) as good,
        Log(stack, [stack.topics.rejected]) as bad,
        Log(stack, [stack.topics.events]) as log,
    ):
        await good.until(4)
        assert [d.to[1] for d, _ in delivered(good)] == ["0", "1", "3", "4"]
        await bad.until(1)
        [(found, _)] = rejections(bad)
        assert (found.reason, found.detail, found.offset) == (
            "internal",
            "record: RecursionError",
            2,
        )
        await log.until(5)
        [final] = [event for event in events(log) if event.final]
        assert (final.type, final.category) == ("rejected", "internal")


@pytest.mark.timeout(180)
async def test_a_record_that_breaks_the_transaction_is_found_by_ever_smaller_rounds(
    yard: Yard,
) -> None:
    stack = stack_for(yard)
    # The topic takes less than is declared: nothing before the transaction can know.
    await limit(stack.kafka, stack.topics.deliveries("bulk"), 20_000)
    values = [submission(f"u{at}@a.test") for at in range(40)]
    values[13] = submission("u13@a.test", text=INCOMPRESSIBLE)
    await produce(stack, values, "bulk", 0)
    async with (
        ingest(stack),
        deliveries(stack) as good,
        Log(stack, [stack.topics.rejected]) as bad,
    ):
        await good.until(39, 150)
        assert {d.to for d, _ in delivered(good)} == {f"u{i}@a.test" for i in range(40) if i != 13}
        await bad.until(1)
        [(found, _)] = rejections(bad)
        assert (found.reason, found.offset) == ("internal", 13)


async def limit(bootstrap: str, topic: str, most: int) -> None:
    from aiokafka.admin import AIOKafkaAdminClient  # noqa: PLC0415
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # noqa: PLC0415

    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.alter_configs(
            [
                ConfigResource(
                    ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": str(most)}
                )
            ]
        )
    finally:
        await admin.close()


async def test_one_bad_recipient_of_many_is_rejected_alone(yard: Yard) -> None:
    stack = stack_for(yard)
    recipients = ["a@a.test", "b@@a.test", "c@a.test", "d@[127.0.0.1]", "A@a.test", "a@A.test"]
    await produce(stack, [submission(recipients, id_="order-7")], "transactional", 0)
    async with (
        ingest(stack),
        deliveries(stack) as good,
        Log(stack, [stack.topics.events]) as log,
        Log(stack, [stack.topics.rejected]) as bad,
    ):
        await good.until(3)
        assert {d.to for d, _ in delivered(good)} == {"a@a.test", "c@a.test", "A@a.test"}
        assert {d.submission for d, _ in delivered(good)} == {"order-7"}
        await log.until(6)
        finals = {event.to: event for event in events(log) if event.final}
        assert {to: event.field for to, event in finals.items()} == {
            "b@@a.test": "to[1]",
            "d@[127.0.0.1]": "to[3]",
            "a@A.test": "to[5]",
        }
        assert "literal" in finals["d@[127.0.0.1]"].reason
        await bad.until(0)
