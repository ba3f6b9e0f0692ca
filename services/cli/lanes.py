"""Grow the lane map, and move the lanes that the configuration puts elsewhere. Pure.

A lane that is in force keeps its partition, unless ``[lanes]`` names another: then the two hand it over between them. A lane that is new
(a provider, a smart host) begins where the map in force already sends its mail, so that no (limit key, slot) pair ever has two deciders.
A provider whose site bucket has moved gets none: who holds the bucket now only its partitions know, and they decide about both as one.
Lanes that the configuration no longer names stay: mail that was rolled up before may still wait there.
"""

from dataclasses import dataclass

import msgspec

from shared.records.lanemap import LaneMap, moved, propose
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
    partitions = settings.kafka.partitions
    wanted = propose(1, partitions, settings.providers, smarthosts)
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
    grown = msgspec.structs.replace(current, lanes=current.lanes | added)
    refused = _unknown(grown, settings)
    if refused is not None:
        return refused
    moving = [lane for lane, part in settings.lanes.items() if grown.partition(lane) != part]
    if not added and not moving:
        return AsItIs(current)
    return Grown(moved(grown, settings.lanes), tuple(added), tuple(moving))


def _added(current: LaneMap, settings: Settings, smarthosts: list[str]) -> dict[str, int]:
    """Give the lanes that ``current`` lacks, where it sends their mail."""
    added = {f"smarthost:{name}": current.lane(None, None, "", name) for name in sorted(smarthosts)}
    for name in sorted(settings.providers):
        bucket = current.lane(name, None, name)
        if bucket not in current.origins:
            added[f"provider:{name}"] = bucket
    return {
        lane: current.partition(place) for lane, place in added.items() if lane not in current.lanes
    }


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
