"""One timer for many times, on a loop whose time only waiting moves."""

import asyncio
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from services.sender.smtp.deadline import Deadline
from tests.support.virtualtime import run

MOVES = st.lists(
    st.tuples(st.floats(0, 10), st.floats(0.01, 20) | st.none()), min_size=1, max_size=20
)


@given(MOVES)
def test_it_is_over_once_and_exactly_when_the_time_that_was_set_last_has_come(
    moves: list[tuple[float, float | None]],
) -> None:
    """Each move: wait so long, then set so much from then on, or clear."""

    async def main() -> tuple[list[float], list[float]]:
        loop = asyncio.get_running_loop()
        over: list[float] = []
        deadline = Deadline(loop, lambda: over.append(loop.time()))
        expected: list[float] = []
        at: float | None = None
        for wait, ahead in moves:
            until = loop.time() + wait
            await asyncio.sleep(wait)
            if at is not None and at < until:
                expected.append(at)
                at = None
            elif at is not None and at <= until + 0.002:
                return [], []  # Both in one moment: either may be first.
            if ahead is None:
                deadline.clear()
                at = None
            else:
                at = loop.time() + ahead
                deadline.set(at)
        await asyncio.sleep(100)
        return over, expected + ([at] if at is not None else [])

    over, expected = run(main())
    assert len(over) == len(expected)
    assert all(abs(a - b) <= 0.001 for a, b in zip(over, expected, strict=True))


def test_later_times_cost_no_timer_and_closing_leaves_none() -> None:
    class Counting(asyncio.SelectorEventLoop):
        timers = 0

        def call_at(  # type: ignore[override]
            self, when: float, callback: Callable[..., object], *args: object
        ) -> asyncio.TimerHandle:
            self.timers += 1
            return super().call_at(when, callback, *args)

    loop = Counting()
    deadline = Deadline(loop, lambda: None)
    for at in range(10, 1000):
        deadline.set(loop.time() + at)
    assert loop.timers == 1
    deadline.set(loop.time() + 5)
    assert loop.timers == 2
    deadline.close()
    assert all(each.cancelled() for each in loop._scheduled)  # type: ignore[attr-defined]
    loop.close()
