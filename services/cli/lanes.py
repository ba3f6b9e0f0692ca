"""Grow the lane map so that nothing moves. Pure.

Lanes do not change hands yet: a lane that is in force keeps its partition, whatever the configuration says. A lane that is new (a
provider, a smart host) begins where the map in force already sends its mail, so that no (limit key, slot) pair ever has two deciders.
Lanes that the configuration no longer names stay: mail that was rolled up before may still wait there.
"""

from dataclasses import dataclass

import msgspec

from shared.records.lanemap import LaneMap, propose
from shared.runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class AsItIs:
    """The map in force has every lane already."""

    current: LaneMap


@dataclass(frozen=True, slots=True)
class Grown:
    """A new version; ``added`` names its new lanes."""

    proposal: LaneMap
    added: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """No map can be given without moving lanes."""

    reason: str


def grow(current: LaneMap | None, settings: Settings) -> AsItIs | Grown | Refused:
    """Say which map follows ``current`` under this configuration."""
    smarthosts = [s.name for s in settings.sources.values() if s.kind == "smarthost"]
    partitions = settings.kafka.partitions
    wanted = propose(1, partitions, settings.providers, smarthosts)
    if current is None:
        return Grown(wanted, tuple(wanted.lanes))
    if current.partitions != partitions:
        return Refused(
            f"kafka.partitions is {partitions}, and the lane map in force (version {current.version}) was made for "
            f"{current.partitions}: lanes cannot move to other partitions yet; set kafka.partitions = {current.partitions}"
        )
    added = {
        f"provider:{name}": current.partition(current.lane(name, None, name))
        for name in sorted(settings.providers)
    }
    added |= {
        f"smarthost:{name}": current.partition(current.lane(None, None, "", name))
        for name in sorted(smarthosts)
    }
    added = {lane: part for lane, part in added.items() if lane not in current.lanes}
    if not added:
        return AsItIs(current)
    proposal = msgspec.structs.replace(
        current, version=current.version + 1, lanes=current.lanes | added
    )
    return Grown(proposal, tuple(added))
