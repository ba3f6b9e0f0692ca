"""What holds for a (limit key, slot) pair: the layers of the settings, what a site has grown to, what warnings have left. Pure.

    layers and orders -> a total is divided or widened -> (a site that nobody knows: what it has grown to) -> (after warnings: what is left)

There may be thousands of sites times thousands of sources, so what holds for all keys of which the settings say nothing is kept once.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.scheduler.policy import backoff, growth, limits, sizes
from services.scheduler.policy.sizes import Volume
from shared.records.backoff import Backoff
from shared.records.control import Directive
from shared.records.grant import SIGNATURE_BYTES
from shared.runtime.layers import resolve
from shared.runtime.overruling import NOTHING, overruled
from shared.runtime.settings import Limit, Rate, Settings
from shared.runtime.workings import Timing

_S: Final = 1_000_000_000
#: A grant may lie this far ahead: the sender then has work while a round is under way.
HORIZON_NS: Final = 2 * _S
#: Open grants of one slot.
SLOT_GRANTS: Final = 2_000
# A total over slots with a shorter period than this is divided between the addresses instead (see limits).
_SHARED_BELOW_NS: Final = 60 * _S
#: Where the limits of all keys are kept of which the settings say nothing.
_UNLISTED: Final = ("", 0)


@dataclass(frozen=True, slots=True)
class PairLimit:
    """What holds for one pair, resolved over the layers."""

    rate: Rate | None
    total_rate: Rate | None
    connections: int
    messages_per_connection: int
    #: For the wire: the least time between two starts, and how many may come at once.
    spacing_ns: int
    burst: int
    credit: int
    #: The same for connections.
    connect_spacing_ns: int
    connect_burst: int
    #: Where the rate does not hold at once: what it grows towards.
    growing: Limit | None = None
    #: Of bytes.
    volume: Volume | None = None


class PairLimits:
    """Resolve the settings, each pair once."""

    def __init__(self, settings: Settings) -> None:
        """Look through the settings once: whatever they have a row for is listed."""
        self._settings = settings
        #: So many partitions at most decide about the slots of one limit key, each for a part of them.
        self.deciders = 1
        self._addresses = sum(1 for source in settings.sources.values() if source.address)
        self._added = _signatures(settings) * SIGNATURE_BYTES
        self._listed = {name.partition("/")[0] for name in settings.limits}
        self._listed |= settings.providers.keys()
        self._found: dict[tuple[str, int], PairLimit] = {}
        self._grown: dict[tuple[tuple[str, int], int], PairLimit] = {}
        self._orders: Sequence[Directive] = ()

    def overrule(self, orders: Sequence[Directive]) -> bool:
        """Let these orders, and no others, stand above the settings; False: they do already."""
        if list(orders) == list(self._orders):
            return False
        self._orders = orders
        self._found.clear()
        self._grown.clear()
        return True

    def divide(self, deciders: int) -> bool:
        """Divide totals over slots between so many; False: they are already."""
        if deciders == self.deciders:
            return False
        self.deciders = deciders
        self._found.clear()
        self._grown.clear()
        return True

    def of(self, key: str, slot: int, good: int) -> PairLimit:
        """Give what the settings say of a pair; ``good``: messages that it has taken, see ``growth``."""
        # A smart host, and where a route leads to, have a colon in their name.
        listed = key in self._listed or ":" in key or self._orders
        where = (key, slot) if listed else _UNLISTED
        found = self._found.get(where)
        if found is None:
            source = self._settings.source_of(slot)
            name = source.name if source else ""
            orders = overruled(self._orders, key, name) if self._orders else NOTHING
            resolved = resolve(self._settings, key, name, order=orders.order).limit()
            found = self._found[where] = self._made(key, orders.slowed(resolved))
        if found.growing is None:
            return found
        return self._growing(where, found, found.growing, good)

    def _growing(
        self, where: tuple[str, int], found: PairLimit, whole: Limit, good: int
    ) -> PairLimit:
        start = whole.start_rate
        if start is None or good >= growth.enough(start, whole.rate):
            return found
        limit = self._grown.get((where, good))
        if limit is None:
            now = replace(whole, rate=_tighter(whole.rate, growth.rate(start, good)))
            limit = self._grown[where, good] = replace(self._made(where[0], now), growing=whole)
        return limit

    def _made(self, key: str, limit: Limit) -> PairLimit:
        # A smart host is one lane and one source: all over its slots is what the one has.
        alone = key.startswith(limits.SMARTHOST)
        addresses, deciders = (1, 1) if alone else (self._addresses, self.deciders)
        made = _pair_limit(limit, addresses, deciders, self._settings.timing)
        if limit.bytes is None:
            return made
        timing = self._settings.timing
        spread = limits.spread_ns(timing.total_window_ns, timing.skew_ns)
        return replace(made, volume=sizes.decided(limit.bytes, spread, self._added))


def _signatures(settings: Settings) -> int:
    """Count the most signatures that a message can have: all keys of its domain."""
    keys = (Counter(key.domain for key in tenant.dkim) for tenant in settings.tenants.values())
    return max((count for domains in keys for count in domains.values()), default=0)


def _pair_limit(limit: Limit, addresses: int, deciders: int, timing: Timing) -> PairLimit:
    rate, total, connects = limit.rate, limit.total_rate, limit.connection_rate
    if total is not None and total.period_ns < _SHARED_BELOW_NS:
        part = limits.share(total, max(1, addresses))
        if part is not None:
            rate, total = _tighter(rate, part), None
    if total is not None:
        total = limits.divided(total, deciders)
        spread = limits.spread_ns(timing.total_window_ns, timing.skew_ns)
        total = limits.widened(total, spread)
    return PairLimit(
        rate=rate,
        total_rate=total,
        connections=_connections(limit, addresses),
        messages_per_connection=limit.messages_per_connection,
        spacing_ns=limits.interval_ns(rate) if rate else 0,
        burst=rate.burst if rate else 1,
        credit=_credit(rate, limit.connections),
        connect_spacing_ns=limits.interval_ns(connects) if connects else 0,
        connect_burst=connects.burst if connects else 1,
        growing=limit if limit.start_rate is not None else None,
    )


def slowed(limit: PairLimit, back: Backoff) -> PairLimit:
    """Give what is left of a limit after warnings."""
    rate, connections = limit.rate, limit.connections
    pace = backoff.pace(back)
    if pace is not None:
        learnt = limits.of_daily(pace.level)
        if rate is None or limits.interval_ns(learnt) > limits.interval_ns(rate):
            rate = learnt
    if back.connections is not None:
        connections = min(connections, back.connections.level)
    return replace(
        limit,
        rate=rate,
        connections=connections,
        spacing_ns=limits.interval_ns(rate) if rate else 0,
        burst=rate.burst if rate else 1,
        credit=_credit(rate, connections),
    )


def _credit(rate: Rate | None, connections: int) -> int:
    """Give how many grants may be open.

    Two seconds of the rate, so that a stall of the sender cannot pile up more, and never less than its connections could have under
    way: a peer that takes ten seconds for a message would else see a tenth of what it allows.
    """
    if rate is None:
        return SLOT_GRANTS
    return min(SLOT_GRANTS, max(connections, HORIZON_NS * rate.count // rate.period_ns))


def _connections(limit: Limit, addresses: int) -> int:
    """Give each address its part of a total: what is not used by one is not lent to another."""
    if limit.total_connections is None:
        return limit.connections
    return max(1, min(limit.connections, limit.total_connections // max(1, addresses)))


def _tighter(one: Rate | None, other: Rate) -> Rate:
    """Give a rate that keeps both: the one that never has more, else without a burst the wider interval."""
    if one is None:
        return other
    for less, more in ((one, other), (other, one)):
        alike = less.period_ns == more.period_ns
        if alike and less.count <= more.count and less.burst <= more.burst:
            return less
    return Rate(count=1, period_ns=max(limits.interval_ns(one), limits.interval_ns(other)), burst=1)
