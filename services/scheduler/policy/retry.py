"""Say when a delivery is tried again. Pure.

The schedule is the class's; its last delay repeats until the delivery expires. Jitter spreads what
failed together, to both sides, so that the schedule's mean is what the operator wrote.
"""

import random
from collections.abc import Sequence


def next_delay(
    schedule: Sequence[int], jitter: float, step: int, rng: random.Random, *, least_ns: int = 0
) -> int:
    """Give the delay after ``step`` earlier deferrals, ns; never under ``least_ns``."""
    return max(least_ns, jittered(schedule[min(step, len(schedule) - 1)], jitter, rng))


def jittered(delay_ns: int, jitter: float, rng: random.Random) -> int:
    """Move ``delay_ns`` by at most the share ``jitter`` of it, to either side."""
    spread = int(delay_ns * jitter)
    return delay_ns + rng.randint(-spread, spread)


def expired(expires_ns: int, now_ns: int) -> bool:
    """Say whether a delivery's time is over."""
    return now_ns >= expires_ns
