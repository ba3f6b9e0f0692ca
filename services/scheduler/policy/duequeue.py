"""Hold deliveries until they are due, then give them fairly. Pure.

Of ten thousand small sites most have one delivery at a time. Nobody need take turns there, so a queue of one is the delivery itself; what
it takes to be fair (``fairness``) is made when a second one comes, or something is to be known that only two can differ in.
"""

import random
from collections.abc import Callable, Iterator

from services.scheduler.policy.explain import Standing
from services.scheduler.policy.fairness import FairQueue, Order
from services.scheduler.policy.lines import FOREVER, Check, Line, Shut


class DueQueue:
    """Deliveries that wait for the same slots under the same limits."""

    __slots__ = ("_fair", "_one", "_order", "_rng")

    def __init__(self, order: Order, rng: random.Random) -> None:
        """Begin empty; ``rng`` says where in a release each line begins."""
        self._order, self._rng = order, rng
        #: The only one that was ever here, as (id, due ns, line).
        self._one: tuple[str, int, Line] | None = None
        self._fair: FairQueue | None = None

    def __len__(self) -> int:
        """Count the deliveries."""
        return (self._one is not None) if self._fair is None else len(self._fair)

    def __bool__(self) -> bool:
        """Say whether there is any."""
        return (self._one is not None) if self._fair is None else bool(self._fair)

    def __contains__(self, delivery_id: object) -> bool:
        """Say whether a delivery waits here."""
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

    # -- in and out

    def push(self, delivery_id: str, due_ns: int, line: Line, *, now_ns: int = 0) -> None:
        """Let a delivery wait until ``due_ns``; one that waits here already gets the new time."""
        if self._fair is not None:
            self._fair.push(delivery_id, due_ns, line, now_ns=now_ns)
        elif self._one is None or self._one[0] == delivery_id:
            self._one = delivery_id, due_ns, line
        else:
            self._all().push(delivery_id, due_ns, line, now_ns=now_ns)

    def urge(self, delivery_id: str, expires_ns: int) -> None:
        """Let a delivery go before others as soon as it is due: its deadline is near."""
        if delivery_id in self:
            self._all().urge(delivery_id, expires_ns)

    def pop_ready(self, now_ns: int, check: Check | None = None) -> str | None:
        """Take the next delivery that is due and whose line ``check`` lets go; None: there is none."""
        if self._fair is None:
            if self._one is None or self._one[1] > now_ns:
                return None
            id_, _, line = self._one
            if check is None or check(line, now_ns) is None:
                self._one = None
                return id_
            return self._all().pop_ready(now_ns, check)
        return self._fair.pop_ready(now_ns, check)

    def remove(self, delivery_id: str) -> bool:
        """Forget a delivery; False: it does not wait here."""
        if self._fair is not None:
            return self._fair.remove(delivery_id)
        there = delivery_id in self
        if there:
            self._one = None
        return there

    def ids(self) -> list[str]:
        """List the deliveries, as they came."""
        if self._fair is not None:
            return self._fair.ids()
        return [] if self._one is None else [self._one[0]]

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
        if self._fair is None:
            return FOREVER if self._one is None else self._one[1]
        return self._fair.next_ns()

    def counts(self) -> dict[str, int]:
        """Count the deliveries of each class."""
        return self._all().counts()

    def waiting(self, class_: str, tenant: str) -> int:
        """Count a tenant's deliveries of a class."""
        if self._fair is not None:
            return self._fair.waiting(class_, tenant)
        line = None if self._one is None else self._one[2]
        return int(line is not None and line.class_ == class_ and line.tenant == tenant)

    def oldest_due(self, now_ns: int) -> int | None:
        """Give the due time of the delivery that has been ready longest; None: none is ready."""
        if self._fair is not None:
            return self._fair.oldest_due(now_ns)
        return None if self._one is None or self._one[1] > now_ns else self._one[1]

    def overdue(self, before_ns: int, lets: Callable[[Line], bool]) -> Iterator[tuple[int, str]]:
        """Give (due ns, id) of those that have been due since ``before_ns``, the longest first, of the lines that ``lets`` lets.

        Each must be removed, or be the last that is asked for.
        """
        if self._fair is not None:
            return self._fair.overdue(before_ns, lets)
        one = self._one
        late = one is not None and one[1] <= before_ns and lets(one[2])
        return iter([(one[1], one[0])] if one is not None and late else [])

    def standing(self, delivery_id: str, now_ns: int) -> Standing | None:
        """Say what is ready beside a delivery, and before it in its line; it looks through that line, and at the heads of the others."""
        return self._all().standing(delivery_id, now_ns)

    def joining(self, line: Line, now_ns: int) -> Standing:
        """Say the same for a delivery of ``line`` that would come now."""
        return self._all().joining(line, now_ns)
