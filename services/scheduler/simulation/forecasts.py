"""Hold what ``postyard explain`` would have answered against what came: when a waiting delivery goes.

Every few minutes some that wait are drawn and explained. Of each that goes later on its error is the difference between the two times, as
a part of how long it still had to wait; one that goes soon says nothing, for a round and a turn are then the most of it. What arrives
after the question can only make it later where order says so: the answer is for a queue to which nothing comes.

An answer that rests on a probe says what holds if that is taken. Where it was not, nothing is judged, and the answer is counted as
``unfounded``: whether a host that is away comes back is nothing that a queue knows.
"""

import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from services.scheduler.policy.ledger import Ledger

_S: Final = 1_000_000_000
_EVERY_NS: Final = 300 * _S
_DRAWN: Final = 40
#: A shorter wait is not judged.
_LEAST_NS: Final = 60 * _S


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer: what bound the delivery, and when it was to go."""

    at_ns: int
    eta_ns: int
    reason: str
    key: str
    #: It holds if the next probe is taken.
    probed: bool


@dataclass(slots=True)
class Forecasts:
    """Ask, and see."""

    rng: random.Random
    #: Reason -> errors, as parts of the wait.
    errors: dict[str, list[float]] = field(default_factory=dict)
    #: Reason -> answers that rested on a probe which was not taken.
    unfounded: Counter[str] = field(default_factory=Counter)
    #: Answers that named no time.
    endless: int = 0
    #: When some are drawn next.
    next_ns: int = 0
    _asked: dict[str, Asked] = field(default_factory=dict)

    def ask(self, ledger: Ledger, now_ns: int) -> None:
        """Draw some of what waits, when it is time to."""
        if now_ns < self.next_ns:
            return
        self.next_ns = now_ns + _EVERY_NS
        count = len(ledger.entries)
        wanted = sorted(self.rng.sample(range(count), min(count, _DRAWN)))
        ids = iter(ledger.entries)
        at = 0
        for number in wanted:
            id_ = next(islice(ids, number - at, None))
            at = number + 1
            self._explain(ledger, id_, now_ns)

    def _explain(self, ledger: Ledger, id_: str, now_ns: int) -> None:
        entry = ledger.entries[id_]
        if entry.open is not None or id_ in self._asked:
            return
        said = ledger.explain(entry)
        if said.eta_ns is None:
            self.endless += 1
        else:
            key = ledger.limit_key(entry)
            self._asked[id_] = Asked(now_ns, said.eta_ns, said.bound.reason, key, said.probed)

    def refused(self, key: str) -> None:
        """Take it that a destination did not answer, or took no mail: what was said on the condition that it would is void."""
        for id_, asked in list(self._asked.items()):
            if asked.probed and asked.key == key:
                self.unfounded[asked.reason] += 1
                del self._asked[id_]

    def went(self, id_: str, t0_ns: int) -> None:
        """Take it that a delivery may start at ``t0_ns``."""
        asked = self._asked.pop(id_, None)
        if asked is not None and t0_ns - asked.at_ns >= _LEAST_NS:
            error = abs(asked.eta_ns - t0_ns) / (t0_ns - asked.at_ns)
            self.errors.setdefault(asked.reason, []).append(error)
