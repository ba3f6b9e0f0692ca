"""Lines: deliveries that only ever wait together, and what keeps them back. Pure.

A **line** is (class, tenant, stream, sending domain) among the deliveries that wait for the same slots under the same limits. It is
also the smallest thing that can be kept back without a look at any message: an operator's pause, a send window, a tenant's rate and a
sending domain's rate all hold whole lines. Whoever keeps lines back is a ``Gate``:

    gate.at(limit key, provider)  ->  a check for the lines that wait there, or None: nothing of it concerns them
    check(line, now)              ->  Shut(until, why), or None: it may go

A check is asked only when a delivery of the line would go at once, and once more when the time that it named has come. A line that is
shut leaves the turns: it costs nothing, however many wait in it, until then or until ``DueQueue.reopen`` says that the answers may have
changed. ``Shut.whole`` shuts every line of the tenant in that class by one answer: for what counts per tenant.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

FOREVER: Final = 1 << 62


class Line(NamedTuple):
    """What can be kept back as one; ``domain`` is the one that the mail is signed and judged by."""

    class_: str
    tenant: str
    stream: str
    domain: str


@dataclass(frozen=True, slots=True)
class Shut:
    """Not before ``until_ns`` (None: until the gates change); ``why`` is the reason that is shown."""

    until_ns: int | None
    why: str
    #: Every line of the tenant in the class, not this one alone.
    whole: bool = False
    #: What waited is given evenly over a while when it opens, not at once: for what lasts.
    spread: bool = False


Check = Callable[[Line, int], Shut | None]


class Gate(Protocol):
    """Something that keeps lines back."""

    @property
    def shuts(self) -> bool:
        """Say whether it may keep back anything, anywhere, in this round."""

    def at(self, limit_key: str, provider: str | None) -> Check | None:
        """Give what is asked for the lines that wait under these limits; None: nothing of it concerns them."""


def together(checks: list[Check]) -> Check | None:
    """Ask all of ``checks``; the one that shuts for longest is the one that binds."""
    if len(checks) < 2:  # noqa: PLR2004 - none, or one that needs no company
        return checks[0] if checks else None

    def check(line: Line, now_ns: int) -> Shut | None:
        longest: Shut | None = None
        for each in checks:
            shut = each(line, now_ns)
            if shut is not None and (longest is None or _length(shut) > _length(longest)):
                longest = shut
        return longest

    return check


def _length(shut: Shut) -> int:
    return FOREVER if shut.until_ns is None else shut.until_ns


@dataclass(frozen=True, slots=True)
class Weights:
    """How many deliveries a turn has: of a tenant, and of a (tenant, stream) within it; 1 where nothing is said."""

    tenants: Mapping[str, int] = field(default_factory=dict)
    streams: Mapping[tuple[str, str], int] = field(default_factory=dict)
