"""How a source fares at a destination: rates of what became of its mail, fading with a half-life. Pure; constant time and space.

What counts is what the source can help: an answer about a recipient (no such mailbox, full, greylisted, too much mail for that one) is an
answer, and neither a deferral nor a block; a loss after the dot and trouble that is the provider's own are not even that. The sums
fade in steps of 1/32 of the half-life, in whole numbers, so that what is restored is what was.
"""

from dataclasses import dataclass
from typing import Final, Literal

from msgspec.structs import replace

from shared.records.health import Health
from shared.records.outcome import Outcome

_ONE: Final = 1 << 16
_STEPS: Final = 32
_BITS: Final = 32
_FADED: Final = tuple(round(2 ** (_BITS - step / _STEPS)) for step in range(_STEPS))
#: Beyond so many half-lives nothing is left.
_GONE: Final = 64

#: So many good answers are taken for granted: a few bad ones at the start say little.
_PRIOR: Final = 20
#: How much worse than a deferral: published thresholds are about one complaint in a thousand and one block ends everything.
_BLOCK: Final = 8
_COMPLAINT: Final = 100
_LEAST: Final = 1 / 64

Kind = Literal["", "answer", "delivered", "deferred", "blocked", "complained"]
#: Refusals of the source; others that are the pair's are deferrals.
_BLOCKS: Final = frozenset({"block", "policy", "ptr"})


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of the answers, 0 to 1, and how many answers they are of; a complaint is no answer."""

    answers: float
    delivered: float
    deferred: float
    blocked: float
    complained: float


def kind_of(outcome: Outcome) -> Kind:
    """Say what an outcome means for the health of its pair."""
    if outcome.result == "delivered":
        return "delivered"
    if outcome.result == "unknown" or outcome.scope == "provider":
        return ""
    if outcome.result == "pair_failed" or outcome.scope == "pair":
        return "blocked" if outcome.category in _BLOCKS else "deferred"
    if outcome.scope == "domain" and outcome.result == "deferred":
        return "deferred"
    return "answer"


def after(was: Health | None, kind: Kind, now_ns: int, half_life_ns: int) -> Health:
    """Count one answer, or a complaint, at ``now_ns``; in ``was`` itself, unless it is time to let that fade."""
    health = Health(at_ns=now_ns) if was is None else was
    if now_ns - health.at_ns >= half_life_ns // _STEPS:
        health = faded(health, now_ns, half_life_ns)
    match kind:
        case "delivered":
            health.delivered += _ONE
        case "deferred":
            health.deferred += _ONE
        case "blocked":
            health.blocked += _ONE
        case "complained":
            health.complained += _ONE
            return health
        case "answer":
            pass
        case "":
            return health
    health.answers += _ONE
    return health


def faded(health: Health, now_ns: int, half_life_ns: int) -> Health:
    """Give the counts as they are at ``now_ns``, to the last step."""
    step = max(1, half_life_ns // _STEPS)
    steps = (now_ns - health.at_ns) // step
    if steps <= 0:
        return health
    halves, part = divmod(steps, _STEPS)
    if halves >= _GONE:
        return Health(at_ns=now_ns, did=health.did, did_ns=health.did_ns)

    def left(count: int) -> int:
        return count * _FADED[part] >> (_BITS + halves)

    return replace(
        health,
        at_ns=health.at_ns + steps * step,
        answers=left(health.answers),
        delivered=left(health.delivered),
        deferred=left(health.deferred),
        blocked=left(health.blocked),
        complained=left(health.complained),
    )


def rates(several: list[Health]) -> Rates:
    """Give the rates of one pair, or of several together, each faded to the same time."""
    answers = sum(each.answers for each in several)
    of = max(answers, 1)
    return Rates(
        answers=answers / _ONE,
        delivered=sum(each.delivered for each in several) / of,
        deferred=sum(each.deferred for each in several) / of,
        blocked=sum(each.blocked for each in several) / of,
        complained=sum(each.complained for each in several) / of,
    )


def weight(health: Health) -> float:
    """Give the part of its weight, above 0 up to 1, that a source's health leaves it in a rotation; 1 where nothing bad is known."""
    bad = health.deferred + _BLOCK * health.blocked + _COMPLAINT * health.complained
    if not bad:
        return 1.0
    good = _PRIOR * _ONE + health.delivered
    return max(_LEAST, good / (good + bad))


def joined(one: Health | None, other: Health | None, half_life_ns: int) -> Health | None:
    """Join what two deciders counted: different answers of the same pair."""
    if one is None or other is None:
        return one or other
    at = max(one.at_ns, other.at_ns)
    left, right = faded(one, at, half_life_ns), faded(other, at, half_life_ns)
    latest = max(one, other, key=lambda each: (each.did_ns, each.did))
    return Health(
        at_ns=at,
        answers=left.answers + right.answers,
        delivered=left.delivered + right.delivered,
        deferred=left.deferred + right.deferred,
        blocked=left.blocked + right.blocked,
        complained=left.complained + right.complained,
        did=latest.did,
        did_ns=latest.did_ns,
    )
