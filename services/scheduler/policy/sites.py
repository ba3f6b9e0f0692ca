"""Limits of one site of a provider: some of its MX hosts want less than all of them may have. Pure.

They count by themselves, beside the pair's, so they can only lower: ``rate`` for each slot, ``total_rate`` over all. The mail of a site
that has one of these waits in a group of its own. As for all that is counted away from the wire, an attempt starts within
``total_window`` of its tokens (``limits``). What a slot's connections to the site may be (``Wire``) goes with the grants: the sender
keeps it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from services.scheduler.policy import limits
from services.scheduler.policy.totals import Totals
from shared.records.grant import Grant
from shared.runtime.settings import LimitRow, Rate, Settings

# A token may lie so far ahead that a round finds work until the next one.
_AHEAD_NS: Final = 100_000_000


@dataclass(frozen=True, slots=True)
class Start:
    """The attempt starts within these."""

    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True)
class Wire:
    """What a slot's connections to a site may be; 0: nothing of its own."""

    connections: int
    messages_per_connection: int
    connect_spacing_ns: int
    connect_burst: int

    def on(self, grant: Grant) -> Grant:
        """Let a grant carry it, beside what the pair may."""
        most, own = grant.messages_per_connection, self.messages_per_connection
        return replace(
            grant,
            messages_per_connection=min(most, own) if own else most,
            site_connections=self.connections,
            site_connect_spacing_ns=self.connect_spacing_ns,
            site_connect_burst=self.connect_burst,
        )


class Sites:
    """All of one partition."""

    def __init__(self, settings: Settings, totals: Totals, deciders: int) -> None:
        """Spend from ``totals``; between so many partitions is what counts over all slots divided."""
        self._totals, self._window_ns = totals, settings.timing.total_window_ns
        self._providers = settings.providers
        spread = limits.spread_ns(self._window_ns, settings.timing.skew_ns)
        #: Site -> its rates: for each slot, and over all.
        self._rows: dict[str, tuple[Rate | None, Rate | None]] = {}
        #: Site -> what goes with the grants.
        self.wires: dict[str, Wire] = {}
        for name, row in settings.limits.items():
            if "/" in name or name in settings.providers:
                continue
            wire = _wire(row)
            if name != "default" and wire is not None:
                self.wires[name] = wire
            rate, total = row.rate, row.total_rate
            if name != "default" and (rate is not None or total is not None):
                self._rows[name] = (
                    None if rate is None else limits.widened(rate, spread),
                    None
                    if total is None
                    else limits.widened(limits.divided(total, deciders), spread),
                )

    def of(self, limit_key: str, site: str | None) -> str:
        """Name the site, if mail to it under a provider's limits has some of its own; empty: it has none."""
        own = site is not None and limit_key in self._providers and site in self._rows
        return site or "" if own else ""

    def wired(self, grant: Grant) -> Grant:
        """Let a grant for mail to a provider carry what its connections to the site may be."""
        wire = self.wires.get(grant.site)
        if wire is None or grant.limit_key not in self._providers:
            return grant
        return wire.on(grant)

    def rate(self, name: str) -> Rate | None:
        """Give the rate of one of the limiters that are named here."""
        _, kind, site = name.partition("/site:")
        site, _, slot = site.partition("#")
        if not kind or site not in self._rows:
            return None
        rate, total = self._rows[site]
        return rate if slot else total

    def earliest(self, limit_key: str, site: str, slot: int, now_ns: int) -> tuple[int, str]:
        """Say when a slot may take one more, ``now_ns`` or later, and what keeps it until then."""
        open_ns, why = now_ns, ""
        for name, rate, reason in self._limits(limit_key, site, slot):
            at = self._totals.earliest(name, rate, now_ns)
            if at > now_ns + _AHEAD_NS and at > open_ns:
                open_ns, why = at, reason
        return open_ns, why

    def pace(self, limit_key: str, site: str, slot: int, now_ns: int) -> tuple[int, int]:
        """Say from when on a slot may send, and the time between two; of what counts over all, as if it were alone."""
        first, interval = now_ns, 0
        for name, rate, _ in self._limits(limit_key, site, slot):
            first = max(first, self._totals.earliest(name, rate, now_ns))
            interval = max(interval, limits.interval_ns(rate))
        return first, interval

    def spend(self, limit_key: str, site: str, slot: int, now_ns: int) -> Start:
        """Spend the tokens of an attempt that ``earliest`` allows now."""
        first, last = now_ns, None
        for name, rate, _ in self._limits(limit_key, site, slot):
            at = self._totals.earliest(name, rate, now_ns)
            self._totals.spend(name, rate, at)
            end = at + self._window_ns
            first, last = max(first, at), end if last is None else min(last, end)
        return Start(first, first + self._window_ns if last is None else last)

    def _limits(self, limit_key: str, site: str, slot: int) -> Iterator[tuple[str, Rate, str]]:
        rate, total = self._rows[site]
        if rate is not None:
            yield f"{limit_key}/site:{site}#{slot}", rate, "rate"
        if total is not None:
            yield f"{limit_key}/site:{site}", total, "total_rate"


def _wire(row: LimitRow) -> Wire | None:
    connects = row.connection_rate
    if row.connections is None and row.messages_per_connection is None and connects is None:
        return None
    return Wire(
        row.connections or 0,
        row.messages_per_connection or 0,
        0 if connects is None else limits.interval_ns(connects),
        1 if connects is None else connects.burst,
    )
