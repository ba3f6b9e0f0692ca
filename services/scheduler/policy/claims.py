"""Sources that are kept for one group: its next message is large, and what is smaller may not pass it. Pure.

A group whose next message does not fit into what a source may send in bytes waits until it does, and nothing else is granted from that pair
until then, nor after it until the group has been looked at: else what is smaller would be given what the large one waits for, without end.
A claim is of memory alone: after a restart the message is asked for again, and waits as long as it must.
"""

from typing import Final

from services.scheduler.policy.group import Group
from services.scheduler.policy.room import Full

# The group that has the claim may be looked at a moment later than the others.
_LOOK_AGAIN_NS: Final = 50_000_000


class Claims:
    """All of one partition."""

    def __init__(self) -> None:
        """Begin with none."""
        self._pairs: dict[tuple[str, int], tuple[Group, int]] = {}
        self._groups: dict[Group, tuple[str, int]] = {}

    def __bool__(self) -> bool:
        """Say whether there is any."""
        return bool(self._pairs)

    def keep(self, group: Group, slot: int, until_ns: int) -> None:
        """Keep a slot for the next message of ``group``, which fits at ``until_ns``; it keeps no other."""
        self.drop(group)
        pair = group.limit_key, slot
        before = self._pairs.get(pair)
        if before is not None:
            self.drop(before[0])
        self._pairs[pair] = group, until_ns
        self._groups[group] = pair

    def drop(self, group: Group) -> None:
        """Keep nothing for ``group`` any more."""
        pair = self._groups.pop(group, None)
        if pair is not None:
            del self._pairs[pair]

    def full(self, group: Group, slot: int, now_ns: int) -> Full | None:
        """Say until when a slot is kept for another group; None: it is not."""
        found = self._pairs.get((group.limit_key, slot))
        if found is None or found[0] is group:
            return None
        if found[0].gone:
            self.drop(found[0])
            return None
        return Full(max(found[1], now_ns + _LOOK_AGAIN_NS), "byte_rate")
