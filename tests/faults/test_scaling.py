"""Senders come and go under load, and share the smart hosts out: no slot is idle for long, none is used by two, no mail is lost."""

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Self

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.protocol.control import ControlView
from shared.records.codec import Unreadable
from shared.records.control import CONTROL, Claim, Heartbeat
from shared.records.outcome import OUTCOME, Outcome, Started
from tests.support.config import QUICK_TIMING
from tests.support.nursery import Launch
from tests.support.receiver import start_receiver
from tests.support.stack import Events, Service, Stack

PARTITIONS = 2
SLOTS = 6
IDLE_S = 30
#: Until they are shared out anew: far longer than it takes, for a busy machine.
SHARED_S = 120


@pytest.mark.timeout(600)
async def test_slots_are_shared_out_while_senders_come_and_go_under_load(
    tmp_path: Path, kafka: str, prefix: str, launch: Launch
) -> None:
    receiver = start_receiver(tmp_path, "receiver", "--dot-delay", "0.2", launch=launch)
    text = relays(kafka, prefix, receiver.target)
    stack = Stack(tmp_path, kafka, prefix, text, launch=launch)
    try:
        stack.set_up()
        stack.start("ingest")
        stack.start("scheduler")
        senders = [stack.start("sender")]
        async with Control(stack) as control, Events(stack, PARTITIONS) as events:
            await control.until_shared_out(senders)
            feeding = Feeding(stack)
            task = asyncio.create_task(feeding.run())
            await events.until_final(20, 60)
            senders += [stack.start("sender", wait=False) for _ in range(2)]
            await control.until_shared_out(senders)
            assert max(control.load().values()) == 2
            assert await asyncio.to_thread(senders.pop(0).terminate) == 0
            await control.until_shared_out(senders)
            assert max(control.load().values()) == 3
            await events.read()
            assert not events.unknown(), "whoever leaves finishes what it had begun"
            senders.pop().kill()
            await control.until_shared_out(senders)
            feeding.stop()
            await task
            await events.until_final(feeding.produced, 120)
            await control.read()
            control.check_idle()
        await check_one_owner(stack)
        copies = receiver.copies()
        assert events.types().keys() == {"delivered"}
        assert len(copies) == feeding.produced
        assert {rcpt for rcpt, count in copies.items() if count > 1} <= events.unknown()
    finally:
        stack.stop()
        receiver.stop()


def relays(kafka: str, prefix: str, target: str) -> str:
    """Write a configuration with a tenant and a pool for each smart host; all of them are one server."""
    host, _, port = target.partition(":")
    parts = [
        f'[kafka]\nbootstrap = "{kafka}"\nprefix = "{prefix}"\npartitions = {PARTITIONS}\nslots = {SLOTS}',
        "[limits.default]\nconnections = 2",
        f'[routes]\n"*.test" = {{ to = "{target}" }}',
        '[net]\nallow = ["127.0.0.0/8"]',
        '[http]\nhost = "127.0.0.1"',
        QUICK_TIMING,
    ]
    parts += [
        f'[classes.{class_}]\nretry = ["1s", "2s"]\nunknown = {{ retry = "always", delay = "1s" }}'
        for class_ in ("transactional", "bulk")
    ]
    for at in range(SLOTS):
        parts += [
            f'[sources.relay-{at}]\nslot = {at}\nkind = "smarthost"\nhost = "{host}"\nport = {port}',
            f'ehlo = "m{at}.example.com"\ntls = "opportunistic"\nwarmup = "none"',
            f"[pools.pool-{at}]\nsources = {{ relay-{at} = 1 }}",
            f'[tenants.t{at}]\ndomains = ["t{at}.example"]\nunsigned = true',
            f'pools = {{ transactional = "pool-{at}", bulk = "pool-{at}" }}',
        ]
    return "\n".join(parts)


@dataclass
class Feeding:
    """A platform that goes on and on, for all smart hosts."""

    stack: Stack
    produced: int = 0
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        while not self._stopped.is_set():
            values = [self._submission(self.produced + at) for at in range(3 * SLOTS)]
            self.produced += await self.stack.produce(values)
            await asyncio.sleep(1)

    def stop(self) -> None:
        self._stopped.set()

    def _submission(self, number: int) -> bytes:
        tenant = f"t{number % SLOTS}"
        line = {
            "v": 1,
            "tenant": tenant,
            "from": f"b@{tenant}.example",
            "to": [f"u{number}@a.test"],
        }
        return b"%b\nFrom: a@%b.example\r\nSubject: Test\r\n\r\nhello\r\n" % (
            json.dumps(line).encode(),
            tenant.encode(),
        )


@dataclass
class Control:
    """mail.control as it grows."""

    stack: Stack
    view: ControlView = field(default_factory=ControlView)
    #: slot -> stamps of its epochs' ready heartbeats, ns
    ready: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    claims: Counter[int] = field(default_factory=Counter)
    _consumer: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> Self:
        self._consumer = await consumer(self.stack, self.stack.topics.control, 1)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._consumer is not None
        await self._consumer.stop()

    async def read(self) -> None:
        assert self._consumer is not None
        for records in (await self._consumer.getmany(timeout_ms=200)).values():
            for record in records:
                self._take(record.offset, record.timestamp * 1_000_000, record.key, record.value)

    def _take(self, offset: int, stamp_ns: int, key: bytes, value: bytes | None) -> None:
        if value is None:
            self.view.bury(offset, key)
            return
        said = CONTROL.decode(value)
        assert not isinstance(said, Unreadable), said
        if isinstance(said, Claim):
            assert not self._is_ready(said.slot, stamp_ns, said.pod), (
                f"slot {said.slot} was claimed from an owner that was ready"
            )
            self.claims[said.slot] += 1
        self.view.feed(offset, stamp_ns, said)
        if isinstance(said, Heartbeat) and said.ready and said.epoch == self.view.epoch(said.slot):
            self.ready[said.slot].append(stamp_ns)

    def _is_ready(self, slot: int, stamp_ns: int, pod: str) -> bool:
        claim = self.view.last_claim(slot)
        return (
            claim is not None
            and claim.pod != pod
            and self.view.live_epoch(slot, stamp_ns, 1_000_000_000) is not None
        )

    def load(self) -> Counter[str]:
        """Count the slots that each pod has ready."""
        return Counter(
            claim.pod
            for slot in range(SLOTS)
            if (claim := self.view.last_claim(slot)) is not None
            and self.view.live_epoch(slot, self.view.log_ns, 5_000_000_000) is not None
        )

    async def until_shared_out(self, senders: list[Service]) -> None:
        """Wait until all slots are with ``senders``, and none has more than its part."""
        most = -(-SLOTS // len(senders))
        await self._until(
            lambda load: (
                load.total() == SLOTS
                and load.keys() == {sender.name for sender in senders}
                and max(load.values()) == most
            )
        )
        print(f"\n{len(senders)} senders: {dict(self.load())}, claims {self.claims.total()}")

    async def _until(self, done: Callable[[Counter[str]], bool]) -> None:
        end = time.monotonic() + SHARED_S
        while not done(self.load()):
            assert time.monotonic() < end, f"{self.load()} after {SHARED_S} s: {self.view}"
            await self.read()

    def check_idle(self) -> None:
        """See that no slot was without a ready owner for long, by the broker's stamps."""
        gaps = {
            slot: max(after - before for before, after in pairwise(stamps))
            for slot, stamps in self.ready.items()
        }
        print(f"longest time without a ready owner: {max(gaps.values()) / 1e9:.1f} s")
        assert gaps.keys() == set(range(SLOTS))
        assert max(gaps.values()) <= IDLE_S * 1_000_000_000


async def consumer(stack: Stack, topic: str, partitions: int) -> AIOKafkaConsumer:
    """Read a topic from its start."""
    ours = AIOKafkaConsumer(
        bootstrap_servers=stack.kafka,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    await ours.start()
    ours.assign([TopicPartition(topic, partition) for partition in range(partitions)])
    return ours


async def check_one_owner(stack: Stack) -> None:
    """See that what an epoch did was over before the next one began, by the broker's stamps in mail.outcomes."""
    spans: defaultdict[int, dict[int, tuple[int, int]]] = defaultdict(dict)
    ours = await consumer(stack, stack.topics.outcomes, PARTITIONS)
    try:
        ends = await ours.end_offsets(ours.assignment())
        while any([await ours.position(place) < end for place, end in ends.items()]):
            for records in (await ours.getmany(timeout_ms=500)).values():
                for record in records:
                    said = OUTCOME.decode(record.value)
                    if isinstance(said, Started | Outcome):
                        first, last = spans[said.slot].get(said.epoch, (record.timestamp, 0))
                        spans[said.slot][said.epoch] = first, max(last, record.timestamp)
    finally:
        await ours.stop()
    assert spans.keys() == set(range(SLOTS))
    for slot, epochs in spans.items():
        in_order = [epochs[epoch] for epoch in sorted(epochs)]
        for (_, end), (begin, _) in pairwise(in_order):
            assert end <= begin, f"two epochs of slot {slot} at once: {in_order}"
    print("epochs at work:", {slot: len(epochs) for slot, epochs in sorted(spans.items())})
