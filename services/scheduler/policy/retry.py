"""Say when a delivery is tried again, and whether. Pure.

The schedule is the class's; its last delay repeats until the delivery expires. Jitter spreads what
failed together, to both sides, so that the schedule's mean is what the operator wrote.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from shared.records.event import EventType
from shared.records.outcome import Outcome
from shared.records.state import DeliveryState
from shared.runtime.settings import Settings

# After so many refusals by greylisting from one address, another may try (DESIGN 6).
_GREYLIST_REFUSALS = 3


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Another attempt, not before ``due_ns``."""

    due_ns: int


@dataclass(frozen=True, slots=True)
class Keep:
    """Hold it for an operator."""


@dataclass(frozen=True, slots=True)
class Finish:
    """End it with this event."""

    kind: EventType


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


def after_deferral(
    entry: DeliveryState,
    outcome: Outcome | None,
    now_ns: int,
    settings: Settings,
    rng: random.Random,
) -> int:
    """Count the deferral on ``entry`` and say when it may be tried again."""
    policy = settings.classes[entry.class_]
    entry.pinned, least = None, 0
    if outcome is not None and outcome.category == "greylist":
        entry.refusals += 1
        # Greylisting knows (address, sender, recipient): another address would begin anew.
        entry.pinned = outcome.slot if entry.refusals < _GREYLIST_REFUSALS else None
        least = settings.timing.greylist_min_ns
    delay = next_delay(policy.retry, policy.jitter, entry.steps, rng, least_ns=least)
    entry.steps += 1
    return now_ns + delay


def after_unknown(
    entry: DeliveryState, now_ns: int, settings: Settings, rng: random.Random
) -> TryAgain | Keep | Finish:
    """Count the unknown outcome on ``entry`` and say what its class's policy makes of it."""
    policy = settings.classes[entry.class_].unknown
    entry.unknowns += 1
    if policy.policy == "hold":
        return Keep()
    if policy.policy == "assume_sent" or (
        policy.retry is not None and entry.unknowns > policy.retry
    ):
        return Finish("unknown")
    return TryAgain(now_ns + jittered(policy.delay_ns, settings.classes[entry.class_].jitter, rng))
