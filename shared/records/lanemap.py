"""The lane map: which partition decides about a delivery. A versioned record in mail.control, pure to evaluate.

lane = (provider, or one of the site buckets, or a smart host) x slot group. Lanes of one provider or bucket never share a slot, so
a (limit key, slot) pair has one deciding partition, and its limiter is local and exact. There is one slot group now, so its number is
not part of a lane's name. A partition grants only for lanes that its version of the map gives it, and that it holds: a lane that moves is
handed over by the one that had it (``services.scheduler.policy.lanes``).
"""

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from shared.records.codec import Record


class LaneMap(Record, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="lanemap"):
    """Say who decides; ``lanes`` names every lane's partition."""

    version: int
    partitions: int
    buckets: int = 8
    lanes: dict[str, int]
    #: Lane -> the partition that decided before it ever moved: whoever remembers nothing of a lane that is listed here begins with this.
    origins: dict[str, int] = msgspec.field(default_factory=dict)

    def lane(
        self,
        provider: str | None,
        site: str | None,
        domain: str,
        smarthost: str | None = None,
    ) -> str:
        """Name the lane; a site that is not resolved yet goes by the hash of its domain.

        A provider that this map does not know is treated as one site, so that an old map still routes, and all of it to one decider.
        """
        if smarthost is not None:
            return f"smarthost:{smarthost}"
        if provider is not None and f"provider:{provider}" in self.lanes:
            return f"provider:{provider}"
        return f"site:{_spread(provider or site or domain, self.buckets)}"

    def lane_of(self, limit_key: str) -> str:
        """Name the lane in which a limit key is decided about; what counts over all sites of a bucket goes by the bucket's own name."""
        if limit_key.startswith(("smarthost:", "site:")):
            return limit_key
        return self.lane(limit_key, None, limit_key)

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
) -> LaneMap:
    """Spread the lanes over the partitions evenly, the same way for the same input."""
    names = [f"provider:{name}" for name in sorted(providers)]
    names += [f"site:{bucket}" for bucket in range(buckets)]
    names += [f"smarthost:{name}" for name in sorted(smarthosts)]
    lanes = {name: index % partitions for index, name in enumerate(names)}
    return LaneMap(version=version, partitions=partitions, buckets=buckets, lanes=lanes)


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


def _spread(text: str, over: int) -> int:
    # Not hash(): it differs from process to process.
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) % over
