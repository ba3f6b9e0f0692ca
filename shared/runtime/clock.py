"""The only place that reads time or draws randomness; everything else takes them as parameters."""

import asyncio
import random
import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks and a sleep."""

    def now_ns(self) -> int:
        """Give wall time, ns since the epoch; it may jump."""
        ...

    def mono_ns(self) -> int:
        """Give monotonic time, ns since some moment."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ns(self) -> int:
        """Give wall time, ns since the epoch."""
        return time.time_ns()

    def mono_ns(self) -> int:
        """Give monotonic time; it stands still while the machine sleeps, as the protocol expects."""
        return time.monotonic_ns()

    async def sleep(self, seconds: float) -> None:
        """Wait on the running loop."""
        await asyncio.sleep(seconds)


def system_rng() -> random.Random:
    """Give a generator seeded by the operating system."""
    return random.Random()
