"""What a configuration allows less of than its reader would think, though nothing in it is wrong: said by `postyard config check`. Pure."""

import ipaddress
from collections.abc import Iterator
from typing import Final

from shared.net.guard import Guard
from shared.records.lanemap import LaneMap
from shared.runtime.files import shown
from shared.runtime.limitrules import slot_groups
from shared.runtime.quantities import rate_text
from shared.runtime.settings import Rate, Settings

#: The buckets that sites are spread over: a map begins with so many.
_BUCKETS: Final = LaneMap(version=1, partitions=1, lanes={}).buckets
_MIN_NS: Final = 60 * 1_000_000_000


def remarks(settings: Settings) -> Iterator[str]:
    """Give them, each with the path of its setting."""
    yield from _spills(settings)
    yield from _classes(settings)
    yield from _routes(settings)
    yield from _totals(settings)


def _spills(settings: Settings) -> Iterator[str]:
    groups = max(1, slot_groups(settings))
    for name, pool in settings.pools.items():
        if pool.spill is not None and settings.smarthost(name) is None:
            part = pool.spill.daily // groups
            if part < _BUCKETS:
                yield (
                    f"pools.{shown(name)}.spill.daily: sites that no provider runs are spread over {_BUCKETS} buckets, and of "
                    f"{_BUCKETS - part} of these nothing spills: that takes {_BUCKETS * groups} a day"
                )


def _classes(settings: Settings) -> Iterator[str]:
    for name, policy in settings.classes.items():
        if policy.retry[0] >= policy.expires_ns:
            yield f"classes.{name}.retry: the first is no sooner than the end (expires), so nothing is tried again"
        if policy.urgent_ns >= policy.expires_ns:
            yield f"classes.{name}.urgent: all mail expires within it, so all of it goes before its tenant's turn"


def _routes(settings: Settings) -> Iterator[str]:
    guard = Guard.of(settings.net, ())
    for pattern, route in settings.routes.items():
        refused = [guard.refusal(host) for host, _ in route.to if _literal(host)]
        if len(refused) == len(route.to) and None not in refused:
            yield f"routes.{shown(pattern)}.to: nothing goes there unless net.allow says so: {refused[0]}"


def _totals(settings: Settings) -> Iterator[str]:
    addresses = sum(1 for source in settings.sources.values() if source.address)
    for name, row in settings.limits.items():
        total = row.total_rate
        if total is not None and total.count < addresses and _divided(name, total):
            at_most = total.count * _MIN_NS // (total.period_ns + _spread_ns(settings))
            yield (
                f"limits.{shown(name)}.total_rate: {rate_text(total)} is less than one for each of {addresses} addresses, so it is kept "
                f"by a start window, which leaves about {at_most} a minute: say it per minute or longer"
            )


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _divided(name: str, total: Rate) -> bool:
    """Say whether a total is one that would be divided between the addresses."""
    return total.period_ns < _MIN_NS and "/" not in name and not name.startswith("smarthost:")


def _spread_ns(settings: Settings) -> int:
    return settings.timing.total_window_ns + 2 * settings.timing.skew_ns
