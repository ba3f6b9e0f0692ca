"""Divide a limit that crosses partitions: one of them deals its tokens, the others spend what they were dealt. Pure.

    taker: want/PARTITION in mail.control  ->  dealer (partition 0): spends tokens of the whole, commits, says shares  ->  taker: uses them

A tenant's mail is decided about in as many partitions as its destinations have lanes, and nobody sees all of it; what a tenant or a sending
domain has at one destination, in one for each slot group, and is dealt too where that is more than it has tokens. So the dealer keeps the
one limiter, and gives each of its tokens to one partition, to be used once and before a time. A token that was dealt is spent, whatever
becomes of it: it is never dealt again, so there is nothing to take back, and no share is raised before another has ended.

**Exact.** The dealer's limiter is in mail.state in the transaction before the deal is said, and a new dealer fences the old one: no token
is dealt by two. A deal has its own time, which grows over restarts and owners (``now`` never goes back); a taker takes each once, and
what it used is in the transaction of the grants. A token dealt for the time ``tau`` starts an attempt within ``[tau - AHEAD, tau + valid +
start window]``, and a clock's skew at each end; so the whole is decided for N per (period + that spread), see ``limits``.

**A crash.** Of the dealer before it commits: nothing was dealt. After it, before it could say so: those tokens are lost. Of a taker: what
it had not used is given once more from the log, or lost. While nobody deals (a take-over), what is limited so waits; nothing else does.

**Who gets how much.** Each asks for its appetite, which doubles when it runs out and halves when tokens lapse; the dealer goes round
those that want. What a suspended or slow destination keeps a partition from using is soon not asked for any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from services.scheduler.policy import limits
from services.scheduler.policy.totals import Totals
from shared.protocol.control import ControlView
from shared.records.control import Directive
from shared.records.shares import Share, Shares, Want
from shared.runtime.limitrules import of_part, slot_groups
from shared.runtime.overruling import totals
from shared.runtime.settings import Rate, Settings
from shared.runtime.workings import Timing

_S: Final = 1_000_000_000
#: The partition that deals.
DEALER: Final = 0
#: How often, and for how far ahead of now.
TICK_NS: Final = _S // 4
AHEAD_NS: Final = 1 * _S
# How long a token may be used: a sixtieth of the period, within these.
_VALID_LEAST_NS: Final = 3 * _S
_VALID_MOST_NS: Final = 60 * _S
# A want is said anew so often while it lasts, sooner where something has run out, and counts for so long.
_SAY_NS: Final = 1 * _S
_SAY_SOON_NS: Final = _S // 5
_WANTED_NS: Final = 4 * _S
# Without mail that could use them no tokens are asked for after this.
_ASKED_NS: Final = 10 * _S
_APPETITE_FIRST: Final = 4
_APPETITE_MOST: Final = 100_000


def crossing(settings: Settings, orders: Sequence[Directive] = ()) -> dict[str, Rate]:
    """Name the limits that several partitions keep together, with their rates."""
    if settings.kafka.partitions == 1:
        return {}
    groups = slot_groups(settings)
    return {
        name: rate
        for name, rate in totals(settings, orders).items()
        if name.startswith("tenant:") or (of_part(name) and rate.count < groups)
    }


def valid_ns(rate: Rate) -> int:
    """Say how long a token may be used after it was dealt."""
    return min(max(rate.period_ns // 60, _VALID_LEAST_NS), _VALID_MOST_NS)


def dealt(rate: Rate, timing: Timing) -> Rate:
    """Give the rate at which tokens are dealt, so that the attempts keep ``rate``."""
    spread = limits.spread_ns(timing.total_window_ns, timing.skew_ns)
    return limits.widened(rate, AHEAD_NS + valid_ns(rate) + spread)


class Dealer:
    """Deal, in one partition."""

    def __init__(self, settings: Settings, view: ControlView, limiters: Totals) -> None:
        """Spend from ``limiters``; ``view`` says who wants what."""
        self._settings, self._view, self._totals = settings, view, limiters
        self.overrule(())
        self._next_ns = 0
        #: Name -> who was given something last.
        self._turns: dict[str, int] = {}
        #: (partition, name) -> the want that is being met, by its stamp, and how much of it was given.
        self._met: dict[tuple[int, str], tuple[int, int]] = {}

    def overrule(self, orders: Sequence[Directive]) -> None:
        """Let what operators have ordered of tenants stand above the settings."""
        self._rates = {
            name: (dealt(rate, self._settings.timing), valid_ns(rate))
            for name, rate in crossing(self._settings, orders).items()
        }

    def deal(self, now_ns: int) -> Shares | None:
        """Give to those that want; None: nobody does, or nothing is left. What is given must be committed before it is said."""
        if now_ns < self._next_ns or not self._rates:
            return None
        self._next_ns = now_ns + TICK_NS
        given = {
            name: Share(until_ns=now_ns + valid, tokens=tokens)
            for name, (rate, valid) in self._rates.items()
            if (tokens := self._of(name, rate, now_ns))
        }
        return Shares(given_ns=now_ns, of=given) if given else None

    def _of(self, name: str, rate: Rate, now_ns: int) -> dict[int, int]:
        left = self._wanted(name)
        tokens: dict[int, int] = {}
        while left and (at := self._totals.earliest(_key(name), rate, now_ns)) < now_ns + AHEAD_NS:
            self._totals.spend(_key(name), rate, at)
            last = self._turns.get(name, -1)
            turn = min((p for p in left if p > last), default=min(left))
            self._turns[name] = turn
            tokens[turn] = tokens.get(turn, 0) + 1
            left[turn] -= 1
            if not left[turn]:
                del left[turn]
        for partition, count in tokens.items():
            stamp, met = self._met[partition, name]
            self._met[partition, name] = stamp, met + count
        return tokens

    def _wanted(self, name: str) -> dict[int, int]:
        """Say what is wanted and was not given since it was asked for."""
        found: dict[int, int] = {}
        for partition, (stamp, want) in self._view.wants.items():
            count = want.of.get(name, 0)
            if not count or stamp + _WANTED_NS < self._view.log_ns:
                continue
            before, met = self._met.get((partition, name), (-1, 0))
            if before != stamp:
                met = 0
            self._met[partition, name] = stamp, met
            if count > met:
                found[partition] = count - met
        return found


def _key(name: str) -> str:
    return f"dealt:{name}"


@dataclass(slots=True)
class _Appetite:
    """How many tokens of one limit could be used at a time."""

    size: int = _APPETITE_FIRST
    #: When mail last asked for one, and whether there was none since the last want was said.
    asked_ns: int = 0
    starved: bool = False


@dataclass(slots=True)
class Hand:
    """What one partition holds of the limits that cross."""

    partition: int
    view: ControlView
    totals: Totals
    _read: int = 0
    _appetites: dict[str, _Appetite] = field(default_factory=dict)
    _said_ns: int = 0
    _starved: bool = False

    def receive(self, now_ns: int) -> None:
        """Take what was dealt since the last call, and forget what has lapsed."""
        new = min(self.view.shares_read - self._read, len(self.view.shares))
        self._read = self.view.shares_read
        for shares in [self.view.shares[-at] for at in range(new, 0, -1)]:
            for name, share in shares.of.items():
                tokens = share.tokens.get(self.partition, 0)
                if tokens:
                    self.totals.give(name, shares.given_ns, share.until_ns, tokens)
        for name, appetite in self._appetites.items():
            if self.totals.lapse(name, now_ns):
                appetite.size = max(1, appetite.size // 2)

    def has(self, name: str, now_ns: int) -> bool:
        """Say whether a token may be used now, for mail that is ready to go."""
        appetite = self._appetites.setdefault(name, _Appetite())
        appetite.asked_ns = now_ns
        if self.totals.left(name, now_ns):
            return True
        appetite.starved = self._starved = True
        return False

    def use(self, name: str, now_ns: int) -> int:
        """Use a token; gives until when it holds."""
        return self.totals.use(name, now_ns)

    def want(self, now_ns: int) -> Want | None:
        """Say what is wanted, when it is time to."""
        again = self._said_ns + (_SAY_SOON_NS if self._starved else _SAY_NS)
        if not self._appetites or now_ns < again:
            return None
        wanted: dict[str, int] = {}
        for name, appetite in self._appetites.items():
            if now_ns > appetite.asked_ns + _ASKED_NS:
                continue
            if appetite.starved:
                appetite.size, appetite.starved = min(2 * appetite.size, _APPETITE_MOST), False
            count = appetite.size - self.totals.left(name, now_ns)
            if count > 0:
                wanted[name] = count
        self._said_ns, self._starved = now_ns, False
        return Want(partition=self.partition, of=wanted) if wanted else None
