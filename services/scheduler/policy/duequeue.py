"""Hold deliveries until they are due, then give them fairly. Pure.

Of ten thousand small sites most have one delivery at a time. Nobody need take turns there, so a queue of one is the delivery itself; what
it takes to be fair (``fairness``) is made when a second one comes, or something is to be known that only two can differ in.
"""

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import msgspec

from services.scheduler.policy.backlog import Order
from services.scheduler.policy.explain import Share, Standing
from services.scheduler.policy.fairness import FairQueue
from services.scheduler.policy.lines import FOREVER, Check, Line, Shut


class DueQueue(msgspec.Struct, eq=False):
    """Deliveries that wait for the same slots under the same limits."""

    _order: Order
    #: Says where in a release each line begins.
    _rng: random.Random
    #: The only one that was ever here, as (id, due ns, line).
    _one: tuple[str, int, Line] | None = None
    _fair: FairQueue | None = None
    #: What was given, and put back: it goes before all others.
    _first: tuple[str, int, Line] | None = None

    def __len__(self) -> int:
        """Count the deliveries."""
        others = (self._one is not None) if self._fair is None else len(self._fair)
        return others + (self._first is not None)

    def __bool__(self) -> bool:
        """Say whether there is any."""
        if self._first is not None:
            return True
        return (self._one is not None) if self._fair is None else bool(self._fair)

    def __contains__(self, delivery_id: object) -> bool:
        """Say whether a delivery waits here."""
        if self._first is not None and self._first[0] == delivery_id:
            return True
        if self._fair is None:
            return self._one is not None and self._one[0] == delivery_id
        return delivery_id in self._fair

    def __repr__(self) -> str:
        """Show what it is."""
        return f"<DueQueue of {self._one}>" if self._fair is None else repr(self._fair)

    def _all(self) -> FairQueue:
        """Give what takes turns."""
        fair = self._fair
        if fair is None:
            fair = self._fair = FairQueue(self._order, self._rng)
            if self._one is not None:
                fair.push(*self._one)
                self._one = None
        return fair

    def _is_first(self, delivery_id: object) -> bool:
        return self._first is not None and self._first[0] == delivery_id

    # -- in and out

    def push(self, delivery_id: str, due_ns: int, line: Line, *, now_ns: int = 0) -> None:
        """Let a delivery wait until ``due_ns``; one that waits here already gets the new time."""
        if self._first is not None and self._first[0] == delivery_id:
            self._first = None
        if self._fair is not None:
            self._fair.push(delivery_id, due_ns, line, now_ns=now_ns)
        elif self._one is None or self._one[0] == delivery_id:
            self._one = delivery_id, due_ns, line
        else:
            self._all().push(delivery_id, due_ns, line, now_ns=now_ns)

    def urge(self, delivery_id: str, expires_ns: int) -> None:
        """Let a delivery go before others as soon as it is due: its deadline is near."""
        if not self._is_first(delivery_id) and delivery_id in self:
            self._all().urge(delivery_id, expires_ns)

    def pop_ready(self, now_ns: int, check: Check | None = None) -> str | None:
        """Take the next delivery that is due and whose line ``check`` lets go; None: there is none."""
        if self._first is not None:
            first, self._first = self._first, None
            if check is None or check(first[2], now_ns) is None:
                return first[0]
            # Its line is shut by now: it waits there with the others.
            self.push(*first, now_ns=now_ns)
        if self._fair is None:
            if self._one is None or self._one[1] > now_ns:
                return None
            id_, _, line = self._one
            if check is None or check(line, now_ns) is None:
                self._one = None
                return id_
            return self._all().pop_ready(now_ns, check)
        return self._fair.pop_ready(now_ns, check)

    def put_back(self, delivery_id: str, due_ns: int, line: Line) -> None:
        """Let what ``pop_ready`` gave last be the next that it gives: it has had its turn, and could not use it yet."""
        self._first = delivery_id, due_ns, line

    def remove(self, delivery_id: str) -> bool:
        """Forget a delivery; False: it does not wait here."""
        if self._is_first(delivery_id):
            self._first = None
            return True
        if self._fair is not None:
            return self._fair.remove(delivery_id)
        there = delivery_id in self
        if there:
            self._one = None
        return there

    def ids(self) -> list[str]:
        """List the deliveries, as they came."""
        first = [] if self._first is None else [self._first[0]]
        if self._fair is not None:
            return first + self._fair.ids()
        return first if self._one is None else [*first, self._one[0]]

    def some(self, most: int) -> list[str]:
        """List the first of them, as they came."""
        if self._fair is None:
            return self.ids()[:most]
        first = [] if self._first is None else [self._first[0]]
        return first + list(islice(self._fair.each(), most - len(first)))

    def disorder(self) -> None:
        """Forget in which order they go: from now on they are only removed, which then costs the same however many there are."""
        if self._fair is not None:
            self._fair.disorder()

    # -- what is kept back

    def reopen(self, now_ns: int) -> bool:
        """Ask again of every line that is shut: the answers may have changed; False: none was."""
        return self._fair is not None and self._fair.reopen(now_ns)

    def release(self, now_ns: int, why: str) -> None:
        """Give what has gathered here evenly over a while: ``why`` held all of it back, and does no longer."""
        self._all().release(now_ns, why)

    def shut(self, line: Line) -> Shut | None:
        """Say what keeps a line back; None: nothing did when it was asked last."""
        return None if self._fair is None else self._fair.shut(line)

    # -- what is asked

    def next_ns(self) -> int:
        """Say when to look again after a ``pop_ready`` that gave nothing: something becomes due, or opens; FOREVER: not by itself."""
        if self._first is not None:
            return self._first[1]
        if self._fair is None:
            return FOREVER if self._one is None else self._one[1]
        return self._fair.next_ns()

    def counts(self) -> dict[str, int]:
        """Count the deliveries of each class."""
        counts = self._all().counts()
        if self._first is not None:
            class_ = self._first[2].class_
            counts[class_] = counts.get(class_, 0) + 1
        return counts

    def waiting(self, class_: str, tenant: str) -> int:
        """Count a tenant's deliveries of a class."""
        found = sum(
            one is not None and one[2].class_ == class_ and one[2].tenant == tenant
            for one in (self._first, self._one)
        )
        return found if self._fair is None else found + self._fair.waiting(class_, tenant)

    def oldest_due(self, now_ns: int) -> int | None:
        """Give the due time of the delivery that has been ready longest; None: none is ready."""
        due = [one[1] for one in (self._first, self._one) if one is not None and one[1] <= now_ns]
        oldest = None if self._fair is None else self._fair.oldest_due(now_ns)
        return min(due if oldest is None else [*due, oldest], default=None)

    def overdue(self, before_ns: int, lets: Callable[[Line], bool]) -> Iterator[tuple[int, str]]:
        """Give (due ns, id) of those that have been due since ``before_ns``, the longest first, of the lines that ``lets`` lets.

        Each must be removed, or be the last that is asked for.
        """
        found = [
            (one[1], one[0])
            for one in (self._first, self._one)
            if one is not None and one[1] <= before_ns and lets(one[2])
        ]
        if self._fair is None:
            return iter(sorted(found))
        return heapq.merge(found, self._fair.overdue(before_ns, lets))

    def standing(self, delivery_id: str, now_ns: int) -> Standing | None:
        """Say what is ready beside a delivery, and before it in its line; it looks through that line, and at the heads of the others."""
        if self._is_first(delivery_id):
            return Standing(before=0, line=Share(1))
        standing = self._all().standing(delivery_id, now_ns)
        return standing if self._first is None or standing is None else _behind(standing)

    def joining(self, line: Line, now_ns: int) -> Standing:
        """Say the same for a delivery of ``line`` that would come now."""
        standing = self._all().joining(line, now_ns)
        return standing if self._first is None else _behind(standing)


def _behind(standing: Standing) -> Standing:
    """Let one more go before."""
    return replace(standing, before=standing.before + 1)
