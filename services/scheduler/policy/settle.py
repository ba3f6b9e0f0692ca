"""What follows a deferral or an unknown outcome: pure; counts on the delivery's state, and the time of the next try."""

import random
from dataclasses import dataclass

from services.scheduler.policy import retry
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


def deferred(
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
    delay = retry.next_delay(policy.retry, policy.jitter, entry.steps, rng, least_ns=least)
    entry.steps += 1
    return now_ns + delay


def unknown(
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
    return TryAgain(
        now_ns + retry.jittered(policy.delay_ns, settings.classes[entry.class_].jitter, rng)
    )
