"""Ids that lie together: those that leave are only counted, and swept out when they are half of what lies there. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

# Less than this is not worth a sweep.
_SWEEP: Final = 32


@dataclass(slots=True)
class Bucket:
    """Some ids, a list slot each."""

    ids: list[str] = field(default_factory=list)
    _left: int = 0

    def leave(self, there: Callable[[list[str]], list[str]]) -> None:
        """Note that one of them left; ``there`` gives those who have not."""
        left, ids = self._left + 1, self.ids
        if left >= len(ids) or (left > _SWEEP and 2 * left > len(ids)):
            self.ids = there(ids)
            left = 0
        self._left = left
