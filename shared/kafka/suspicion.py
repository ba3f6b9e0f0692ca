"""suspicion: which record breaks the rounds of a partition. Pure; it outlives the workers that the record ends.

A round that fails twice, or once because a record is too large, is cut to a quarter, again and again; the record that fails alone is bad,
and is rejected unread. (A half would be enough, but a process gives up after a few bugs, and forgets what it had found out.) A failure
that is Kafka's (no broker, no answer in time) also makes rounds smaller, but blames nobody: no record is rejected because a broker was
away. Other records may come and pass in between, such as a scheduler's marks: only what failed can show that it fails no more. A round
without records says nothing of any.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from shared.kafka.errors import KafkaTrouble, RoundFailed

_PARTS: Final = 4

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
    #: Records of the round that failed last and have not passed since: by a record's fault, and by Kafka's.
    _blamed: set[Mark] = field(default_factory=set)
    _unlucky: set[Mark] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Begin with full rounds."""
        self.limit = self.most

    def condemn(self, batch: Sequence[Mark], mark: Mark) -> None:
        """Learn that this very record of a round cannot be digested: a bug of ours, seen while it was looked at.

        The next round ends before it: what was found out about records is lost with the process, what was committed is not, so that
        even a process that dies of every such record gets past them.
        """
        self.bad.add(mark)
        self.limit = max(1, batch.index(mark))

    def learn(self, batch: Sequence[Mark], error: BaseException) -> None:
        """Learn what the end of a round says of its records."""
        match error:
            case RoundFailed(too_large=True):
                self.failed(batch, blame=True, sure=True)
            case RoundFailed():
                self.failed(batch, blame=False)
            case KafkaTrouble():
                pass  # The partition is another's now, or Kafka is away.
            case Exception():
                self.failed(batch, blame=True)
            case _:
                pass  # Cancelled.

    def failed(self, batch: Sequence[Mark], *, blame: bool, sure: bool = False) -> None:
        """Learn that a round failed; ``blame``: by a record of it, ``sure``: it would fail again."""
        if not batch:
            return
        before = self._blamed if blame else self._unlucky
        again = not before.isdisjoint(batch)
        before.clear()
        before.update(batch)
        if not again and not sure:
            return
        if blame and len(batch) == 1:
            self.bad.add(batch[0])
        self.limit = max(1, len(batch) // _PARTS)

    def passed(self, batch: Sequence[Mark]) -> None:
        """Learn that a round was committed."""
        if not batch:
            return
        for marks in (self._blamed, self._unlucky, self.bad):
            marks.difference_update(batch)
        if not self._blamed and not self._unlucky:
            self.limit = min(self.most, self.limit * 2)
