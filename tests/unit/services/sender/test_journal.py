"""The journal over a Kafka that breaks when the test says so: nothing that was said is lost, and no `started` is said twice."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import structlog

from services.sender.journal import Journal, Stamp
from shared.kafka.errors import KafkaTrouble, KafkaUnavailable, NotAllowed, ProducerBroken
from shared.kafka.producer import Acknowledged, Heard, Stamped
from shared.records.outcome import Handback
from tests.support.grants import grant
from tests.support.virtualtime import StoppedClock

if TYPE_CHECKING:
    from shared.kafka.cluster import Cluster


@dataclass
class Producer:
    """Acknowledges what it is told to."""

    log: list[bytes]
    #: How many records a batch takes.
    most: int = 100
    waiting: list[tuple[Sequence[bytes], Heard]] = field(default_factory=list)

    async def append_batch(
        self, topic: str, partition: int, values: Sequence[bytes], then: Heard
    ) -> int:
        self.waiting.append((values[: self.most], then))
        return min(self.most, len(values))

    def hear(self) -> None:
        """Take the first batch that waits into the log."""
        values, then = self.waiting.pop(0)
        at = len(self.log)
        self.log.extend(values)
        then(Stamped(at, 7))

    def breaks(self) -> None:
        what: Acknowledged = ProducerBroken("a batch was refused")
        waiting, self.waiting = self.waiting, []
        for _, then in waiting:
            then(what)

    async def stop(self) -> None:
        self.breaks()


@dataclass
class Kafka:
    """Gives producers."""

    log: list[bytes] = field(default_factory=list)
    made: list[Producer] = field(default_factory=list)
    #: What it says before it gives the next.
    troubles: list[KafkaTrouble] = field(default_factory=list)

    async def producer(self, *, linger_ms: int) -> Producer:
        if self.troubles:
            raise self.troubles.pop()
        self.made.append(Producer(self.log))
        return self.made[-1]


@dataclass
class Clock(StoppedClock):
    """Stands where it is put."""

    at_ns: int = 0

    def mono_ns(self) -> int:
        return self.at_ns


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not done():
            await asyncio.sleep(0)


def back(number: int) -> Handback:
    return Handback(id=f"m{number}", n=1, slot=0, epoch=1, reason="drain")


@asynccontextmanager
async def journal_of(kafka: Kafka, journal: Journal | None = None) -> AsyncIterator[Journal]:
    journal = journal or Journal(
        cast("Cluster", kafka), "o", StoppedClock(), structlog.get_logger()
    )
    running = asyncio.create_task(journal.run())
    await until(lambda: bool(kafka.made))
    # It has one when its ``cluster.producer`` has returned.
    await asyncio.sleep(0)
    try:
        yield journal
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def ids(values: Iterable[bytes]) -> list[str]:
    return [value.split(b'"id":"')[1].split(b'"')[0].decode() for value in values]


async def test_what_a_broken_producer_had_not_acknowledged_is_sent_again_in_order_and_no_started_is() -> (
    None
):
    kafka, stamps = Kafka(), list[Stamp]()
    async with journal_of(kafka) as journal:
        first = kafka.made[0]
        journal.started(grant(id="first"), stamps.append)
        journal.say(grant(id="m0"), back(0))
        await until(lambda: bool(first.waiting))
        for number in (1, 2):
            journal.say(grant(id=f"m{number}"), back(number))
        journal.started(grant(id="second"), stamps.append)
        first.hear()
        assert stamps == [7_000_000]
        await until(lambda: bool(first.waiting))
        # Said while a batch is on its way.
        journal.say(grant(id="m3"), back(3))
        journal.started(grant(id="third"), stamps.append)
        assert journal.unacknowledged[0] == 3
        first.breaks()
        # Said between two producers.
        journal.say(grant(id="m4"), back(4))
        journal.started(grant(id="fourth"), stamps.append)
        await until(lambda: len(kafka.made) == 2 and bool(kafka.made[1].waiting))
        assert [isinstance(each, KafkaTrouble) for each in stamps] == [False, True, True, True]
        kafka.made[1].hear()
        await journal.flushed()
        assert journal.unacknowledged[0] == 0
    assert ids(kafka.log) == ["first", "m0", "m1", "m2", "m3", "m4"]


async def test_a_partition_has_one_batch_on_its_way_and_none_waits_for_another() -> None:
    kafka = Kafka()
    async with journal_of(kafka) as journal:
        producer = kafka.made[0]
        for number in range(3):
            journal.say(grant(id=f"m{number}", part=0), back(number))
        await until(lambda: len(producer.waiting) == 1)
        journal.say(grant(id="m3", part=0), back(3))
        journal.say(grant(id="m4", part=1), back(4))
        await until(lambda: len(producer.waiting) == 2)
        assert [ids(values) for values, _ in producer.waiting] == [["m0", "m1", "m2"], ["m4"]]
        producer.hear()
        await until(lambda: len(producer.waiting) == 2)
        assert ids(producer.waiting[1][0]) == ["m3"]


async def test_what_a_batch_has_no_room_for_is_in_the_next() -> None:
    kafka = Kafka()
    async with journal_of(kafka) as journal:
        producer = kafka.made[0]
        producer.most = 2
        for number in range(5):
            journal.say(grant(id=f"m{number}"), back(number))
        for _ in range(3):
            await until(lambda: bool(producer.waiting))
            assert len(producer.waiting) == 1
            producer.hear()
        await journal.flushed()
        assert journal.unacknowledged[0] == 0
    assert ids(kafka.log) == [f"m{number}" for number in range(5)]


async def test_what_was_said_outlives_a_kafka_that_lets_nobody_in_for_a_while() -> None:
    kafka = Kafka()
    async with journal_of(kafka) as journal:
        journal.say(grant(id="m0"), back(0))
        await until(lambda: bool(kafka.made[0].waiting))
        kafka.troubles = [KafkaUnavailable("no broker"), NotAllowed("a certificate is out of date")]
        kafka.made[0].breaks()
        await until(lambda: len(kafka.made) == 2 and bool(kafka.made[1].waiting))
        assert not kafka.troubles
        kafka.made[1].hear()
        await journal.flushed()
    assert ids(kafka.log) == ["m0"]


async def test_a_partition_that_acknowledges_nothing_is_not_prompt_and_others_are() -> None:
    kafka, clock = Kafka(), Clock()
    journal = Journal(cast("Cluster", kafka), "o", clock, structlog.get_logger())
    assert not journal.prompt(0)
    async with journal_of(kafka, journal):
        assert journal.prompt(0)
        journal.say(grant(part=0), back(0))
        await until(lambda: bool(kafka.made[0].waiting))
        clock.at_ns = 1_999_999_999
        assert journal.prompt(0)
        clock.at_ns = 2_000_000_000
        assert not journal.prompt(0)
        assert journal.prompt(1)
        kafka.made[0].hear()
        assert journal.prompt(0)
        journal.say(grant(part=0), back(1))
        await until(lambda: bool(kafka.made[0].waiting))
        kafka.made[0].breaks()
        assert not journal.prompt(1)
        await until(lambda: len(kafka.made) == 2 and bool(kafka.made[1].waiting))
        assert journal.prompt(0)


async def test_a_started_that_nobody_can_send_is_told_at_once() -> None:
    journal = Journal(cast("Cluster", Kafka()), "o", StoppedClock(), structlog.get_logger())
    stamps: list[Stamp] = []
    journal.started(grant(), stamps.append)
    assert isinstance(stamps[0], ProducerBroken)
