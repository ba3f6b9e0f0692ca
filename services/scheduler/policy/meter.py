"""How many answers a pair had lately: the rate that it did, which is the rate that hurt. Pure; constant space."""

from dataclasses import dataclass
from typing import Final

_SPAN_NS: Final = 10_000_000_000
_DAY_NS: Final = 86_400_000_000_000


@dataclass(slots=True)
class Meter:
    """Two spans of ten seconds: the present one and, where it follows at once, the one before."""

    began_ns: int = 0
    count: int = 0
    before: int = 0

    def add(self, now_ns: int) -> None:
        """Count an answer."""
        self._pass_to(now_ns)
        self.count += 1

    def reset(self, now_ns: int) -> None:
        """Begin anew."""
        self.began_ns, self.count, self.before = now_ns, 0, 0

    def answers(self, now_ns: int) -> int:
        """Count the answers of both spans."""
        self._pass_to(now_ns)
        return self.count + self.before

    def per_day(self, now_ns: int) -> int:
        """Give the rate, as messages a day; a few answers are spread over a whole span."""
        self._pass_to(now_ns)
        elapsed = now_ns - self.began_ns
        if self.before:
            return (self.count + self.before) * _DAY_NS // (_SPAN_NS + elapsed)
        return self.count * _DAY_NS // max(elapsed, _SPAN_NS)

    def _pass_to(self, now_ns: int) -> None:
        elapsed = now_ns - self.began_ns
        if elapsed < _SPAN_NS:
            return
        if elapsed < 2 * _SPAN_NS:
            self.began_ns, self.count, self.before = self.began_ns + _SPAN_NS, 0, self.count
        else:
            self.reset(now_ns)
