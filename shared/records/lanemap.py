"""The lane map: which partition decides about a delivery. A versioned record in mail.control, pure to evaluate.

lane = (provider, or one of the site buckets, or a smart host) x slot group. A slot group is 128 slots; a pool lies in one of them, or is
split over several by the weight of its sources there, and a recipient's mail then always goes to the same one. Lanes of one provider or
bucket never share a slot, so a (limit key, slot) pair has one deciding partition, and its limiter is local and exact. The first group has
no number in a lane's name (``provider:gmail``, ``provider:gmail@1``, ``site:3@1``); a smart host is in none.

A partition grants only for lanes that its version of the map gives it, and that it holds: a lane that moves is handed over by the one
that had it (``services.scheduler.policy.lanes``).
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

import msgspec

from shared.records.codec import Record

#: Slots of one slot group.
SLOTS_PER_GROUP: Final = 128
# Of so many sites it is remembered where they are spread to: a scheduler asks it for each delivery and each look.
_KNOWN: Final = 16_384


def group_of(slot: int) -> int:
    """Name the slot group of a slot."""
    return slot // SLOTS_PER_GROUP


class LaneMap(Record, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="lanemap"):
    """Say who decides; ``lanes`` names every lane's partition."""

    version: int
    partitions: int
    buckets: int = 8
    lanes: dict[str, int]
    #: Lane -> the partition that decided before it ever moved: whoever remembers nothing of a lane that is listed here begins with this.
    origins: dict[str, int] = msgspec.field(default_factory=dict)
    #: Pool -> slot group -> weight, of those that do not lie in the first group alone.
    pools: dict[str, dict[int, int]] = msgspec.field(default_factory=dict)

    def group(self, pool: str, recipient: str) -> int:
        """Say from which slot group a recipient's mail goes: another weight, or another group, moves as few as it must."""
        only = self.only_group(pool)
        if only is not None:
            return only
        weights = self.pools[pool]

        def score(group: int) -> float:
            chance = (_hash(f"{group}/{recipient}") + 1) / (1 << 64)
            return -weights[group] / math.log(chance) if chance < 1 else math.inf

        return max(weights, key=score)

    def only_group(self, pool: str) -> int | None:
        """Name the slot group that a pool lies in; None: it is split over several."""
        weights = self.pools.get(pool)
        if weights is None:
            return 0
        return next(iter(weights)) if len(weights) == 1 else None

    @property
    def groups(self) -> frozenset[int]:
        """Name the slot groups that there are lanes of."""
        return frozenset(map(group_in, self.lanes))

    def lane(
        self,
        provider: str | None,
        site: str | None,
        domain: str,
        smarthost: str | None = None,
        group: int = 0,
    ) -> str:
        """Name the lane; a site that is not resolved yet goes by the hash of its domain.

        A provider that this map does not know is treated as one site, so that an old map still routes, and all of it to one decider.
        """
        if smarthost is not None:
            return f"smarthost:{smarthost}"
        of_provider = in_group(f"provider:{provider}", group)
        if provider is not None and of_provider in self.lanes:
            return of_provider
        return in_group(f"site:{_spread(provider or site or domain, self.buckets)}", group)

    def lane_of(self, limit_key: str, group: int = 0) -> str:
        """Name the lane in which a limit key is decided about for a slot group.

        What counts over all sites of a bucket goes by the bucket's own name.
        """
        if limit_key.startswith("smarthost:"):
            return limit_key
        if limit_key.startswith("site:"):
            return in_group(limit_key, group)
        return self.lane(limit_key, None, limit_key, group=group)

    def in_lane(self, limit_key: str, lane: str) -> bool:
        """Say whether a limit key is decided about in ``lane``, for the slot group of that."""
        return self.lane_of(limit_key, group_in(lane)) == lane

    def began(self, lane: str) -> int:
        """Say which partition had ``lane`` before it ever moved."""
        origin = self.origins.get(lane)
        return self.partition(lane) if origin is None else origin

    def partition(self, lane: str) -> int:
        """Say which partition decides for ``lane``; one that the map does not list goes by its hash."""
        known = self.lanes.get(lane)
        return _spread(lane, self.partitions) if known is None else known


def propose(
    version: int,
    partitions: int,
    providers: Iterable[str],
    smarthosts: Iterable[str],
    buckets: int = 8,
    pools: Mapping[str, Mapping[int, int]] | None = None,
) -> LaneMap:
    """Spread the lanes over the partitions evenly, the same way for the same input; ``pools``: as in the map."""
    found = {pool: dict(weights) for pool, weights in (pools or {}).items()}
    bases = [f"provider:{name}" for name in sorted(providers)]
    bases += [f"site:{bucket}" for bucket in range(buckets)]
    names = [*bases, *(f"smarthost:{name}" for name in sorted(smarthosts))]
    for group in sorted({group for weights in found.values() for group in weights} - {0}):
        names += [in_group(base, group) for base in bases]
    lanes = {name: index % partitions for index, name in enumerate(names)}
    return LaneMap(
        version=version, partitions=partitions, buckets=buckets, lanes=lanes, pools=found
    )


def group_in(lane: str) -> int:
    """Name the slot group of a lane by the lane's name."""
    _, mark, group = lane.rpartition("@")
    return int(group) if mark else 0


def in_group(lane: str, group: int) -> str:
    """Name the lane of a slot group by that of the first."""
    return f"{lane}@{group}" if group else lane


def moved(current: LaneMap, wanted: Mapping[str, int]) -> LaneMap:
    """Give the next version, in which the lanes of ``wanted`` are where it says."""
    leaving = [lane for lane, partition in wanted.items() if current.partition(lane) != partition]
    origins = {lane: current.began(lane) for lane in leaving}
    return msgspec.structs.replace(
        current,
        version=current.version + 1,
        lanes={**current.lanes, **wanted},
        origins=current.origins | origins,
    )


@lru_cache(_KNOWN)
def _spread(text: str, over: int) -> int:
    return _hash(text) % over


def _hash(text: str) -> int:
    # Not hash(): it differs from process to process.
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
