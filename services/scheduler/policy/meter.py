"""How many answers a pair had lately: the rate that it did, which is the rate that hurt. Pure; constant space."""

from dataclasses import dataclass
from typing import Final

_SPAN_NS: Final = 10_000_000_000
_DAY_NS: Final = 86_400_000_000_000
#: From so many answers on a rate says something ...
_ENOUGH: Final = 20
#: ... and for so long after it was measured.
_KNOWN_NS: Final = 600_000_000_000


@dataclass(slots=True)
class Meter:
    """Two spans of ten seconds: the present one and, where it follows at once, the one before; and the last rate that was sure."""

    began_ns: int = 0
    count: int = 0
    before: int = 0
    #: Messages a day, and when.
    known: int = 0
    known_ns: int = 0

    def add(self, now_ns: int) -> None:
        """Count an answer."""
        if now_ns - self.began_ns >= _SPAN_NS:
            self._pass_to(now_ns)
        self.count += 1

    def reset(self, now_ns: int) -> None:
        """Begin anew: from here on it does something else."""
        self.began_ns, self.count, self.before, self.known, self.known_ns = now_ns, 0, 0, 0, 0

    def measured(self, now_ns: int) -> int | None:
        """Give the rate in messages a day; None: too few answers to tell."""
        self._pass_to(now_ns)
        if self.count + self.before >= _ENOUGH:
            return self.per_day(now_ns)
        return self.known if self.known and now_ns < self.known_ns + _KNOWN_NS else None

    def per_day(self, now_ns: int) -> int:
        """Give the rate of the present spans in messages a day; a few answers are spread over a whole span."""
        self._pass_to(now_ns)
        elapsed = now_ns - self.began_ns
        if self.before:
            return (self.count + self.before) * _DAY_NS // (_SPAN_NS + elapsed)
        return self.count * _DAY_NS // max(elapsed, _SPAN_NS)

    def _pass_to(self, now_ns: int) -> None:
        elapsed = now_ns - self.began_ns
        if elapsed < _SPAN_NS:
            return
        if self.count >= _ENOUGH:
            self.known, self.known_ns = self.count * _DAY_NS // _SPAN_NS, now_ns
        self.before = self.count if elapsed < 2 * _SPAN_NS else 0
        self.began_ns = self.began_ns + _SPAN_NS if elapsed < 2 * _SPAN_NS else now_ns
        self.count = 0
