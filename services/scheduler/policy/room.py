"""Room for a grant: what a pair answers when it is asked for some. Pure."""

from typing import Final

import msgspec

from services.scheduler.policy import backoff, pauses
from services.scheduler.policy.pair import Pair
from services.scheduler.policy.pairlimit import PairLimit
from services.scheduler.policy.warmup import Token


class Room(msgspec.Struct, frozen=True, gc=False):
    """The pair may take a grant that starts at ``t0_ns``."""

    t0_ns: int
    #: What holds for it.
    limit: PairLimit
    #: Where its source is being warmed up.
    warming: Token | None = None


class Full(msgspec.Struct, frozen=True, gc=False):
    """Not before ``until_ns``; None: until an outcome comes. ``why`` names the constraint."""

    until_ns: int | None
    why: str


#: Until an outcome comes.
NO_CREDIT: Final = Full(None, "credit")
#: Another source goes first (``vanguard``): until more of that one is answered.
BEHIND: Final = Full(None, "credit")


def held(pair: Pair, limit: PairLimit, now_ns: int) -> Full | None:
    """Say what holds a pair back but its rates: a pause, a back-off, its open grants."""
    if type(pair.pause) is not pauses.Clear:
        match pauses.may_grant(pair.pause, now_ns, pair.open):
            case pauses.Deferred(until_ns=until):
                return Full(until, "paused")
            case pauses.Allowed():
                pass
    if pair.backoff is not None:
        match backoff.may_grant(pair.backoff, now_ns, pair.open):
            case pauses.Deferred(until_ns=until):
                return Full(until, "suspended")
            case pauses.Allowed():
                pass
    return NO_CREDIT if pair.open >= limit.credit else None
