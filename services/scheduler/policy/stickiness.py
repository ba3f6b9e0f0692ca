"""Which source of a pool is a delivery's own, where the pool is sticky: by its tenant, its domain or its recipient. Pure.

Rendezvous hashing with weights (the logarithmic method: Schindelhauer and Schomaker, Weighted Distributed Hash Tables, 2005): every source
draws a number for the key, and the highest of weight / -ln(number) has it. A source's draw depends on the key and its slot alone, so one
that joins takes its share from all the others and moves nothing else, one that leaves gives its own away, and a weight that changes moves
what it must. A slot is never given to another address, so a key's address is as lasting as the configuration.

Nothing else counts: not whether the source can send now, nor its health. Where the own source cannot send for long, the next in
rank stands in (``Queues``); when it can again, it has its mail again.
"""

import hashlib
import math
import struct
from collections.abc import Iterable, Mapping
from typing import Final

from shared.records.lanemap import SLOTS_PER_GROUP, group_of
from shared.records.state import DeliveryState
from shared.runtime.settings import Pool

_EACH: Final = 8
_DRAWS: Final = struct.Struct(f">{SLOTS_PER_GROUP}Q")
_RANGE: Final = float(1 << 64)


def key_of(pool: Pool, entry: DeliveryState) -> str | None:
    """Name what ties a delivery to a source; None: nothing does."""
    match pool.sticky:
        case "none":
            return None
        case "tenant":
            return entry.tenant
        case "domain":
            return entry.domain
        case "recipient":
            return entry.to.casefold()


def first(key: str, slots: Iterable[tuple[int, int]]) -> int:
    """Give the slot that ranks first for ``key`` of (slot, weight), at least one, all of one slot group."""
    found = list(slots)
    draws = _draws(f"{group_of(found[0][0])}/{key}")

    def rank(each: tuple[int, int]) -> tuple[float, tuple[int, int]]:
        slot, weight = each
        return weight / -math.log((draws[slot % SLOTS_PER_GROUP] + 0.5) / _RANGE), each

    return max(found, key=rank)[0]


def _draws(key: str) -> tuple[int, ...]:
    # One extendable hash: slot n of a group has its n-th part, whatever other slots there are.
    digest = hashlib.shake_128(key.encode()).digest(_EACH * SLOTS_PER_GROUP)
    return _DRAWS.unpack(digest)


class Homes:
    """Know each delivery's own source."""

    def __init__(self, pools: Mapping[str, Pool], most: int = 10_000) -> None:
        """``most``: so many answers are remembered."""
        self._pools, self._most = pools, most
        self._known: dict[tuple[str, str, tuple[tuple[int, int], ...]], int] = {}

    def of(self, entry: DeliveryState, slots: tuple[tuple[int, int], ...]) -> int | None:
        """Give the delivery's own of (slot, weight); None: any will do."""
        pool = self._pools.get(entry.pool)
        key = None if pool is None or len(slots) == 0 else key_of(pool, entry)
        if key is None:
            return None
        found = self._known.get((entry.pool, key, slots))
        if found is None:
            if len(self._known) >= self._most:
                self._known.clear()
            found = self._known[entry.pool, key, slots] = first(key, slots)
        return found
