"""The turns of a pair, by a clock that only sleeping moves."""

import asyncio
from dataclasses import dataclass, field
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from services.sender.line import Turns
from services.sender.ownership import Now
from shared.protocol.spacing import WireLimiter


@dataclass
class Sleeper:
    """Time goes on while somebody sleeps, and by what a step is said to take."""

    at_ns: int = 0
    slept: list[float] = field(default_factory=list)

    def now_ns(self) -> int:
        return self.at_ns

    def mono_ns(self) -> int:
        return self.at_ns

    async def sleep(self, seconds: float) -> None:
        self.at_ns += round(seconds * 1_000_000_000)
        self.slept.append(seconds)
        await asyncio.sleep(0)


@dataclass
class Door:
    """Lets everybody through who comes, and knows who came, and when."""

    open: bool = True
    came: list[tuple[int, int]] = field(default_factory=list)

    def ask(self, now: Now, who: int = 0) -> bool:
        self.came.append((now.mono_ns, who))
        return self.open


def turns(interval_ns: int, burst: int = 1) -> tuple[Turns, Sleeper]:
    clock = Sleeper()
    return Turns(WireLimiter(interval_ns, burst, 0), clock), clock


@given(st.integers(1, 10**10), st.integers(1, 5), st.lists(st.integers(0, 10**10), max_size=20))
async def test_whoever_asks_when_the_turns_of_any_stretch_are_as_many_as_the_rate_allows(
    interval_ns: int, burst: int, pauses: list[int]
) -> None:
    line, clock = turns(interval_ns, burst)
    door = Door()

    async def one() -> None:
        assert await line.next(door.ask)

    waiting = []
    for pause in pauses:
        clock.at_ns += pause
        waiting.append(asyncio.ensure_future(one()))
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    went = [at for at, _ in door.came]
    assert len(went) == len(pauses)
    for first, last in ((a, b) for b in range(len(went)) for a in range(b)):
        # burst + k tokens span at least k intervals.
        assert went[last] - went[first] >= (last - first + 1 - burst) * interval_ns


async def test_turns_come_in_the_order_of_asking() -> None:
    line, _ = turns(100)
    door = Door()
    await asyncio.gather(*(line.next(partial(door.ask, who=at)) for at in range(5)))
    assert [who for _, who in door.came] == [0, 1, 2, 3, 4]


async def test_who_may_not_go_when_its_turn_comes_spends_nothing() -> None:
    line, clock = turns(1_000)
    assert not await line.next(Door(open=False).ask)
    first = clock.at_ns
    assert await line.next(Door().ask)
    assert clock.at_ns == first
