"""A loop whose time passes only when nobody has anything to do: ten minutes of waiting take no time, and end at the tenth exactly."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_S = 1_000_000_000
#: Some moment in 2027.
_EPOCH_NS = 1_800_000_000 * _S


class _Patient(selectors.DefaultSelector):
    """Look at the sockets without waiting; where they are silent, let the time pass that would have been waited."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits, and nothing will ever happen")
            self.now += max(timeout, 0)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Run what talks over sockets of this process alone."""

    def __init__(self) -> None:
        self._patient = _Patient()
        super().__init__(self._patient)

    def time(self) -> float:
        return self._patient.now


class StoppedClock:
    """Stands still, and sleeps no time."""

    def now_ns(self) -> int:
        return 0

    def mono_ns(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class LoopClock:
    """The clock of the running loop."""

    def now_ns(self) -> int:
        return _EPOCH_NS + self.mono_ns()

    def mono_ns(self) -> int:
        # The loop's floats are off by less than this rounding.
        return round(asyncio.get_running_loop().time() * 1000) * (_S // 1000)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
