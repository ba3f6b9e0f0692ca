"""Whose count a limit key's mail belongs to, where all sites that no provider runs are counted together. Pure.

A provider and a smart host have one deciding partition, so each has a count of its own. The other sites are spread over the buckets of the
lane map, each decided about somewhere else: a number that holds for all of them is divided between the buckets beforehand. The parts add
up to the number, nobody must ask anybody, and a bucket's count, ``site:N``, goes with its lane. What one leaves another does not get.
"""

from dataclasses import dataclass, field
from typing import Final

from shared.protocol.control import ControlView
from shared.runtime.settings import Settings

#: How the buckets of sites are named.
BUCKET: Final = "site:"


@dataclass(slots=True)
class Whose:
    """Know it for every limit key."""

    settings: Settings
    view: ControlView
    _known: dict[str, tuple[str, int, int]] = field(default_factory=dict)

    def of(self, limit_key: str) -> tuple[str, int, int]:
        """Give whose count it is, and which part of how many: 0 of 1 is all of it."""
        known = self._known.get(limit_key)
        if known is None:
            known = self._known[limit_key] = self._find(limit_key)
        return known

    def _find(self, limit_key: str) -> tuple[str, int, int]:
        lane_map = self.view.lane_map
        if lane_map is None:
            raise LookupError(
                "no lane map has been read; the worker waits for one before it starts"
            )
        lane = lane_map.lane_of(limit_key)
        if limit_key in self.settings.providers or not lane.startswith(BUCKET):
            return limit_key, 0, 1
        return lane, int(lane.removeprefix(BUCKET)), lane_map.buckets
