"""The warm-up budgets of one partition: whose they are, and what is remembered of them. Pure.

A budget belongs to (limit key, slot), the pair, where the key is a provider or a smart host: it has one deciding partition, so its count is
exact. All other sites share one budget for each source, and it is divided between their buckets (``whose``): ``site:N`` at the slot is
counted where the bucket is decided about and goes with it when its lane moves. A bucket that is blocked goes back alone. Together the
buckets never pass the schedule's day; the growth, at most 1.4 times the best day before, is kept by each for itself, which is what the
sites in it see.

What is remembered lies in the pair's record (``PairState.warmup``), written in the transaction of the grants that it allowed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from services.scheduler.policy import warmup
from services.scheduler.policy.warmup import News, Plan, Spent, Status, Token
from services.scheduler.policy.whose import Whose
from shared.records.outcome import Outcome
from shared.records.state import WarmupState
from shared.runtime.settings import Settings
from shared.runtime.warmups import Warmup

#: Whose budget: a provider, a smart host or a bucket of sites, and the slot.
Which = tuple[str, int]


@dataclass(frozen=True, slots=True)
class WarmupNews:
    """Something that people should hear of."""

    key: str
    slot: int
    kind: News
    status: Status


@dataclass(slots=True)
class Budgets:
    """All budgets that this partition counts."""

    settings: Settings
    whose: Whose
    _states: dict[Which, WarmupState] = field(default_factory=dict)
    _schedules: dict[int, Warmup | None] = field(default_factory=dict)
    _plans: dict[Which, Plan] = field(default_factory=dict)
    _dirty: set[Which] = field(default_factory=set)
    _news: list[WarmupNews] = field(default_factory=list)
    #: Some source is being warmed up, or was; else nothing need be asked, or told, here.
    active: bool = field(init=False)

    def __post_init__(self) -> None:
        """Look whether there is anything to count."""
        warmups = self.settings.warmups
        self.active = any(source.warmup in warmups for source in self.settings.sources.values())

    # -- memory

    def restore(self, key: str, slot: int, state: WarmupState | None) -> None:
        """Take what a pair's record says."""
        if state is not None:
            self._states[key, slot] = state

    def merge(self, key: str, slot: int, state: WarmupState | None) -> None:
        """Take what the decider before remembers; it knows all that was spent here before the lane went there."""
        if state is not None:
            known = self._states.get((key, slot))
            self._states[key, slot] = state if known is None else warmup.later(state, known)
            self._dirty.add((key, slot))

    def state(self, key: str, slot: int) -> WarmupState | None:
        """Give what a pair's record must say."""
        return self._states.get((key, slot))

    def take(self) -> set[Which]:
        """Give whose state has changed since the last call."""
        dirty, self._dirty = self._dirty, set()
        return dirty

    def take_news(self) -> list[WarmupNews]:
        """Give what is to be told since the last call."""
        news, self._news = self._news, []
        return news

    # -- grants and answers

    def token(self, key: str, slot: int, now_ns: int, at_ns: int) -> Token | Spent | None:
        """Say when a grant of ``slot`` for ``key`` may start, at ``at_ns`` or later; None: it is warm, or never was warmed up."""
        found = self._find(key, slot)
        if found is None:
            return None
        which, plan = found
        state = self._now(which, plan, now_ns)
        return warmup.token(state, plan, at_ns, self.settings.timing.skew_ns)

    def spend(self, key: str, slot: int, t0_ns: int) -> None:
        """Count a grant that ``token`` allowed."""
        found = self._find(key, slot)
        if found is not None:
            which, plan = found
            state = self._states[which]
            self._set(which, plan, warmup.spend(state, t0_ns), None)

    def hear(self, key: str, slot: int, outcome: Outcome, now_ns: int) -> None:
        """Let the budget learn from an outcome."""
        found = self._find(key, slot)
        if found is not None:
            which, plan = found
            state, news = warmup.hear(self._now(which, plan, now_ns), outcome)
            self._set(which, plan, state, news)

    def complained(self, key: str, slot: int, now_ns: int) -> None:
        """Let the budget learn of a complaint."""
        found = self._find(key, slot)
        if found is not None:
            which, plan = found
            state, news = warmup.complained(self._now(which, plan, now_ns))
            self._set(which, plan, state, news)

    # -- what is shown

    def standing(self, key: str, slot: int, now_ns: int) -> tuple[WarmupState, Plan] | None:
        """Give how far a source has come in its schedule, without noting anything; None: it is warm, or never was warmed up."""
        found = self._find(key, slot)
        if found is None:
            return None
        which, plan = found
        state = self._states.get(which) or warmup.begin(now_ns)
        state, _ = warmup.passed(state, plan, now_ns)
        return None if state.warm else (state, plan)

    def statuses(self, now_ns: int) -> Iterator[tuple[str, int, Status]]:
        """Give (provider, smart host or bucket; slot; status) of each budget that has been asked for."""
        for key, slot in list(self._states):
            found = self._find(key, slot)
            if found is not None:
                which, plan = found
                yield key, slot, warmup.status(self._now(which, plan, now_ns), plan)

    # -- the middle

    def _now(self, which: Which, plan: Plan, now_ns: int) -> WarmupState:
        state = self._states.get(which)
        if state is None:
            state = self._states[which] = warmup.begin(now_ns)
        elif now_ns // warmup.DAY_NS > state.day:
            state, news = warmup.passed(state, plan, now_ns)
            self._set(which, plan, state, news)
        return state

    def _set(self, which: Which, plan: Plan, state: WarmupState, news: News | None) -> None:
        if state is self._states.get(which):
            return
        self._states[which] = state
        self._dirty.add(which)
        if news is not None:
            self._news.append(WarmupNews(*which, news, warmup.status(state, plan)))

    def _find(self, key: str, slot: int) -> tuple[Which, Plan] | None:
        try:
            schedule = self._schedules[slot]
        except KeyError:
            source = self.settings.source_of(slot)
            schedule = self.settings.warmups.get(source.warmup) if source is not None else None
            self._schedules[slot] = schedule
        if schedule is None:
            return None
        whose, part, parts = self.whose.of(key)
        plan = self._plans.get((whose, slot))
        if plan is None:
            plan = self._plans[whose, slot] = Plan(schedule, part, parts)
        return (whose, slot), plan
