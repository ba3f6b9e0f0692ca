"""Suspend a sending domain at a destination that finds it unauthenticated, or too busy, whatever source its mail comes from. Pure.

    3 such replies, nothing taken between  ->  suspended, longer each time  ->  a probe a minute  ->  enough of them taken: over
    1 that says that it sent too much      ->  the same

One reply alone may be a name server that did not answer the destination: it is that delivery's. While the domain is suspended its lines
are shut (``lines``): what waits uses no attempt, other domains go on, and what gathered is released evenly. An attempt granted before the
suspension says nothing new (``mark_ns``). The states are records of mail.state and go with the lane; one that counts no more is a
tombstone.
"""

import random
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from services.scheduler.policy import suspensions
from services.scheduler.policy.entries import line_of
from services.scheduler.policy.learning import Kind, PairNews
from services.scheduler.policy.lines import Check, Line, Shut
from services.scheduler.policy.reactions import Good, SuspendDomain
from services.scheduler.policy.reactions import of as reaction_of
from shared.records.lanemap import LaneMap
from shared.records.outcome import Outcome
from shared.records.state import DeliveryState, DomainState, Open
from shared.runtime.settings import Backoff as Rules

#: A probe that is not answered in this time is followed by another: about the length of a lease.
_PROBE_NS: Final = 60_000_000_000

#: (limit key, sending domain)
Which = tuple[str, str]


class SendingDomains:
    """Know what destinations think of sending domains; a gate of their lines."""

    def __init__(self, rules: Rules, rng: random.Random, horizon_ns: int) -> None:
        """Begin with nothing known; no t0 of a grant lies further ahead of its decision than ``horizon_ns``."""
        self._rules, self._rng, self._horizon_ns = rules, rng, horizon_ns
        self._states: dict[Which, DomainState] = {}
        self._dirty: dict[Which, None] = {}
        self._news: list[PairNews] = []

    # -- changelog, and lanes that change hands

    def restore(self, record: DomainState) -> None:
        """Take a state."""
        self._states[record.key, record.domain] = record

    def take(self) -> dict[Which, DomainState | None]:
        """Give what changed since the last call; None: nothing is known any more."""
        changed = {which: self._states.get(which) for which in self._dirty}
        self._dirty = {}
        return changed

    def take_news(self) -> list[PairNews]:
        """Give what operators should know of since the last call."""
        news, self._news = self._news, []
        return news

    def of_lane(self, lane: str, lane_map: LaneMap) -> tuple[DomainState, ...]:
        """Give the states of a lane's destinations, for its next decider: a destination knows no slot groups."""
        return tuple(state for state in self._states.values() if lane_map.in_lane(state.key, lane))

    def merge(self, records: Iterable[DomainState]) -> None:
        """Take what the decider before knew: field by field the more careful."""
        for record in records:
            which = record.key, record.domain
            known = self._states.get(which, record)
            self._keep(
                which,
                replace(
                    record,
                    hits=max(known.hits, record.hits),
                    mark_ns=max(known.mark_ns, record.mark_ns),
                    suspension=suspensions.stricter(known.suspension, record.suspension),
                ),
            )

    # -- answers

    def hear(
        self, entry: DeliveryState, key: str, grant: Open, outcome: Outcome, now_ns: int
    ) -> bool:
        """Learn from an answer; True: what is shut has changed."""
        if outcome.scope != "domain" and not self._states:
            return False
        which = key, line_of(entry).domain
        state = self._states.get(which)
        match reaction_of(entry.provider, outcome):
            case Good() if state is not None:
                return self._good(which, state, grant, outcome, now_ns)
            case SuspendDomain() as reaction:
                return self._bad(which, entry, grant, outcome, reaction, now_ns)
            case _:
                return False

    def granted(self, key: str, entry: DeliveryState, now_ns: int) -> None:
        """Count a grant: a probe, where the domain is suspended and its time has come; the next waits for its answer."""
        if not self._states:
            return
        which = key, line_of(entry).domain
        state = self._states.get(which)
        if state is not None and state.suspension is not None and state.suspension.left:
            after = replace(state.suspension, until_ns=now_ns + _PROBE_NS)
            self._keep(which, replace(state, suspension=after))

    def at(self, limit_key: str, provider: str | None) -> Check | None:
        """Give what is asked of lines that wait there (``lines.Gate``)."""
        del provider
        if not self._states:
            return None

        def check(line: Line, now_ns: int) -> Shut | None:
            state = self._states.get((limit_key, line.domain))
            found = None if state is None else state.suspension
            if found is None or not found.left or now_ns >= found.until_ns:
                return None
            return Shut(found.until_ns, "suspended", spread=True)

        return check

    def suspended(self, now_ns: int) -> list[tuple[str, str, int]]:
        """List (limit key, domain, until ns) of those that wait."""
        return [
            (key, domain, max(state.suspension.until_ns, now_ns))
            for (key, domain), state in self._states.items()
            if state.suspension is not None and state.suspension.left
        ]

    def _good(
        self, which: Which, state: DomainState, grant: Open, outcome: Outcome, now_ns: int
    ) -> bool:
        suspension = state.suspension
        if suspension is None:
            self._keep(which, None)
            return False
        if not suspension.left:
            if now_ns >= suspension.until_ns + self._rules.forget_ns:
                self._keep(which, None)
            elif state.hits:
                self._keep(which, replace(state, hits=0))
            return False
        if grant.t0_ns <= state.mark_ns:
            return False
        after = replace(suspension, until_ns=now_ns, left=suspension.left - 1)
        self._keep(which, replace(state, hits=0, suspension=after))
        if not after.left:
            self._tell("resumed", which, state, outcome)
        return True

    def _bad(
        self,
        which: Which,
        entry: DeliveryState,
        grant: Open,
        outcome: Outcome,
        reaction: SuspendDomain,
        now_ns: int,
    ) -> bool:
        key, domain = which
        state = self._states.get(which)
        if state is None:
            state = DomainState(
                key=key, domain=domain, tenant=entry.tenant, provider=entry.provider
            )
        if grant.t0_ns <= state.mark_ns:
            return False
        probing = state.suspension is not None and state.suspension.left > 0
        state = replace(state, hits=state.hits + 1)
        if state.hits < reaction.hits and not probing:
            self._keep(which, state)
            return False
        was, rules = state.suspension, self._rules
        first = rules.suspend_first_ns if reaction.first_ns is None else reaction.first_ns
        after = suspensions.suspended(
            was and replace(was, until_ns=min(was.until_ns, now_ns)),
            now_ns,
            self._rng,
            first_ns=max(first, self._horizon_ns),
            max_ns=rules.suspend_max_ns,
            probes=rules.probes,
        )
        state = replace(state, hits=0, mark_ns=now_ns + self._horizon_ns, suspension=after)
        self._keep(which, state)
        self._tell("suspended", which, state, outcome, reaction.fix)
        return True

    def _tell(
        self,
        kind: Kind,
        which: Which,
        state: DomainState,
        outcome: Outcome,
        fix: str = "",
    ) -> None:
        until = state.suspension.until_ns if fix and state.suspension is not None else None
        self._news.append(
            PairNews(
                kind,
                which[0],
                None,
                state.provider,
                outcome,
                until,
                fix,
                domain=which[1],
                tenant=state.tenant,
            )
        )

    def _keep(self, which: Which, state: DomainState | None) -> None:
        if state is None:
            self._states.pop(which, None)
        else:
            self._states[which] = state
        self._dirty[which] = None
