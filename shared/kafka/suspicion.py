"""suspicion: which record breaks the rounds of a partition. Pure; it outlives the workers that the record ends.

A round that fails twice, or once because a record is too large, is halved; its records are suspects until they have passed. The one that
fails alone is bad, and is rejected unread. A failure that is Kafka's (no broker, no answer in time) also makes rounds smaller, but
blames nobody: no record is ever rejected because a broker was away.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

_TWICE: Final = 2

Mark = tuple[str, int]


@dataclass(slots=True)
class Suspicion:
    """What earlier workers of this partition learned."""

    #: The most records that a round ever has.
    most: int
    #: How many records the next round may have.
    limit: int = field(init=False)
    #: (topic, offset) of records that are rejected unread.
    bad: set[Mark] = field(default_factory=set)
    _suspects: set[Mark] = field(default_factory=set)
    _failures: int = 0

    def __post_init__(self) -> None:
        """Begin with full rounds."""
        self.limit = self.most

    def condemn(self, mark: Mark) -> None:
        """Learn that this very record cannot be digested: a bug of ours, seen while it was looked at."""
        self.bad.add(mark)

    def failed(self, batch: Sequence[Mark], *, blame: bool, sure: bool = False) -> None:
        """Learn that a round failed; ``blame``: by a record of it, ``sure``: it would fail again."""
        self._failures += 1
        if self._failures < _TWICE and not sure:
            return
        if blame:
            self._suspects = set(batch)
            if len(batch) == 1:
                self.bad.add(batch[0])
        self.limit = max(1, len(batch) // 2)

    def passed(self, batch: Sequence[Mark]) -> None:
        """Learn that a round was committed."""
        self._failures = 0
        self._suspects.difference_update(batch)
        self.bad.difference_update(batch)
        if self._suspects:
            self.limit = max(1, len(self._suspects) // 2)
        else:
            self.limit = min(self.most, self.limit * 2)
