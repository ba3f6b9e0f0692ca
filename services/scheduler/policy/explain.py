"""Why a delivery waits, and until when: one constraint binds, the one that ends last. Pure.

What may keep a delivery is a list of ``Constraint``: its own time, an operator's pause, its line, its group. Each would let it go at
``until_ns``; who knows no time says None, and only something that happens ends it. The last to end is the one that binds; of those that
nobody knows the end of, the one that comes first in ``RANK``: what an operator did, then what must be there at all.

**ETA.** When the last constraint has ended, what waits before it under the same limits goes first. ``Standing`` says how much that is, by
the order in which turns are given (``fairness``): a fluid picture of it, in which everybody has the share that the turns give him.
``outlook`` says when so many have gone: what each source can send from when it may, by its limits or, where those allow more than is
taken, by what was granted lately.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from shared.records.answers import AGES

_S: Final = 1_000_000_000
_WINDOW_NS: Final = 60 * _S
#: Of what nobody knows the end of: which is named.
RANK: Final = ("held", "directive", "suspended", "moving", "lane", "no_source", "dns", "credit")


@dataclass(frozen=True, slots=True)
class Constraint:
    """One thing that keeps a delivery."""

    reason: str
    #: What it is about: a delivery, an order's selector, a line, a limit key and its sources.
    scope: str
    #: Since when it is known to keep it; None: nobody has noted it.
    since_ns: int | None = None
    until_ns: int | None = None
    #: More of it, in words: an order's id and reason.
    detail: str = ""
    #: It keeps what is before the delivery as well, so that nothing of that goes meanwhile.
    shared: bool = False
    #: It is about single sources, of which the first to be free is named: each goes on for itself.
    by_sources: bool = False


def binding(constraints: Sequence[Constraint]) -> Constraint:
    """Give the one that binds, of one at least."""
    endless = [each for each in constraints if each.until_ns is None]
    if endless:
        return min(endless, key=lambda each: _rank(each.reason))
    return max(constraints, key=lambda each: each.until_ns or 0)


def _rank(reason: str) -> int:
    return RANK.index(reason) if reason in RANK else len(RANK)


# -- how much goes before


@dataclass(frozen=True, slots=True)
class Share:
    """Who takes turns: how much is ready, and how much a turn gives."""

    ready: int
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a delivery stands among what is ready under the same limits."""

    #: Before it in its own line.
    before: int
    line: Share
    #: The other lines of its tenant, and the other tenants of its class.
    lines: Sequence[Share] = ()
    tenant: Share = field(default_factory=lambda: Share(1))
    tenants: Sequence[Share] = ()
    #: Ready in classes that go first, and in those that go behind, of which one in ``every`` goes all the same.
    first: int = 0
    behind: int = 0
    every: int = 20


def ahead_of_tenant(standing: Standing) -> int:
    """Count what goes before the delivery of its tenant's mail."""
    own = standing.before + 1
    return own + _beside(own, standing.line.weight, standing.lines) - 1


def ahead(standing: Standing) -> int:
    """Count what goes before the delivery, if nothing comes any more."""
    of_tenant = ahead_of_tenant(standing) + 1
    in_class = of_tenant + _beside(of_tenant, standing.tenant.weight, standing.tenants)
    if standing.first:
        # What goes first takes all turns but one in ``every``, as long as there is any.
        total = min(in_class * standing.every, in_class + standing.first)
    else:
        total = in_class + min(standing.behind, in_class // max(1, standing.every - 1))
    return total - 1


def _beside(count: int, weight: int, others: Iterable[Share]) -> int:
    """Count what others are given while one with ``weight`` is given ``count``."""
    return sum(min(other.ready, -(-count * other.weight // weight)) for other in others)


# -- how fast it goes


@dataclass(slots=True)
class Pace:
    """Grants of late: two windows of a minute, so that it costs nothing to keep."""

    window_ns: int = 0
    count: int = 0
    last: int = 0

    def granted(self, now_ns: int, number: int) -> None:
        """Count some."""
        self._pass_to(now_ns)
        self.count += number

    def interval_ns(self, now_ns: int) -> int | None:
        """Give the time between two of late; None: there were none."""
        self._pass_to(now_ns)
        here = now_ns - self.window_ns
        # The part of the window before that lies within the last minute.
        seen = self.count * _WINDOW_NS + self.last * (_WINDOW_NS - here)
        if not seen:
            return None
        span = _WINDOW_NS if self.last else max(here, _S)
        return max(1, span * _WINDOW_NS // seen)

    def _pass_to(self, now_ns: int) -> None:
        passed = (now_ns - self.window_ns) // _WINDOW_NS
        if passed <= 0:
            return
        self.last = self.count if passed == 1 else 0
        self.count = 0
        self.window_ns = now_ns - (now_ns - self.window_ns) % _WINDOW_NS


# -- the shape of a queue


def column(age_ns: int) -> int:
    """Say in which column of ``AGES`` an age is counted."""
    minutes = age_ns // (60 * _S)
    return next((at for at, most in enumerate(AGES) if minutes < most), len(AGES))


@dataclass(slots=True)
class Shape:
    """Counts by name and age; beyond ``most`` names the rest are counted as one, so that an answer stays small."""

    most: int
    rows: dict[tuple[str, ...], list[int]] = field(default_factory=dict)

    def add(self, names: tuple[str, ...], age_ns: int, count: int = 1) -> None:
        """Count a delivery."""
        row = self.rows.get(names)
        if row is None:
            if len(self.rows) >= self.most:
                names = ("(others)",) * len(names)
            row = self.rows.setdefault(names, [0] * (len(AGES) + 1))
        row[column(max(0, age_ns))] += count
