"""Which pairs are as if they had never been used, and when each is looked at for that. Pure.

There are sites times sources of them, and over the months a partition comes by them all; so what says nothing any more is forgotten, in
memory and in mail.state. Two days after its last token and its last answer nothing of a rate counts, of a pair that no warning holds back
and that is not being warmed up; what a site has earned is kept for thirty.

Looked at is a portion at a time, all of them in ten minutes: nothing hurries, and a round must not become long.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

from services.scheduler.policy import growth, pauses
from services.scheduler.policy.pair import Pair

_S: Final = 1_000_000_000
# No period of a rate is longer than a day, and a token may lie a little ahead.
_RESTED_NS: Final = 2 * 86_400 * _S
_EVERY_NS: Final = 1 * _S
_LOOKS: Final = 600
_LEAST: Final = 100

Which = tuple[str, int]


def rests(pair: Pair, now_ns: int) -> bool:
    """Say whether nothing is known of a pair but its warm-up, if it has one."""
    if pair.pause != pauses.CLEAR or pair.backoff is not None or pair.open:
        return False
    heard_ns = 0 if pair.health is None else pair.health.at_ns
    kept_ns = growth.IDLE_NS if pair.good else _RESTED_NS
    # Answers that say nothing of its health are counted in its window alone.
    return max(pair.limiter, pair.volume, heard_ns, pair.window_ns) < now_ns - kept_ns


@dataclass(slots=True)
class Looking:
    """Go round all pairs."""

    _left: list[Which] = field(default_factory=list)
    _portion: int = 0
    _next_ns: int = 0

    def portion(self, pairs: Collection[Which], now_ns: int) -> Iterator[Which]:
        """Name those to look at now; some may be gone."""
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + _EVERY_NS
        if not self._left:
            self._left = list(pairs)
            self._portion = max(_LEAST, len(self._left) // _LOOKS + 1)
        for _ in range(min(self._portion, len(self._left))):
            yield self._left.pop()
