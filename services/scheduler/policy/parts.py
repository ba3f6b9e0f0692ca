"""Limits of a part of the mail: a tenant's, a tenant's at one destination, a sending domain's there. A gate for whole lines. Pure.

    check(line)  ->  all of its limits have a token, or Shut(until, tenant_rate | domain_rate)
    spend(line)  ->  a token of each, and between which times the attempt must start

They count over all slots, so an attempt starts within ``total_window`` of its tokens, and the limits are widened by it (``limits``).
What is at one destination is decided about in one partition, or in one for each slot group, and divided between these; a tenant's own
total in all of them, by shares (``shares``), and so is what has less than one token for each slot group.

A token may lie a little ahead, so that a round finds work until the next one; no further, for a connection waits with what is not due.
Destinations that wait for the next token of the same limit come at a random time within that, so that each is the first as often.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from services.scheduler.policy import limits
from services.scheduler.policy.lines import Check, Line, Shut
from services.scheduler.policy.shares import Hand, crossing
from services.scheduler.policy.sites import Sites, Start
from services.scheduler.policy.totals import Totals
from shared.records.control import Directive
from shared.runtime.overruling import tenants, totals
from shared.runtime.settings import Rate, Settings

_AHEAD_NS: Final = 100_000_000
# Without a token of a limit that crosses partitions, look again within this.
_LOOK_AGAIN_NS: Final = 100_000_000


@dataclass(frozen=True, slots=True)
class _Limit:
    """One limit of a part; ``rate`` is that of its tokens."""

    name: str
    rate: Rate
    why: str
    #: It is the tenant's, whatever the line.
    whole: bool
    crosses: bool = False


@dataclass(frozen=True, slots=True)
class Bound:
    """One token in each interval, the first at ``first_ns``; for mail to all destinations, or to this one."""

    first_ns: int
    interval_ns: int
    everywhere: bool


class Parts:
    """All of one partition."""

    def __init__(self, settings: Settings, totals: Totals, hand: Hand, rng: random.Random) -> None:
        """Read the rows once; ``hand`` holds what this partition was dealt."""
        self._settings, self._totals, self._hand, self._rng = settings, totals, hand, rng
        self._window_ns = settings.timing.total_window_ns
        self._orders: Sequence[Directive] = ()
        self._ordered: dict[str, tuple[Rate, str]] = {}
        self.divide(1)

    def overrule(self, orders: Sequence[Directive]) -> None:
        """Let what operators have ordered of tenants stand above the settings."""
        ordered = tenants(self._settings, orders)
        if ordered != self._ordered:
            for name in ordered.keys() | self._ordered.keys():
                # What was dealt by another rate is not spent.
                self._totals.drop(name)
            self._orders, self._ordered = orders, ordered
            self.divide(self._deciders)

    def divide(self, deciders: int) -> None:
        """Let what is at one destination be kept by so many partitions, each of which decides about a group of slots."""
        settings, self._deciders = self._settings, deciders
        self.sites = Sites(settings, self._totals, deciders)
        spread = limits.spread_ns(self._window_ns, settings.timing.skew_ns)
        crosses = crossing(settings, self._orders)
        #: By tenant; by (limit key, tenant); by (limit key, sending domain).
        self._everywhere: dict[str, _Limit] = {}
        self._tenants: dict[tuple[str, str], _Limit] = {}
        self._domains: dict[tuple[str, str], _Limit] = {}
        for name, total in totals(settings, self._orders).items():
            key, _, rest = name.rpartition("/")
            kind, _, which = rest.partition(":")
            if kind == "tenant" and not key:
                whole = limits.widened(total, spread)
                limit = _Limit(name, whole, "tenant_rate", whole=True, crosses=name in crosses)
                self._everywhere[which] = limit
                continue
            among = 1 if name in crosses or key.startswith(limits.SMARTHOST) else deciders
            rate = limits.widened(limits.divided(total, among), spread)
            if kind in ("tenant", "domain"):
                limit = _Limit(name, rate, f"{kind}_rate", kind == "tenant", name in crosses)
                (self._tenants if kind == "tenant" else self._domains)[key, which] = limit
        self._keys = {key for key, _ in (*self._tenants, *self._domains)}

    def rate(self, name: str) -> Rate | None:
        """Give this partition's part of a row that is at one destination."""
        return self.sites.rate(name) or next(
            (
                limit.rate
                for limit in (*self._tenants.values(), *self._domains.values())
                if limit.name == name
            ),
            None,
        )

    def concern(self, limit_key: str) -> bool:
        """Say whether any row concerns mail to a destination."""
        return bool(self._everywhere) or limit_key in self._keys

    @property
    def shuts(self) -> bool:
        """Say whether there is any row of a part (``lines.Gate``)."""
        return bool(self._everywhere or self._keys)

    def at(self, limit_key: str, provider: str | None) -> Check | None:
        """Give what is asked of the lines that wait for a destination; None: no row concerns them."""
        del provider  # The key is the provider's name where there is one.
        if not self.concern(limit_key):
            return None

        def check(line: Line, now_ns: int) -> Shut | None:
            longest: Shut | None = None
            until = now_ns
            for limit in self._of(limit_key, line):
                at = self._open_ns(limit, now_ns)
                if at > until:
                    longest, until = Shut(at, limit.why, whole=limit.whole), at
            return longest

        return check

    def _open_ns(self, limit: _Limit, now_ns: int) -> int:
        """Say from when on a token may be spent; up to ``now_ns``: it may."""
        if limit.crosses:
            has = self._hand.has(limit.name, now_ns)
            return now_ns if has else now_ns + self._rng.randint(1, _LOOK_AGAIN_NS)
        at = self._totals.earliest(limit.name, limit.rate, now_ns)
        return now_ns if at <= now_ns + _AHEAD_NS else at - self._rng.randint(0, _AHEAD_NS)

    def spend(self, limit_key: str, line: Line, now_ns: int) -> Start | None:
        """Spend a token of each limit of a line that ``check`` has just let go; None: it has none."""
        first, last = now_ns, None
        for limit in self._of(limit_key, line):
            if limit.crosses:
                until = self._hand.use(limit.name, now_ns)
            else:
                until = self._totals.earliest(limit.name, limit.rate, now_ns)
                self._totals.spend(limit.name, limit.rate, until)
                first = max(first, until)
            end = until + self._window_ns
            last = end if last is None else min(last, end)
        return None if last is None else Start(first, last)

    def bounds(self, limit_key: str, line: Line, now_ns: int) -> Iterator[Bound]:
        """Give how fast the limits of a line let it go, if it is alone; of one that crosses partitions, if no other wants it."""
        for limit in self._of(limit_key, line):
            first = (
                now_ns if limit.crosses else self._totals.earliest(limit.name, limit.rate, now_ns)
            )
            everywhere = line.tenant in self._everywhere and limit is self._everywhere[line.tenant]
            yield Bound(first, limits.interval_ns(limit.rate), everywhere)

    def _of(self, limit_key: str, line: Line) -> Iterator[_Limit]:
        for found in (
            self._everywhere.get(line.tenant),
            self._tenants.get((limit_key, line.tenant)),
            self._domains.get((limit_key, line.domain)),
        ):
            if found is not None:
                yield found
