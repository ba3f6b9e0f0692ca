"""What operators' orders make of limits: `limit` says what holds, `slow` leaves a part of what holds else. Pure.

The layer above all others (``shared.runtime.layers``). Where several orders are about the same pair, the strictest of each field holds,
and the smallest part. What is ordered of a tenant takes the place of its own row; `slow` leaves a part of that, or of the row: one that
has neither has nothing of which a part could be taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from shared.records.control import Directive, OrderedRate
from shared.runtime.layers import Order, stricter
from shared.runtime.settings import ByteRate, Limit, LimitRow, Rate, Settings

R = TypeVar("R", bound=Rate)
_ALL = 100


@dataclass(frozen=True, slots=True)
class Overruled:
    """What orders say of one pair."""

    #: None: nothing is said.
    order: Order | None = None
    #: Of what holds else, in percent.
    percent: int = _ALL

    def __bool__(self) -> bool:
        """Say whether they say anything."""
        return self.order is not None or self.percent != _ALL

    def slowed(self, limit: Limit) -> Limit:
        """Leave the part of ``limit`` that is to be used: longer periods, fewer connections, one at least."""
        if self.percent == _ALL:
            return limit
        total = limit.total_connections
        return replace(
            limit,
            rate=self._part(limit.rate),
            total_rate=self._part(limit.total_rate),
            connection_rate=self._part(limit.connection_rate),
            bytes=self._part(limit.bytes),
            start_rate=self._part(limit.start_rate),
            connections=max(1, limit.connections * self.percent // _ALL),
            total_connections=None if total is None else max(1, total * self.percent // _ALL),
        )

    def _part(self, rate: R | None) -> R | None:
        return None if rate is None else self.part(rate)

    def part(self, rate: R) -> R:
        """Leave the part of a rate that is to be used."""
        return replace(rate, period_ns=-(-rate.period_ns * _ALL // self.percent))


NOTHING = Overruled()


def overruled(orders: Sequence[Directive], key: str, source: str) -> Overruled:
    """Say what ``orders`` make of the limits of a limit key from a source."""
    row, ids, percent = LimitRow(), [], _ALL
    for order in orders:
        if order.provider not in (None, key) or order.source not in (None, source):
            continue
        if order.tenant is not None:
            continue  # It counts by itself, beside what the pair may (``tenants``).
        if order.percent is not None:
            percent = min(percent, order.percent)
        if order.rate is not None:
            row = replace(row, rate=_strictest(row.rate, _rate(order.rate)))
        if order.bytes is not None:
            bytes_ = ByteRate(order.bytes.count, order.bytes.period_ns)
            row = replace(row, bytes=_strictest(row.bytes, bytes_))
        if order.connections is not None:
            row = replace(
                row, connections=min(row.connections or order.connections, order.connections)
            )
        if order.action == "limit":
            ids.append(order.id)
    return Overruled(Order(", ".join(ids), row) if ids else None, percent)


def tenants(settings: Settings, orders: Sequence[Directive]) -> dict[str, tuple[Rate, str]]:
    """Say what ``orders`` make of tenants' limits: row, as it would be called in [limits] -> (rate, the orders' ids)."""
    found: dict[str, tuple[Rate, str]] = {}
    for order in orders:
        if order.tenant is None or order.total_rate is None:
            continue
        row = f"tenant:{order.tenant}"
        if order.provider is not None:
            row = f"{order.provider}/{row}"
        rate, ids = _rate(order.total_rate), order.id
        if row in found:
            before, others = found[row]
            rate, ids = _strictest(before, rate), f"{others}, {ids}"
        found[row] = rate, ids
    slow = [order for order in orders if order.tenant is not None and order.percent is not None]
    rates = _rows(settings) | {row: rate for row, (rate, _) in found.items()} if slow else {}
    for name, whole in rates.items():
        about = [order for order in slow if of_tenant(order, name)]
        if about:
            percent = min(order.percent or _ALL for order in about)
            said = [f"{order.id} to {order.percent}%" for order in about]
            if name in found:
                said.insert(0, found[name][1])
            found[name] = Overruled(percent=percent).part(whole), ", ".join(said)
    return found


def of_tenant(order: Directive, row: str) -> bool:
    """Say whether what is ordered of a tenant's mail is about a row of [limits]: of all its rows, or of its row at a provider."""
    key, _, which = row.rpartition("/")
    return which == f"tenant:{order.tenant}" and order.provider in (None, key)


def totals(settings: Settings, orders: Sequence[Directive]) -> dict[str, Rate]:
    """Give the total rate of each row that has one: what is ordered of a tenant takes the place of what the settings say."""
    return _rows(settings) | {name: rate for name, (rate, _) in tenants(settings, orders).items()}


def _rows(settings: Settings) -> dict[str, Rate]:
    return {
        name: row.total_rate for name, row in settings.limits.items() if row.total_rate is not None
    }


def _rate(ordered: OrderedRate) -> Rate:
    return Rate(ordered.count, ordered.period_ns, ordered.burst)


def _strictest(one: R | None, other: R) -> R:
    return other if one is None or stricter(other, one) else one
