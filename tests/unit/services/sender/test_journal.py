"""The journal over a Kafka that breaks when the test says so: nothing that was said is lost, and no `started` is said twice."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import structlog

from services.sender.journal import Journal, Stamp
from shared.kafka.errors import KafkaTrouble, ProducerBroken
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
    waiting: list[tuple[bytes, Heard]] = field(default_factory=list)

    async def append(self, topic: str, partition: int, value: bytes, then: Heard) -> None:
        self.waiting.append((value, then))

    def hear(self, count: int) -> None:
        """Take so many of what waits into the log, in order."""
        for _ in range(count):
            value, then = self.waiting.pop(0)
            self.log.append(value)
            then(Stamped(len(self.log), 7))

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

    async def producer(self, *, linger_ms: int) -> Producer:
        self.made.append(Producer(self.log))
        return self.made[-1]


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not done():
            await asyncio.sleep(0)


def back(number: int) -> Handback:
    return Handback(id=f"m{number}", n=1, slot=0, epoch=1, reason="drain")


async def test_what_a_broken_producer_had_not_acknowledged_is_sent_again_in_order_and_no_started_is() -> (
    None
):
    kafka = Kafka()
    journal = Journal(cast("Cluster", kafka), "o", StoppedClock(), structlog.get_logger())
    running = asyncio.create_task(journal.run())
    await until(lambda: bool(kafka.made))
    await asyncio.sleep(0)
    stamps: list[Stamp] = []
    journal.started(grant(id="first"), stamps.append)
    for number in range(3):
        journal.say(grant(id=f"m{number}"), back(number))
    journal.started(grant(id="second"), stamps.append)
    await until(lambda: len(kafka.made[0].waiting) == 5)
    kafka.made[0].hear(2)
    assert stamps == [7_000_000]
    assert journal.unacknowledged[0] == 2
    kafka.made[0].breaks()
    # Said between two producers.
    journal.say(grant(id="m3"), back(3))
    journal.started(grant(id="third"), stamps.append)
    await until(lambda: len(kafka.made) == 2 and len(kafka.made[1].waiting) == 3)
    assert [isinstance(each, KafkaTrouble) for each in stamps] == [False, True, True]
    kafka.made[1].hear(3)
    await journal.flushed()
    assert journal.unacknowledged[0] == 0
    said = [value.split(b'"id":"')[1].split(b'"')[0] for value in kafka.log]
    assert said == [b"first", b"m0", b"m1", b"m2", b"m3"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_started_that_nobody_can_send_is_told_at_once() -> None:
    journal = Journal(cast("Cluster", Kafka()), "o", StoppedClock(), structlog.get_logger())
    stamps: list[Stamp] = []
    journal.started(grant(), stamps.append)
    assert isinstance(stamps[0], ProducerBroken)
