"""What a pair learns from an answer: whether it works, and whether it is too much for the destination. Pure.

    outcome -> reaction (``reactions``) -> its pause (``pauses``), its back-off (``backoff``), the share of unknown outcomes

Every answer goes through here once. What operators should know of is kept until it is taken.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from services.scheduler.policy import backoff, health, hearsay, limits, pauses, reaction, reactions
from services.scheduler.policy.meter import LONGEST_NS, Meter
from services.scheduler.policy.pair import Pair
from services.scheduler.policy.pairlimit import PairLimit
from shared.records.backoff import NO_BACKOFF
from shared.records.outcome import Outcome
from shared.runtime.settings import Backoff as Rules
from shared.runtime.workings import Timing

#: So many complaints of a host about itself, with nothing taken between them, are the pair's trouble.
_TROUBLES: Final = 5


Kind = Literal["slowed", "suspended", "resumed"]

# More than this share of a pair's attempts unknown within the time: something eats our mail, stop it.
_UNKNOWN_SHARE: Final = 0.05
_UNKNOWN_WINDOW_NS: Final = 600 * 1_000_000_000
_UNKNOWN_LEAST: Final = 100
_HEARD: Final = "the destination says to another source of its pool that it is too much"
_MORE: Final = "the destination takes more of another source of its pool"
#: Nobody counts mail over less, and stops for longer.
_LEAST_WINDOW_NS: Final = 60 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a grant that is settled."""

    provider: str | None
    t0_ns: int
    outcome: Outcome
    #: Asked for what is in force, and what would be but for what the pair has learnt.
    limits: Callable[[], tuple[PairLimit, PairLimit]]
    #: No t0 of a grant lies further ahead of its decision.
    horizon_ns: int
    #: Asked for the other sources of its pools that have come as far as it has.
    siblings: Callable[[], Sequence[Pair]] = tuple


@dataclass(frozen=True, slots=True)
class PairNews:
    """Something about a pair that an operator should know."""

    kind: Kind
    key: str
    slot: int | None
    provider: str | None
    #: What it is about; of ``resumed`` the last probe.
    outcome: Outcome
    #: Nothing goes before; None: something does.
    until_ns: int | None = None
    #: What an operator can do about it.
    fix: str = ""
    #: The sending domain, and whose it is, where it is not the source that waits.
    domain: str = ""
    tenant: str = ""
    #: Why, where it is not what the destination said of it.
    because: str = ""


def counted(meter: Meter, window_ns: int, now_ns: int, *, refused: bool) -> int | None:
    """Give what was done in ``window_ns``, messages a day; ``refused``: the one that was too much is among the answers."""
    found = meter.counted(now_ns, window_ns)
    if found is None or not refused:
        return found
    # The one that was too much is no part of what it took.
    return found - limits.DAY_NS // window_ns


@dataclass(slots=True)
class Learning:
    """Let pairs learn."""

    rules: Rules
    times: Timing
    rng: random.Random
    _news: list[PairNews] = field(default_factory=list)

    def take(self) -> list[PairNews]:
        """Give the news since the last call."""
        news, self._news = self._news, []
        return news

    def hear(
        self,
        pair: Pair,
        answer: Answer,
        now_ns: int,
        everywhere: Callable[[], Iterable[Pair]],
    ) -> list[Pair]:
        """Take an answer; gives the pairs that may now do other than before. ``everywhere``: the pairs of the same key."""
        before = pair.pause, pair.backoff
        others: list[Pair] = []
        self._reflect(pair, answer.outcome, now_ns)
        match reactions.of(answer.provider, answer.outcome):
            case reaction.Good():
                pair.troubles = 0
                self._good(pair, answer, now_ns)
                if hearsay.disproved(pair, now_ns):
                    others = self._disprove(pair, answer)
            case reaction.Trouble():
                pair.troubles += 1
                if pair.troubles >= _TROUBLES:
                    pair.troubles = 0
                    self._fail(pair, now_ns)
            case reaction.Fail(everywhere=False):
                self._fail(pair, now_ns)
            case reaction.Fail():
                return [each for each in everywhere() if self._fail(each, now_ns)]
            case (reaction.Slow() | reaction.Fewer() | reaction.Suspend()) as caution:
                others = self._warned(pair, answer, caution, now_ns)
            case reaction.SuspendDomain() | reaction.SlowDomain() | reaction.Nothing():
                pass
        return others if (pair.pause, pair.backoff) == before else [pair, *others]

    def fine(self, pair: Pair, now_ns: int) -> None:
        """Take the answer that most are: delivered, by a pair that nothing is held against."""
        pair.health = health.after(pair.health, "delivered", now_ns, self.rules.half_life_ns)
        pair.troubles = 0
        pair.meter.add(now_ns)
        if now_ns - pair.window_ns > _UNKNOWN_WINDOW_NS:
            self._count(pair, now_ns, unknown=False)
        else:
            pair.attempts += 1

    def forgets(self, pair: Pair, now_ns: int) -> bool:
        """Let a back-off end that counts no more; True where one did."""
        if pair.backoff is None or not backoff.forgotten(pair.backoff, now_ns, self.rules):
            return False
        pair.backoff = None
        return True

    def _reflect(self, pair: Pair, outcome: Outcome, now_ns: int) -> None:
        """Count the answer; any to MAIL or later says that the pair can be reached."""
        kind = health.kind_of(outcome)
        if kind:
            pair.health = health.after(pair.health, kind, now_ns, self.rules.half_life_ns)
        if outcome.result == "pair_failed":
            return
        if outcome.result != "unknown":
            pair.meter.add(now_ns)
            pair.pause = pauses.on_success(pair.pause, now_ns)
        self._count(pair, now_ns, unknown=outcome.result == "unknown")

    def _count(self, pair: Pair, now_ns: int, *, unknown: bool) -> None:
        if now_ns - pair.window_ns > _UNKNOWN_WINDOW_NS:
            pair.window_ns, pair.attempts, pair.unknowns = now_ns, 0, 0
        pair.attempts += 1
        pair.unknowns += unknown
        if (
            unknown
            and pair.attempts >= _UNKNOWN_LEAST
            and pair.unknowns > _UNKNOWN_SHARE * pair.attempts
        ):
            self._fail(pair, now_ns)
            pair.window_ns, pair.attempts, pair.unknowns = now_ns, 0, 0

    def _fail(self, pair: Pair, now_ns: int) -> bool:
        before = pair.pause
        pair.pause = pauses.on_failure(before, now_ns, self.times, self.rng)
        return pair.pause != before

    def _good(self, pair: Pair, answer: Answer, now_ns: int) -> None:
        if pair.backoff is None:
            return
        pair.backoff, resumed = backoff.on_good(
            pair.backoff, answer.t0_ns, now_ns, self.rules.step_ns, pair.meter.per_day(now_ns)
        )
        if resumed:
            self._tell("resumed", pair, answer)

    def _disprove(self, scout: Pair, answer: Answer) -> list[Pair]:
        """Let a source that bears more than another was warned at free those that took it for a rule."""
        freed = hearsay.free([scout, *answer.siblings()])
        for each in freed.concerned:
            self._tell("resumed", each, answer, because=_MORE)
        return freed.pairs

    def _warned(
        self, pair: Pair, answer: Answer, caution: reaction.Caution, now_ns: int
    ) -> list[Pair]:
        """Slow, or suspend, the pair; gives others that it is a warning to as well."""
        heard = self._heard(pair, answer, caution, now_ns)
        before = pair.backoff or NO_BACKOFF
        after, news = backoff.on_warning(before, caution, heard, self.rules, self.rng)
        pair.backoff = after
        if not news:
            return []
        if isinstance(caution, reaction.Fewer) and heard.connections == 1:
            # It cannot be fewer: then it is the pair that does not work.
            self._fail(pair, now_ns)
        # What is granted from here on keeps its distance from what was granted before, whatever the rate was.
        pair.limiter = max(pair.limiter, after.mark_ns)
        pair.meter.reset(now_ns)
        fix = caution.fix if isinstance(caution, reaction.Suspend) else ""
        self._tell(news, pair, answer, backoff.until_ns(after, now_ns), fix)
        window = _counts_over(caution, self.rules)
        volume = isinstance(caution, reaction.Slow) or (
            isinstance(caution, reaction.Suspend) and caution.volume
        )
        if not volume or window is None or heard.counted is None:
            return []
        if after.pace is None or (before.pace is not None and now_ns < before.pace.careful_ns):
            # It is told to it again, below what hurt before: that is its own trouble.
            return []
        told = hearsay.tell(after.pace.hurt, window, answer.siblings(), now_ns, self.rules)
        for each in told.concerned:
            until = backoff.until_ns(each.backoff or NO_BACKOFF, now_ns)
            self._tell("slowed", each, answer, until, because=_HEARD)
        return told.pairs

    def _heard(
        self, pair: Pair, answer: Answer, caution: reaction.Caution, now_ns: int
    ) -> backoff.Heard:
        limit, allowed = answer.limits()
        rate, said = limit.rate, None if pair.backoff is None else pair.backoff.hearsay
        if said is not None and answer.t0_ns <= said.heard_ns:
            # It was granted before what others were told held for it.
            rate = allowed.rate
        measured = pair.meter.measured(now_ns)
        return backoff.Heard(
            now_ns=now_ns,
            t0_ns=answer.t0_ns,
            did=pair.meter.per_day(now_ns) if measured is None else measured,
            measured=measured is not None,
            counted=self._counted(pair, answer, caution, now_ns),
            rate=None if rate is None else limits.daily(rate),
            limit=None if allowed.rate is None else limits.daily(allowed.rate),
            connections=limit.connections,
            open=pair.open + 1,
            horizon_ns=answer.horizon_ns,
        )

    def _counted(
        self, pair: Pair, answer: Answer, caution: reaction.Caution, now_ns: int
    ) -> int | None:
        """Give what the pair did in as long as it is to wait; None: too few answers, or the wait has nothing to do with how many."""
        window = _counts_over(caution, self.rules)
        if window is None:
            return None
        refused = answer.outcome.result != "pair_failed"
        return counted(pair.meter, window, now_ns, refused=refused)

    def _tell(
        self,
        kind: Kind,
        pair: Pair,
        answer: Answer,
        until_ns: int | None = None,
        fix: str = "",
        because: str = "",
    ) -> None:
        self._news.append(
            PairNews(
                kind,
                pair.key,
                pair.slot,
                answer.provider,
                answer.outcome,
                until_ns,
                fix,
                because=because,
            )
        )


def _counts_over(caution: reaction.Caution, rules: Rules) -> int | None:
    """Say over how long a destination counts: as long as it is to wait, within bounds; None: the wait says nothing of it."""
    match caution:
        case reaction.Slow(hold_ns=hold):
            window = rules.hold_ns if hold is None else hold
        case reaction.Suspend(first_ns=int(first), slower=True):
            window = first
        case _:
            return None
    return min(max(window, _LEAST_WINDOW_NS), LONGEST_NS)
