"""A producer that is replaced when it has broken, and by one alone."""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest

from shared.kafka.errors import KafkaUnavailable
from shared.kafka.lasting import Lasting

if TYPE_CHECKING:
    from shared.kafka.cluster import Cluster


@dataclass(eq=False)
class Made:
    broken: bool = False
    stopped: bool = False

    async def stop(self) -> None:
        self.stopped = True


@dataclass
class Kafka:
    away: bool = False
    made: list[Made] = field(default_factory=list)

    async def producer(self, *, linger_ms: int) -> Made:
        assert linger_ms == 0
        await asyncio.sleep(0)
        if self.away:
            raise KafkaUnavailable("nobody answers")
        self.made.append(Made())
        return self.made[-1]


def lasting(kafka: Kafka) -> Lasting:
    return Lasting(cast("Cluster", kafka))


async def test_all_who_ask_at_once_have_the_same() -> None:
    kafka = Kafka()
    one = lasting(kafka)
    found = await asyncio.gather(*(one.whole() for _ in range(5)))
    assert len(kafka.made) == len(set(found)) == 1


async def test_a_broken_one_is_stopped_and_replaced_as_soon_as_kafka_answers() -> None:
    kafka = Kafka()
    one = lasting(kafka)
    await one.whole()
    kafka.made[0].broken, kafka.away = True, True
    with pytest.raises(KafkaUnavailable):
        await one.whole()
    assert kafka.made[0].stopped
    assert one.present is None
    kafka.away = False
    assert cast("Made", await one.whole()) is kafka.made[1]
    await one.close()
    assert kafka.made[1].stopped
