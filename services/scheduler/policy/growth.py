"""Let a destination that nobody knows have little mail at first, and more as it takes it. Pure.

    rate = start + one for every ten seconds' worth of a message that was taken, up to the rate that is set, or ``GROWN``

While mail goes at the whole rate, it doubles every ten seconds' length (RFC 5321 says nothing of this; every host that greylists or
counts does). A refusal that is the pair's halves what was learnt, so that a host which can bear only so much is found within one
doubling. What was learnt rests with the pair, and is forgotten after thirty idle days, as reputation is.
"""

from typing import Final

from shared.records.outcome import Outcome
from shared.runtime.settings import Limit, Rate

_S: Final = 1_000_000_000
DOUBLING_NS: Final = 10 * _S
#: Nobody's patience is tried by less; beyond it the destination is as any that is known.
GROWN: Final = Rate(6000, 60 * _S)
IDLE_NS: Final = 30 * 86_400 * _S


def rate(start: Rate, good: int) -> Rate:
    """Give the rate after ``good`` messages that were taken."""
    more = good * start.period_ns // DOUBLING_NS
    return Rate(start.count + more, start.period_ns, start.burst)


def enough(start: Rate, top: Rate | None) -> int:
    """Say after how many messages ``top`` (None: ``GROWN``) is reached: from then on nothing is held back."""
    top = GROWN if top is None else top
    missing = -(-top.count * start.period_ns // top.period_ns) - start.count
    return max(0, -(-missing * DOUBLING_NS // start.period_ns))


def heard(good: int, whole: Limit, outcome: Outcome) -> int:
    """Take an answer: a message that was accepted counts, a refusal that is the pair's halves; gives the count from then on.

    ``whole`` is the limit that it grows towards.
    """
    if outcome.result == "pair_failed" or outcome.scope in ("pair", "provider"):
        return good // 2
    if outcome.result != "delivered" or whole.start_rate is None:
        return good
    return min(good + 1, enough(whole.start_rate, whole.rate))


def merged(one: int, other: int) -> int:
    """Join what two deciders know: the one that knows nothing has no say, else the more careful."""
    return min(one, other) if one and other else max(one, other)
