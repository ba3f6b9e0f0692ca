"""Limiters over several slots, by the name of their row in the settings: of a limit key, a tenant, a sending domain. Pure.

Most of them have one decider, since a limit key is decided about in one partition, and go with its lane. A tenant's own total is kept by
all partitions together: each spends the tokens that it was given (``shares``), and what it has been given is remembered here, for a
token that was spent must not come back with a restart.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from services.scheduler.policy import limits
from shared.records.lanemap import LaneMap
from shared.records.state import TotalState
from shared.runtime.settings import Rate

#: Names that belong to no lane: a tenant's own total, and what a dealer has dealt of it.
_OF_NO_LANE: Final = ("tenant:", "dealt:")
# Lots that one partition holds of one limit at a time: they end within seconds.
_LOTS: Final = 64


@dataclass(slots=True)
class _Total:
    """One limiter; ``given_ns`` and ``lots`` where its tokens are given by somebody else."""

    limiter: int = limits.UNUSED
    given_ns: int = 0
    #: (until ns, tokens left), as they were given.
    lots: list[tuple[int, int]] = field(default_factory=list)


class Totals:
    """All of one partition."""

    def __init__(self) -> None:
        """Begin with nothing spent."""
        self._totals: dict[str, _Total] = {}
        self._dirty: set[str] = set()
        #: When they were divided otherwise last: of one that is not known here others may have spent until then.
        self.divided_ns = 0

    def __repr__(self) -> str:
        """Show the names."""
        return f"<Totals {sorted(self._totals)}>"

    # -- changelog

    def restore(self, record: TotalState) -> None:
        """Take one record of mail.state."""
        self._totals[record.key] = _Total(record.limiter, record.given_ns, list(record.lots))

    def take(self) -> set[str]:
        """Name what was spent since the last call."""
        changed, self._dirty = self._dirty, set()
        return changed

    def names(self) -> set[str]:
        """Name all of them."""
        return set(self._totals)

    def state(self, name: str) -> TotalState:
        """Give what must survive of one; nothing was spent of one that is not known."""
        total = self._totals.get(name, _Total())
        lots = tuple(total.lots)
        return TotalState(key=name, limiter=total.limiter, given_ns=total.given_ns, lots=lots)

    # -- lanes that change hands

    def of_lanes(self) -> list[str]:
        """Name the limiters that belong to lanes."""
        return [name for name in self._totals if not name.startswith(_OF_NO_LANE)]

    def of_lane(self, lane: str, lane_map: LaneMap) -> Iterator[str]:
        """Name the limiters of a lane, for its next decider."""
        for name in self.of_lanes():
            if lane_map.in_lane(name.partition("/")[0], lane):
                yield name

    def merge(self, record: TotalState) -> None:
        """Count what the decider before has spent; what was spent here before counts as well."""
        total = self._total(record.key)
        total.limiter = max(total.limiter, record.limiter)
        self._dirty.add(record.key)

    # -- tokens

    def earliest(self, name: str, rate: Rate, now_ns: int) -> int:
        """Give the time, ``now_ns`` or later, when the next token may be spent."""
        total = self._totals.get(name)
        limiter = self._untouched(name, rate) if total is None else total.limiter
        return limits.earliest(limiter, rate, now_ns)

    def begin_anew(self, name: str, rate: Rate) -> None:
        """Go on at another ``rate``, with nothing to spend at first: they are divided otherwise since ``divided_ns``."""
        total = self._total(name)
        total.limiter = limits.begun_anew(total.limiter, rate, self.divided_ns)
        self._dirty.add(name)

    def _untouched(self, name: str, rate: Rate) -> int:
        """Give the limiter of one that was never used here."""
        if not self.divided_ns or name.startswith(_OF_NO_LANE):
            return limits.UNUSED
        return limits.begun_anew(limits.UNUSED, rate, self.divided_ns)

    def spend(self, name: str, rate: Rate, at_ns: int) -> None:
        """Spend a token at ``at_ns``, which is not before ``earliest``."""
        total = self._totals.get(name)
        if total is None:
            total = self._totals[name] = _Total(self._untouched(name, rate))
        total.limiter = limits.spend(total.limiter, rate, at_ns)
        self._dirty.add(name)

    # -- tokens that are given

    def give(self, name: str, given_ns: int, until_ns: int, tokens: int) -> None:
        """Take what was given, unless it was taken before: each gift has its own ``given_ns``, and they come in order."""
        total = self._total(name)
        if given_ns <= total.given_ns:
            return
        total.given_ns = given_ns
        if tokens:
            # Not written: until one of them is spent, to be given them once more is as good.
            total.lots = [*total.lots, (until_ns, tokens)][-_LOTS:]

    def left(self, name: str, now_ns: int) -> int:
        """Count the tokens that may be spent now."""
        total = self._totals.get(name)
        return 0 if total is None else sum(left for until, left in total.lots if now_ns < until)

    def use(self, name: str, now_ns: int) -> int:
        """Spend one of those tokens, the one that ends first; gives until when it holds. There must be one ``left``."""
        total = self._total(name)
        lots = sorted((until, left) for until, left in total.lots if now_ns < until and left)
        until, left = lots[0]
        total.lots = [(until, left - 1), *lots[1:]] if left > 1 else lots[1:]
        self._dirty.add(name)
        return until

    def lapse(self, name: str, now_ns: int) -> int:
        """Forget the tokens whose time is over, and count them."""
        total = self._totals.get(name)
        if total is None or not total.lots:
            return 0
        lost = sum(left for until, left in total.lots if until <= now_ns)
        total.lots = [lot for lot in total.lots if now_ns < lot[0]]
        return lost

    def drop(self, name: str) -> None:
        """Give up the tokens that are left."""
        total = self._totals.get(name)
        if total is not None and total.lots:
            total.lots = []
            self._dirty.add(name)

    def _total(self, name: str) -> _Total:
        total = self._totals.get(name)
        if total is None:
            total = self._totals[name] = _Total()
        return total
