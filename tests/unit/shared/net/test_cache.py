"""One question for many who ask, and no more memory than was given."""

import asyncio
from dataclasses import dataclass

import pytest

from shared.net.cache import Cache


@dataclass
class Hand:
    """A clock that stands where it was put."""

    now: int = 0

    def now_ns(self) -> int:
        return self.now

    def mono_ns(self) -> int:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@dataclass
class Oracle:
    """Answers when it is let go."""

    asked: int = 0
    life_ns: int = 100

    def __post_init__(self) -> None:
        self.go = asyncio.Event()

    async def ask(self) -> tuple[int, int]:
        self.asked += 1
        await self.go.wait()
        return self.asked, self.life_ns


async def test_whoever_asks_while_a_question_is_under_way_gets_its_answer() -> None:
    oracle, cache = Oracle(), Cache[int](Hand(), 10)
    waiting = [asyncio.create_task(cache.get("a", oracle.ask)) for _ in range(50)]
    await asyncio.sleep(0)
    oracle.go.set()
    assert await asyncio.gather(*waiting) == [1] * 50


async def test_an_answer_holds_until_its_life_is_over() -> None:
    hand, oracle = Hand(), Oracle()
    cache = Cache[int](hand, 10)
    oracle.go.set()
    assert await cache.get("a", oracle.ask) == 1
    hand.now = 99
    assert await cache.get("a", oracle.ask) == 1
    hand.now = 100
    assert await cache.get("a", oracle.ask) == 2


async def test_whoever_wants_a_newer_answer_gets_one_and_so_does_everybody_after_that() -> None:
    hand, oracle = Hand(), Oracle()
    cache = Cache[int](hand, 10)
    oracle.go.set()
    assert await cache.get("a", oracle.ask) == 1
    hand.now = 10
    assert await cache.get("a", oracle.ask, within_ns=10) == 1
    hand.now = 11
    assert await cache.get("a", oracle.ask, within_ns=10) == 2
    assert await cache.get("a", oracle.ask, within_ns=0) == 2
    assert await cache.get("a", oracle.ask) == 2


async def test_one_who_stops_waiting_does_not_end_the_question() -> None:
    oracle, cache = Oracle(), Cache[int](Hand(), 10)
    impatient = asyncio.create_task(cache.get("a", oracle.ask))
    patient = asyncio.create_task(cache.get("a", oracle.ask))
    await asyncio.sleep(0)
    impatient.cancel()
    oracle.go.set()
    assert await patient == 1
    assert impatient.cancelled()


async def test_a_question_that_failed_is_asked_anew() -> None:
    async def fail() -> tuple[int, int]:
        raise OSError("no network")

    oracle, cache = Oracle(), Cache[int](Hand(), 10)
    oracle.go.set()
    with pytest.raises(OSError, match="no network"):
        await cache.get("a", fail)
    assert await cache.get("a", oracle.ask) == 1


async def test_the_answer_that_came_first_goes_first() -> None:
    oracle, cache = Oracle(), Cache[int](Hand(), 3)
    oracle.go.set()
    for key in "abcd":
        await cache.get(key, oracle.ask)
    assert len(cache) == 3
    assert await cache.get("b", oracle.ask) == 2
    assert await cache.get("a", oracle.ask) == 5
