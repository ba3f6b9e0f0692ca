"""When the next round begins: how long outcomes are gathered, and how soon time alone may begin one. Pure.

A transaction costs the same whether it carries one record or a thousand, so what nobody waits for is gathered. New mail begins a round
at once. An outcome is waited for by nobody but the mail that needs its credit, and not even by that while the senders have plenty in
hand: so they are gathered for longer while every connection that more mail waits for has work left, and for a short time only from
where one of them could have been idle. A rate lets its next grant go two seconds before it may start: that can wait a little too.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from services.scheduler.policy.pairs import Pairs
from services.scheduler.policy.queues import Queues

_MS: Final = 1_000_000
FIRST_NS: Final = 100 * _MS
MOST_NS: Final = 400 * _MS
#: After hands were nearly empty.
CAREFUL_NS: Final = 5_000 * _MS
#: Between two rounds that nothing but time begins; a tenth of how long a grant is given ahead of its time.
REST_NS: Final = 200 * _MS


def spare(open_: int, connections: int, settled: int) -> int:
    """Say how often as many more grants could settle as did since the round before, until one of ``connections`` has no work."""
    return max(0, open_ - connections) // max(settled, connections, 1)


def begin_ns(next_ns: int, round_ns: int) -> int:
    """Say when a round begins although nothing came, of which the last began at ``round_ns``.

    ``next_ns`` is when the ledger has something to do. What the last round has left over goes on at once.
    """
    return next_ns if next_ns <= round_ns else max(next_ns, round_ns + REST_NS)


@dataclass(slots=True)
class Gathering:
    """Learn from each round how long the next one may wait for outcomes."""

    pairs: Pairs
    queues: Queues
    ns: int = FIRST_NS
    _careful_ns: int = 0
    #: (limit key, slot) -> how many of its grants have settled, of those that got some or lost some since the round before.
    _touched: dict[tuple[str, int], int] = field(default_factory=dict)

    def opened(self, key: str, slot: int) -> None:
        """Note that a grant was given."""
        self._touched.setdefault((key, slot), 0)

    def settled(self, key: str, slot: int) -> None:
        """Note that a grant has settled."""
        self._touched[key, slot] = self._touched.get((key, slot), 0) + 1

    def learn(self, now_ns: int) -> None:
        """Look at the hands of those pairs that more mail waits for, after the round has filled them."""
        least = min(self._spares(), default=2)
        self._touched.clear()
        if least < 1:
            self.ns, self._careful_ns = FIRST_NS, now_ns + CAREFUL_NS
        elif least >= 2 and now_ns >= self._careful_ns:  # noqa: PLR2004 - for twice as long, twice as many
            self.ns = min(2 * self.ns, MOST_NS)

    def _spares(self) -> Iterator[int]:
        for (key, slot), settled in self._touched.items():
            groups = self.queues.of_key(key)
            if not groups or all(each.reason != "credit" for each in groups):
                continue
            pair = self.pairs.known(key, slot)
            if pair is None:
                continue
            yield spare(pair.open, self.pairs.limit(None, key, slot).connections, settled)
