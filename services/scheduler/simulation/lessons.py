"""How fast a backlog could go at best for one whom nobody tells the quotas: who is warned once by each, and knows all from then on.

A quota that nobody publishes is known by its warning, and that has its price: for as long as the provider says, nothing of that source is
taken, and where it thinks less of the source from then on, it takes less. So the best that can be asked of a policy is: each source has
its first warning when it had it, pays for it, and never needs another; up to it, and from then on, it sends all that the quota takes, at
once and to the message. Sources that were never warned send all they may, as in ``bounds``.
"""

import heapq
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.scheduler.simulation import bounds
from services.scheduler.simulation.models import Model, Quota
from services.scheduler.simulation.receiving import Receiver, left_permille
from shared.runtime.settings import Pool, Settings

_S: Final = 1_000_000_000


@dataclass(slots=True)
class Source:
    """One source: the time between two messages, its quotas, and when each warned it first (0: never)."""

    interval_ns: float
    quotas: Sequence[tuple[Quota, int]]
    free_ns: float = 0.0
    sent: list[deque[int]] = field(default_factory=list)

    def earliest(self, from_ns: int) -> int:
        """Say when it may send the next."""
        at = max(from_ns, int(self.free_ns))
        self.sent = self.sent or [deque() for _ in self.quotas]
        for times, (quota, warned_ns) in zip(self.sent, self.quotas, strict=True):
            if warned_ns and warned_ns <= at < warned_ns + quota.stop_ns:
                at = warned_ns + quota.stop_ns
            most = quota.count
            if warned_ns and at >= warned_ns and quota.floor_permille < 1000:  # noqa: PLR2004 - of a thousand
                most = most * left_permille(quota, at - warned_ns) // 1000
            if len(times) >= most:
                at = max(at, times[-most] + quota.period_ns)
        return at

    def send(self, at_ns: int) -> None:
        """Send one."""
        self.free_ns = max(at_ns, self.free_ns) + self.interval_ns
        for times, (quota, _) in zip(self.sent, self.quotas, strict=True):
            times.append(at_ns)
            while len(times) > quota.count:
                times.popleft()


def sources(
    settings: Settings, key: str, pool: Pool, model: Model, receiver: Receiver
) -> list[Source]:
    """Give the sources of a pool with what they had to learn; none, if none was warned."""
    found, any_ = [], False
    for name in bounds.warm(settings, pool):
        warned: Mapping[int, int] = receiver.first_warnings(settings.sources[name].slot)
        quotas = [
            (quota, warned.get(number, 0))
            for number, quota in enumerate(model.quotas)
            if quota.scope == "source"
        ]
        any_ = any_ or bool(warned)
        found.append(Source(_S / bounds.per_second(settings, key, name, model), quotas))
    return found if any_ else []


def best(
    arrivals: "array[int]",
    taps: Sequence[Source],
    windows: Sequence[tuple[int, int]],
    late_ns: int,
) -> "array[int]":
    """Give when each message would be done, ns: it goes from the source that may send first."""
    done = array("q")
    free = [(0, number) for number in range(len(taps))]
    for number, arrived in enumerate(arrivals):
        at = arrived + late_ns
        for count, period in windows:
            if number >= count:
                at = max(at, done[number - count] + period)
        while True:
            _, which = free[0]
            may = taps[which].earliest(at)
            heapq.heapreplace(free, (may, which))
            if free[0][1] == which or free[0][0] >= may:
                break
        taps[which].send(may)
        done.append(may)
    return done
