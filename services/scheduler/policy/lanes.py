"""Which lanes this partition decides about. Pure.

A lane has one decider: whoever *holds* it. A partition grants for a lane that it holds and that its version of the lane map gives it.
One that holds a lane which the map gives to another stops granting at once and hands it over, limiters and all, by a record; the other
grants only after reading that. So however far each has read mail.control, the lane is held once, or is on its way.

What is held is remembered only for lanes that were handed over (``LaneState``). A partition without a memory of a lane holds it if it
had it before the lane ever moved, which the map says (``origins``). A partition that was handed a lane by a newer map than it has read
waits until it has read that one: by its older map it would only hand it back.
"""

from collections.abc import Iterator
from typing import Final

from shared.protocol.control import ControlView
from shared.records.delivery import Handover
from shared.records.lanemap import LaneMap
from shared.records.state import LaneState

#: Of so many limit keys it is remembered who decides about them.
_REMEMBERED: Final = 65_536


class Lanes:
    """Know what this partition holds, and what the map gives it."""

    def __init__(self, partition: int, view: ControlView) -> None:
        """``view`` is what the process has read of mail.control."""
        self._partition, self._view = partition, view
        self._states: dict[str, LaneState] = {}
        self._dirty: set[str] = set()
        self._seen = self._newest = -1
        #: Grows whenever what may be granted for has changed.
        self.changes = 0
        #: (limit key, slot group) -> whether it is decided about here, while the map and what is held are as they were then.
        self._decided: dict[tuple[str, int], bool] = {}
        self._decided_by: LaneMap | None = None
        self._decided_when = -1

    @property
    def map(self) -> LaneMap:
        """The newest map that was read."""
        if self._view.lane_map is None:
            raise LookupError(
                "no lane map has been read; the worker waits for one before it starts"
            )
        return self._view.lane_map

    # -- changelog

    def restore(self, record: LaneState) -> None:
        """Take one record of mail.state."""
        self._states[record.lane] = record
        self.meet(record.map)
        self.changes += 1

    def take(self) -> list[LaneState]:
        """Give what changed since the last call."""
        changed = [self._states[lane] for lane in self._dirty]
        self._dirty = set()
        return changed

    # -- versions

    def meet(self, version: int) -> None:
        """Note that somebody has acted by this version."""
        self._newest = max(self._newest, version)

    @property
    def current(self) -> bool:
        """Say whether the map that was read is as new as any that was met: then strays may be sent where it says."""
        return self.map.version >= self._newest

    def renewed(self) -> bool:
        """Say whether another map is in force than at the last call."""
        if self.map.version == self._seen:
            return False
        self._seen = self.map.version
        self.changes += 1
        return True

    # -- whose

    def given(self, lane: str) -> bool:
        """Say whether the map gives ``lane`` to this partition."""
        return self.map.partition(lane) == self._partition

    def decides(self, limit_key: str, group: int = 0) -> bool:
        """Say whether this partition may grant for ``limit_key`` from the slots of ``group``."""
        if (
            self._view.lane_map is not self._decided_by
            or self.changes != self._decided_when
            or len(self._decided) >= _REMEMBERED
        ):
            self._decided_by, self._decided_when = self._view.lane_map, self.changes
            self._decided.clear()
        found = self._decided.get((limit_key, group))
        if found is None:
            lane = self.map.lane_of(limit_key, group)
            found = self._decided[limit_key, group] = self.given(lane) and self._holds(lane)
        return found

    def _holds(self, lane: str) -> bool:
        state = self._states.get(lane)
        if state is None:
            return self.map.began(lane) == self._partition
        return state.held and self.map.version >= state.map

    def _moved(self) -> Iterator[str]:
        yield from self.map.origins.keys() | self._states.keys()

    def leaving(self) -> list[str]:
        """List the lanes that must be handed over."""
        return [lane for lane in self._moved() if self._holds(lane) and not self.given(lane)]

    def awaited(self) -> list[str]:
        """List the lanes that the map gives this partition and nobody has handed over yet."""
        return [lane for lane in self._moved() if self.given(lane) and not self._holds(lane)]

    def hand_over(self, lane: str) -> int:
        """Let go of ``lane``, and say which partition gets it."""
        self._set(LaneState(lane=lane, held=False, map=self.map.version))
        return self.map.partition(lane)

    def receive(self, record: Handover) -> None:
        """Hold the lane that ``record`` hands over."""
        self._set(LaneState(lane=record.lane, held=True, map=record.map))
        self.meet(record.map)

    def _set(self, state: LaneState) -> None:
        self._states[state.lane] = state
        self._dirty.add(state.lane)
        self.changes += 1
