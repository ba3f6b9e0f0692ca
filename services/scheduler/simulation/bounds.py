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
from services.scheduler.simulation.models import Model, Quota
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

    @property
    def ratio(self) -> float | None:
        """Say how much longer it took; 1.0 is the best possible."""
        return None if self.took_ns is None else self.took_ns / self.best_ns


def tap(settings: Settings, key: str, pool: Pool, model: Model, domains: int) -> Tap:
    """Open the tap of ``pool`` at ``key``, for mail of so many sending domains."""
    per_s, windows = 0.0, []
    for name in _warm(settings, pool):
        limit = resolve(settings, key, name).limit()
        most = min(
            model.messages_per_connection or limit.messages_per_connection,
            limit.messages_per_connection,
        )
        lines = min(limit.connections, model.connections)
        rate = lines * _S / (model.answer_ns + model.connect_ns / most)
        per_s += rate if limit.rate is None else min(rate, _per_s(limit.rate))
        if limit.total_rate is not None:
            windows = [(limit.total_rate.count, limit.total_rate.period_ns)]
    windows += [_window(quota, len(_warm(settings, pool)), domains) for quota in model.quotas]
    return Tap(_S / per_s, tuple(windows))


def _warm(settings: Settings, pool: Pool) -> list[str]:
    """Name the sources that send all they may; what those bring that are being warmed up is little, or all there is."""
    warm = [name for name in pool.sources if settings.sources[name].warmup not in settings.warmups]
    return warm or list(pool.sources)


def _per_s(rate: Rate) -> float:
    return rate.count * _S / rate.period_ns


def _window(quota: Quota, sources: int, domains: int) -> tuple[int, int]:
    return quota.count * (sources if quota.scope == "source" else domains), quota.period_ns


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


def drain(flow: Flow, tap_: Tap, late_ns: int) -> Drain | None:
    """Find the longest drain of ``flow`` and say how long it took; None: there was no backlog."""
    done = best(flow.arrivals, tap_, late_ns)
    first, longest = 0, (0, 0, 0)
    for number, at in enumerate(done):
        if flow.arrivals[number] + late_ns >= at:
            first = number
        longest = max(longest, (at - flow.arrivals[first], first, number))
    best_ns, first, last = longest
    if best_ns - late_ns < _LEAST_NS:
        return None
    wanted = (first * 100 + (last - first + 1) * _MOST_OF) // 100
    reached = flow.settled[wanted - 1] if wanted <= len(flow.settled) else None
    began = flow.arrivals[first]
    best_ns = done[max(first, wanted - 1)] - began
    return Drain(last - first + 1, best_ns, None if reached is None else reached - began)
