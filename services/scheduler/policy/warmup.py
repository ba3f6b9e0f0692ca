"""Warm up a new source at one provider: a day's budget, its pace, and what the answers make of the next day. Pure.

    a day on which most of the budget was used  ->  the schedule's next day
    deferrals > 10 %, or complaints > 0.1 %     ->  held: the day does not count, the next one has the same budget
    a block                                     ->  stepped back by a day, at once; and held
    a day that counts                           ->  goes on
    the schedule is over                        ->  warm: no budget any more
    30 days without a grant                     ->  begun again

A day is a day of UTC. Its budget is min(the schedule's, 1.4 x the best day before), and it is spread over the schedule's hours: one grant
keeps its distance from the next. A grant spends when it is made and nothing is given back. Its start, by any clock that is within the
skew, lies in the day whose budget it spent: none is given whose lease would reach beyond the day's end, so leases are cut there. What a day
is judged by is not what was granted, but what was answered on it.

A rate needs 200 answers, or three of the events that it counts. It leaves out what is the recipient's own (greylisting, a full mailbox,
an unknown one) and what was never said to the source at all. Where nobody tells of complaints, deferrals and blocks decide.

``Plan`` is what the operator wrote, ``WarmupState`` what is remembered, and lies in mail.state with the grants that it allowed. Every
function takes the state as ``passed`` has brought it to ``now``.
"""

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from shared.protocol import spacing
from shared.records.outcome import Outcome
from shared.records.state import WarmupState
from shared.runtime.warmups import Warmup

_S: Final = 1_000_000_000
_H: Final = 3_600 * _S
DAY_NS: Final = 24 * _H
#: Days without a grant after which nothing of the reputation is left.
_IDLE_DAYS: Final = 30
#: What a rate is made of, at the least; and how many of what it counts are enough without that.
_LEAST_ANSWERS: Final = 200
_LEAST_EVENTS: Final = 3
#: More than one deferral in so many answers, and more than one complaint, hold.
_DEFERRED_IN: Final = 10
_COMPLAINTS_IN: Final = 1_000
#: A lease that is cut at the day's end must leave a sender so much time.
_LEAST_LEASE_NS: Final = 1 * _S

News = Literal["held", "stepped_back", "resumed", "warm", "begun_again"]
Stage = Literal["warming", "held", "stepped_back", "warm"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A schedule, and which part of its budgets this is."""

    schedule: Warmup
    part: int = 0
    parts: int = 1

    def budget(self, state: WarmupState) -> int:
        """Give the day's budget; of a warm source, the one that it had last."""
        return self.schedule.budget(state.step, state.best, self.part, self.parts)


@dataclass(frozen=True, slots=True)
class Token:
    """A grant may start at ``t0_ns``, and must before ``end_ns``."""

    t0_ns: int
    #: From here on it has been left for a good part of the time to the next.
    left_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Spent:
    """No grant before ``until_ns``."""

    until_ns: int


@dataclass(frozen=True, slots=True)
class Status:
    """What people want to know of it."""

    stage: Stage
    #: 1 is the schedule's first.
    day: int
    budget: int
    used: int


def begin(now_ns: int) -> WarmupState:
    """Start with a source that has never sent."""
    today = now_ns // DAY_NS
    return WarmupState(day=today, last=today)


# -- days


def passed(state: WarmupState, plan: Plan, now_ns: int) -> tuple[WarmupState, News | None]:
    """Bring the state to ``now_ns``: a day that is over is judged, once."""
    today = now_ns // DAY_NS
    if today <= state.day:
        return state, None
    if today - state.last > _IDLE_DAYS:
        return begin(now_ns), "begun_again" if state.step or state.warm else None
    if state.warm:
        return WarmupState(
            day=today, last=state.last, step=state.step, best=state.best, warm=True
        ), None
    # An answer may come on the day after its grant, which it says nothing about.
    done = min(state.sent, state.used)
    counts = not state.spoiled and 2 * done > plan.budget(state)
    step = state.step + counts
    warm = step >= len(plan.schedule.days)
    news: News | None = "resumed" if counts and state.trouble else None
    return WarmupState(
        day=today,
        last=state.last,
        step=step,
        best=state.best if state.spoiled else max(state.best, done),
        pace_ns=state.pace_ns,
        trouble="" if counts else state.trouble,
        warm=warm,
    ), "warm" if warm else news


# -- grants


def token(state: WarmupState, plan: Plan, at_ns: int, skew_ns: int) -> Token | Spent | None:
    """Say when the next grant may start, at ``at_ns`` or later, which may lie a little ahead of the state's day; None: at any time."""
    if state.warm:
        return None
    begins, ends = state.day * DAY_NS + skew_ns, (state.day + 1) * DAY_NS - skew_ns
    tomorrow = Spent(ends + 2 * skew_ns)
    if state.used >= plan.budget(state):
        return tomorrow
    interval = interval_ns(state, plan)
    free = spacing.earliest(state.pace_ns, interval, 1, begins)
    t0 = max(free, at_ns)
    return Token(t0, free + interval // 2, ends) if t0 + _LEAST_LEASE_NS <= ends else tomorrow


def spend(state: WarmupState, t0_ns: int) -> WarmupState:
    """Count a grant that starts at ``t0_ns``."""
    if state.warm and state.last == state.day:
        return state
    return msgspec.structs.replace(state, used=state.used + 1, pace_ns=t0_ns, last=state.day)


def interval_ns(state: WarmupState, plan: Plan) -> int:
    """Give the time between two grants of the day."""
    return -(-plan.schedule.hours * _H // max(1, plan.budget(state)))


# -- answers


def hear(state: WarmupState, outcome: Outcome) -> tuple[WarmupState, News | None]:
    """Learn from an answer."""
    if state.warm:
        return state, None
    told = outcome.scope in ("pair", "provider")
    blocked = told and outcome.category in ("block", "policy")
    if outcome.result == "pair_failed" and not blocked and outcome.category != "rate":
        return state, None
    counted = outcome.scope != "recipient" and outcome.result != "unknown"
    deferred = counted and outcome.result in ("deferred", "pair_failed")
    state = msgspec.structs.replace(
        state,
        # A connection that was refused is no message.
        sent=state.sent + (outcome.result != "pair_failed"),
        counted=state.counted + counted,
        deferred=state.deferred + deferred,
    )
    return _step_back(state) if blocked else _judged(state)


def complained(state: WarmupState) -> tuple[WarmupState, News | None]:
    """Learn that somebody complained of mail that this source sent."""
    if state.warm:
        return state, None
    return _judged(msgspec.structs.replace(state, complaints=state.complaints + 1))


def _judged(state: WarmupState) -> tuple[WarmupState, News | None]:
    over = _over(state.deferred, _DEFERRED_IN, state.counted) or _over(
        state.complaints, _COMPLAINTS_IN, state.counted
    )
    if not over or state.spoiled:
        return state, None
    held = msgspec.structs.replace(state, spoiled=True, trouble=state.trouble or "held")
    return held, "held"


def _over(events: int, one_in: int, answers: int) -> bool:
    enough = answers >= _LEAST_ANSWERS or events >= _LEAST_EVENTS
    return enough and events * one_in > answers


def _step_back(state: WarmupState) -> tuple[WarmupState, News | None]:
    """Go back by a day; many replies of one day say it once."""
    if state.stepped:
        return state, None
    back = msgspec.structs.replace(
        state,
        step=max(0, state.step - 1),
        spoiled=True,
        stepped=True,
        trouble="stepped_back",
    )
    return back, "stepped_back"


# -- hand-over, and what is shown


def later(one: WarmupState, other: WarmupState) -> WarmupState:
    """Give what holds of two memories of the same source: the later one, which knows what the earlier did."""
    return max(one, other, key=lambda state: (state.day, state.used, state.sent, state.counted))


def status(state: WarmupState, plan: Plan) -> Status:
    """Show it."""
    stage: Stage = "warming"
    if state.warm:
        stage = "warm"
    elif state.trouble == "held":
        stage = "held"
    elif state.trouble:
        stage = "stepped_back"
    return Status(stage, state.step + 1, plan.budget(state), state.used)
