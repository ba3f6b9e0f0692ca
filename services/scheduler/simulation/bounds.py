"""How fast a backlog could go at best: what no policy can beat under the configuration's limits and the provider's quotas.

All sources of a pool are taken as one tap that never errs: message k is done no earlier than it arrived, than the one before it and the
time of one message over all connections, and than one period after the message that is a whole quota before it. Bounds that cross
pools (a domain's quota, a total) count for each pool as if it had them alone; a site that has to grow is taken as grown.

A **drain** is the longest time in a row in which that tap would have been busy: as many messages, from when its first one arrived.
"""

from array import array
from dataclasses import dataclass
from typing import Final

from services.scheduler.simulation.measures import Flow
from services.scheduler.simulation.models import Model
from shared.runtime.layers import resolve
from shared.runtime.settings import Pool, Rate, Settings

_S: Final = 1_000_000_000
#: Shorter ones say nothing about a limit.
_LEAST_NS: Final = 60 * _S
#: So many of a hundred must have gone: a few are deferred for reasons of their own.
_MOST_OF: Final = 98


@dataclass(frozen=True, slots=True)
class Tap:
    """What the sources of a pool may send to one provider, together."""

    #: Between two messages.
    interval_ns: float
    #: At most so many in any window of so long.
    windows: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Drain:
    """One backlog: how long it took, and would have taken at best, ns."""

    messages: int
    best_ns: int
    #: None: it had not gone when the simulation ended.
    took_ns: int | None
    #: At best for one who must be warned before he knows (``lessons``).
    warned_ns: int = 0

    @property
    def ratio(self) -> float | None:
        """Say how much longer it took; 1.0 is the best possible."""
        return None if self.took_ns is None else self.took_ns / self.best_ns

    @property
    def warned_ratio(self) -> float | None:
        """Say how much longer it took than if one warning of each source had told all that there is to know."""
        if self.took_ns is None or not self.warned_ns:
            return None
        return self.took_ns / self.warned_ns


def tap(settings: Settings, key: str, pool: Pool, model: Model, domains: int) -> Tap:
    """Open the tap of ``pool`` at ``key``, for mail of so many sending domains."""
    names = warm(settings, pool)
    per_s = sum(per_second(settings, key, name, model) for name in names)
    windows = shared(settings, key, pool, model, domains)
    own = (
        (quota.count * len(names), quota.period_ns)
        for quota in model.quotas
        if quota.scope == "source"
    )
    return Tap(_S / per_s, (*windows, *own))


def warm(settings: Settings, pool: Pool) -> list[str]:
    """Name the sources that send all they may; what those bring that are being warmed up is little, or all there is."""
    found = [name for name in pool.sources if settings.sources[name].warmup not in settings.warmups]
    return found or list(pool.sources)


def per_second(settings: Settings, key: str, name: str, model: Model) -> float:
    """Give what one source may send by its rate, and by its connections."""
    limit = resolve(settings, key, name).limit()
    most = min(
        model.messages_per_connection or limit.messages_per_connection,
        limit.messages_per_connection,
    )
    lines = min(limit.connections, model.connections)
    rate = lines * _S / (model.answer_ns + model.connect_ns / most)
    return rate if limit.rate is None else min(rate, _per_s(limit.rate))


def shared(
    settings: Settings, key: str, pool: Pool, model: Model, domains: int
) -> tuple[tuple[int, int], ...]:
    """Give the windows that hold for all sources together: a total, and what is counted by sending domain."""
    found = []
    for name in warm(settings, pool)[:1]:
        total = resolve(settings, key, name).limit().total_rate
        found += [] if total is None else [(total.count, total.period_ns)]
    found += [
        (quota.count * domains, quota.period_ns)
        for quota in model.quotas
        if quota.scope == "domain"
    ]
    return tuple(found)


def _per_s(rate: Rate) -> float:
    return rate.count * _S / rate.period_ns


def best(arrivals: "array[int]", tap_: Tap, late_ns: int) -> "array[int]":
    """Give when each message would be done, ns, each ``late_ns`` after it arrived at the earliest."""
    done = array("q")
    free = 0.0
    for number, arrived in enumerate(arrivals):
        at = max(float(arrived + late_ns), free)
        for count, period in tap_.windows:
            if number >= count:
                at = max(at, done[number - count] + period)
        done.append(int(at))
        free = at + tap_.interval_ns
    return done


def drain(flow: Flow, tap_: Tap, late_ns: int, warned: "array[int] | None" = None) -> Drain | None:
    """Find the longest drain of ``flow`` and say how long it took; None: there was no backlog.

    ``warned``: when each message would be done at best by one who must be warned first.
    """
    done = best(flow.arrivals, tap_, late_ns)
    first, longest = 0, (0, 0, 0)
    for number, at in enumerate(done):
        if flow.arrivals[number] + late_ns >= at:
            first = number
        longest = max(longest, (at - flow.arrivals[first], first, number))
    best_ns, first, last = longest
    if best_ns - late_ns < _LEAST_NS:
        return None
    wanted = max(first + 1, (first * 100 + (last - first + 1) * _MOST_OF) // 100)
    reached = flow.settled[wanted - 1] if wanted <= len(flow.settled) else None
    began = flow.arrivals[first]
    best_ns = done[wanted - 1] - began
    if best_ns < _LEAST_NS:
        return None
    return Drain(
        last - first + 1,
        best_ns,
        None if reached is None else reached - began,
        0 if warned is None else max(best_ns, warned[wanted - 1] - began),
    )
