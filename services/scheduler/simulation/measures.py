"""What is counted while a simulation runs: by provider, by tenant, by source and day, and by minute for the plot.

**Fairness** is looked at minute by minute: of the tenants that had mail of one class waiting for one provider and pool at both ends of the
minute, Jain's index of what each was granted in it, (sum x)^2 / (n * sum x^2), 1 where all got the same. Minutes with few grants say
nothing and are left out.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from services.scheduler.policy.decisions import Granted
from shared.records.delivery import Delivery
from shared.records.event import Event
from shared.records.grant import Grant

MINUTE_NS: Final = 60_000_000_000
_DAY_NS: Final = 86_400_000_000_000
#: A tenant's part of a minute must be so many on average: one more or less is no unfairness.
_LEAST: Final = 10

#: Limit key, pool, class.
Where = tuple[str, str, str]


@dataclass(slots=True)
class Flow:
    """What comes for one provider by one pool, and when it has gone; both in the order of time."""

    arrivals: "array[int]" = field(default_factory=lambda: array("q"))
    #: When each delivery ended that the provider took or refused for good.
    settled: "array[int]" = field(default_factory=lambda: array("q"))


@dataclass(slots=True)
class Served:
    """One provider, or site."""

    arrived: int = 0
    #: Kind of the final event -> how many.
    ended: Counter[str] = field(default_factory=Counter)
    deferred: int = 0
    by_pool: defaultdict[str, Flow] = field(default_factory=lambda: defaultdict(Flow))
    #: Ages of what was delivered, seconds.
    ages: "array[float]" = field(default_factory=lambda: array("f"))
    #: At the end of each minute: delivered so far, and waiting.
    delivered: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)

    @property
    def open(self) -> int:
        """Count what has not ended."""
        return self.arrived - self.ended.total()


@dataclass(slots=True)
class Measures:
    """Everything that is counted."""

    start_ns: int
    served: defaultdict[str, Served] = field(default_factory=lambda: defaultdict(Served))
    #: (limit key, slot, UTC day since the epoch) -> attempts begun.
    begun: Counter[tuple[str, int, int]] = field(default_factory=Counter)
    #: Jain's index of each minute that had a say, with its grants.
    jain: list[tuple[float, int]] = field(default_factory=list)
    rounds: int = 0
    grants: int = 0
    _minute: int = 0
    _due: defaultdict[Where, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _granted: defaultdict[Where, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _had: dict[Where, frozenset[str]] = field(default_factory=dict)

    def arrived(self, key: str, delivery: Delivery) -> None:
        """Count a delivery that is taken in."""
        served = self.served[key]
        served.arrived += 1
        served.by_pool[delivery.pool].arrivals.append(delivery.accepted_ns)
        self._due[key, delivery.pool, delivery.class_][delivery.tenant] += 1

    def granted(self, each: Granted) -> None:
        """Count a grant."""
        self.grants += 1
        delivery, grant = each.delivery, each.grant
        if grant.n == 1:
            where = grant.limit_key, delivery.pool, delivery.class_
            self._due[where][grant.tenant] -= 1
            self._granted[where][grant.tenant] += 1

    def began(self, now_ns: int, grant: Grant) -> None:
        """Count an attempt that begins."""
        self.begun[grant.limit_key, grant.slot, now_ns // _DAY_NS] += 1

    def heard(self, now_ns: int, events: Iterable[Event]) -> None:
        """Count what is said of deliveries."""
        for event in events:
            served = self.served[event.provider or event.site or ""]
            if not event.final:
                served.deferred += 1
                continue
            served.ended[event.type] += 1
            if event.type in ("delivered", "bounced"):
                served.by_pool[event.pool].settled.append(now_ns)
            if event.type == "delivered":
                served.ages.append(event.age_s or 0.0)

    def pass_to(self, now_ns: int) -> None:
        """End the minutes that are over."""
        while self.start_ns + (self._minute + 1) * MINUTE_NS <= now_ns:
            self._end_minute()
            self._minute += 1

    def _end_minute(self) -> None:
        for served in self.served.values():
            missing = self._minute - len(served.delivered)
            served.delivered += [0] * missing
            served.waiting += [0] * missing
            served.delivered.append(served.ended["delivered"])
            served.waiting.append(served.open)
        have = {
            where: frozenset(tenant for tenant, count in due.items() if count > 0)
            for where, due in self._due.items()
        }
        for where, granted in self._granted.items():
            both = have.get(where, frozenset()) & self._had.get(where, frozenset())
            self._judge([granted[tenant] for tenant in both])
        self._granted.clear()
        self._had = have

    def _judge(self, counts: list[int]) -> None:
        total = sum(counts)
        if len(counts) < 2 or total < _LEAST * len(counts):  # noqa: PLR2004 - fairness is between two
            return
        self.jain.append((jain(counts), total))


def jain(counts: list[int]) -> float:
    """Give Jain's index: 1 where all are the same, 1/n where one has all."""
    squares = sum(count * count for count in counts)
    return sum(counts) ** 2 / (len(counts) * squares) if squares else 1.0


def by_day(begun: Mapping[tuple[str, int, int], int]) -> dict[tuple[str, int], list[int]]:
    """Give each pair's attempts day after day."""
    found: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for (key, slot, _), count in sorted(begun.items()):
        found[key, slot].append(count)
    return dict(found)
