"""route: which partition decides about a recipient. Pure; the look-up of its MX hosts was made before.

Only a destination that was found counts. No answer in time, no such domain and null MX all go on with ``site = None`` by the hash of
the domain: the scheduler asks again, and it is the one that bounces.
"""

from typing import NamedTuple

from shared.records.lanemap import LaneMap


class Resolved(NamedTuple):
    """Who takes a domain's mail."""

    site: str
    provider: str | None


class Routed(NamedTuple):
    """Where one recipient's delivery goes."""

    site: str | None
    provider: str | None
    partition: int


def route(
    lanes: LaneMap, domain: str, resolved: Resolved | None, smarthost: str | None, group: int = 0
) -> Routed:
    """Choose the partition; ``smarthost`` is that of the pool, where it is one; ``group``: the slot group that sends."""
    site, provider = (resolved.site, resolved.provider) if resolved is not None else (None, None)
    lane = lanes.lane(provider, site, domain, smarthost, group)
    return Routed(site, provider, lanes.partition(lane))
