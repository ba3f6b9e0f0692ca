"""Grow the lane map, and move the lanes that the configuration puts elsewhere. Pure.

A lane that is in force keeps its partition, unless ``[lanes]`` names another: then the two hand it over between them. A lane that is new
(a provider, a smart host) begins where the map in force already sends its mail, so that no (limit key, slot) pair ever has two deciders.
A provider whose site bucket has moved gets none: who holds the bucket now only its partitions know, and they decide about both as one.
Lanes that the configuration no longer names stay: mail that was rolled up before may still wait there.

Sources beyond a slot group's 128 are decided about in lanes of their own group. A group that is new begins where the first one is and is
moved on to the next partitions in the same version.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from shared.records.lanemap import LaneMap, group_in, group_of, in_group, moved, propose
from shared.runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class AsItIs:
    """The map in force has every lane already."""

    current: LaneMap


@dataclass(frozen=True, slots=True)
class Grown:
    """A new version; ``added`` names its new lanes, ``moving`` those that change hands."""

    proposal: LaneMap
    added: tuple[str, ...]
    moving: tuple[str, ...] = ()

    @property
    def news(self) -> str:
        """What it brings, for people."""
        parts = (("new", self.added), ("moving", self.moving))
        return "; ".join(f"{what}: {', '.join(lanes)}" for what, lanes in parts if lanes)


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no map that does what the configuration says."""

    reason: str


def grow(current: LaneMap | None, settings: Settings) -> AsItIs | Grown | Refused:
    """Say which map follows ``current`` under this configuration."""
    smarthosts = [s.name for s in settings.sources.values() if s.kind == "smarthost"]
    partitions, pools = settings.kafka.partitions, pools_of(settings)
    wanted = propose(1, partitions, settings.providers, smarthosts, pools=pools)
    if current is None:
        return _unknown(wanted, settings) or Grown(
            msgspec.structs.replace(wanted, lanes={**wanted.lanes, **settings.lanes}),
            tuple(wanted.lanes),
        )
    if current.partitions != partitions:
        return Refused(
            f"kafka.partitions is {partitions}, and the lane map in force (version {current.version}) was made for "
            f"{current.partitions}: the number of partitions cannot change; set kafka.partitions = {current.partitions}"
        )
    added = _added(current, settings, smarthosts)
    groups = _groups(current, added, pools)
    # A pool that nobody names any more may still have mail that waits.
    grown = msgspec.structs.replace(
        current, lanes={**current.lanes, **added, **groups}, pools=_kept(current, settings) | pools
    )
    refused = _unknown(grown, settings)
    if refused is not None:
        return refused
    changed = [lane for lane, part in settings.lanes.items() if current.partition(lane) != part]
    if groups and any(lane in current.lanes for lane in changed):
        return Refused(
            f"lanes: slot groups that are new begin where the first one is, and {', '.join(changed)} is to move: "
            "publish once without that change, then with it"
        )
    # A group that is new begins where the first one is decided about, and goes on from there at once: so its limits have one history.
    spread = {lane: _beside(grown, lane) for lane in groups if lane not in settings.lanes}
    moves = {**spread, **settings.lanes}
    moving = [lane for lane, part in moves.items() if grown.partition(lane) != part]
    if not added and not groups and not moving and grown.pools == current.pools:
        return AsItIs(current)
    return Grown(moved(grown, moves), (*added, *groups), tuple(moving))


def pools_of(settings: Settings) -> dict[str, dict[int, int]]:
    """Say how much of each pool lies in which slot group, of those that do not lie in the first alone."""
    found: dict[str, dict[int, int]] = {}
    for pool in settings.pools.values():
        weights: Counter[int] = Counter()
        for name, weight in pool.sources.items():
            weights[group_of(settings.sources[name].slot)] += weight
        if weights.keys() != {0} and settings.smarthost(pool.name) is None:
            found[pool.name] = {group: weights[group] for group in sorted(weights)}
    return found


def _kept(current: LaneMap, settings: Settings) -> dict[str, dict[int, int]]:
    return {pool: weights for pool, weights in current.pools.items() if pool not in settings.pools}


def _added(current: LaneMap, settings: Settings, smarthosts: list[str]) -> dict[str, int]:
    """Give the lanes that ``current`` lacks, where it sends their mail."""
    added = {f"smarthost:{name}": current.lane(None, None, "", name) for name in sorted(smarthosts)}
    for group in sorted(current.groups):
        for name in sorted(settings.providers):
            bucket = current.lane(name, None, name, group=group)
            if bucket not in current.origins:
                added[in_group(f"provider:{name}", group)] = bucket
    return {
        lane: current.partition(place) for lane, place in added.items() if lane not in current.lanes
    }


def _groups(
    current: LaneMap, added: Mapping[str, int], pools: Mapping[str, Mapping[int, int]]
) -> dict[str, int]:
    """Give the lanes of slot groups that ``current`` does not know, where those of the first group are decided about."""
    new = {group for weights in pools.values() for group in weights} - current.groups
    first = {
        lane: partition
        for lane, partition in {**current.lanes, **added}.items()
        if "@" not in lane and not lane.startswith("smarthost:")
    }
    return {
        in_group(lane, group): partition
        for group in sorted(new)
        for lane, partition in first.items()
    }


def _beside(grown: LaneMap, lane: str) -> int:
    """Spread the groups of a lane over the partitions."""
    return (grown.partition(lane) + group_in(lane)) % grown.partitions


def _unknown(lanes: LaneMap, settings: Settings) -> Refused | None:
    """Refuse to move what is no lane."""
    for lane in settings.lanes:
        if lane not in lanes.lanes:
            kind, _, name = lane.partition(":")
            why = f"there are {lanes.buckets} site buckets"
            if kind == "provider":
                why = f"its mail belongs to {lanes.lane(name, None, name)}, which has moved; move that"
            return Refused(f"lanes: {lane} is no lane of the map: {why}")
    return None
