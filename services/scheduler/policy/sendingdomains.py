"""Suspend or slow a sending domain at a destination that finds it unauthenticated, or too busy, whatever source its mail comes from. Pure.

    3 replies that it is not authenticated, nothing taken between  ->  suspended, longer each time  ->  a probe a minute  ->  over
    1 that it sends too much                                       ->  stopped as long as is asked  ->  at a learnt pace (``domainpace``)

One reply of the first kind alone may be a name server that did not answer the destination: it is that delivery's. While the domain waits
its lines are shut (``lines``): what waits uses no attempt, other domains go on, and what gathered is released evenly. An attempt granted
before the suspension says nothing new (``mark_ns``). The states are records of mail.state and go with the lane; one that counts no more
is a tombstone.
"""

import random
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec.structs import replace

from services.scheduler.policy import domainpace, suspensions
from services.scheduler.policy.domainpace import Warned
from services.scheduler.policy.entries import sending_domain
from services.scheduler.policy.learning import Kind, PairNews
from services.scheduler.policy.lines import Check, Line, Shut
from services.scheduler.policy.meter import Meter
from services.scheduler.policy.published import COUNT_DOMAINS
from services.scheduler.policy.reaction import Good, SlowDomain, SuspendDomain
from services.scheduler.policy.reactions import of as reaction_of
from services.scheduler.policy.supply import Supply
from shared.records.lanemap import LaneMap
from shared.records.outcome import Outcome
from shared.records.state import DeliveryState, DomainState, Open
from shared.runtime.settings import Backoff as Rules

#: A probe that is not answered in this time is followed by another: about the length of a lease.
_PROBE_NS: Final = 60_000_000_000
#: A token may lie so far ahead that a round finds work until the next one.
_AHEAD_NS: Final = 300_000_000
#: Domains whose mail is counted at one destination.
_COUNTED: Final = 16_384

#: (limit key, sending domain)
Which = tuple[str, str]


class SendingDomains:
    """Know what destinations think of sending domains; a gate of their lines."""

    def __init__(self, rules: Rules, rng: random.Random, horizon_ns: int) -> None:
        """Begin with nothing known; no t0 of a grant lies further ahead of its decision than ``horizon_ns``."""
        self._rules, self._rng, self._horizon_ns = rules, rng, horizon_ns
        #: Limit key -> sending domain.
        self._states: dict[str, dict[str, DomainState]] = {}
        self._dirty: dict[Which, None] = {}
        self._news: list[PairNews] = []
        self._deciders = 1
        self._meters: dict[str, dict[str, Meter]] = {}
        self._since_ns: int | None = None

    # -- changelog, and lanes that change hands

    def restore(self, record: DomainState) -> None:
        """Take a state."""
        which = record.key, record.domain
        state = domainpace.among(record, self._deciders)
        if state is record:
            self._states.setdefault(record.key, {})[record.domain] = record
        else:
            self._keep(which, state)

    def divide(self, deciders: int) -> None:
        """Let a destination be decided about by so many partitions: each has its part of what was learnt of the whole."""
        self._deciders = deciders
        for state in list(self.all()):
            after = domainpace.among(state, deciders)
            if after is not state:
                self._keep((state.key, state.domain), after)

    def take(self) -> dict[Which, DomainState | None]:
        """Give what changed since the last call; None: nothing is known any more."""
        changed = {which: self.known(*which) for which in self._dirty}
        self._dirty = {}
        return changed

    def take_news(self) -> list[PairNews]:
        """Give what operators should know of since the last call."""
        news, self._news = self._news, []
        return news

    def of_lane(self, lane: str, lane_map: LaneMap) -> tuple[DomainState, ...]:
        """Give the states of a lane's destinations, for its next decider: a destination knows no slot groups."""
        return tuple(state for state in self.all() if lane_map.in_lane(state.key, lane))

    def merge(self, records: Iterable[DomainState]) -> None:
        """Take what the decider before knew: field by field the more careful."""
        for record in records:
            which = record.key, record.domain
            taken = domainpace.among(record, self._deciders)
            known = self.known(*which) or taken
            self._keep(
                which,
                replace(
                    domainpace.joined(taken, known),
                    hits=max(known.hits, taken.hits),
                    mark_ns=max(known.mark_ns, taken.mark_ns),
                    suspension=suspensions.stricter(known.suspension, taken.suspension),
                ),
            )

    # -- answers

    def hear(
        self, entry: DeliveryState, key: str, grant: Open, outcome: Outcome, now_ns: int
    ) -> bool:
        """Learn from an answer; True: what is shut has changed."""
        counts = entry.provider in COUNT_DOMAINS
        # Most destinations have said nothing of sending domains.
        if not counts and key not in self._states and outcome.scope != "domain":
            return False
        domain, states = sending_domain(entry), self._states.get(key)
        if (counts or states is not None) and outcome.result not in ("pair_failed", "unknown"):
            self._meter(key, domain, now_ns).add(now_ns)
        state = None if states is None else states.get(domain)
        if state is None and outcome.scope != "domain":
            return False
        which = key, domain
        match reaction_of(entry.provider, outcome):
            case Good() if state is not None:
                return self._good(which, state, grant, outcome, now_ns)
            case SuspendDomain() as reaction:
                return self._bad(which, entry, grant, outcome, reaction, now_ns)
            case SlowDomain() as reaction:
                return self._too_much(which, entry, grant, outcome, reaction, now_ns)
            case _:
                return False

    def granted(self, key: str, entry: DeliveryState, now_ns: int) -> None:
        """Count a grant: a probe, where the domain is suspended and its time has come; the next waits for its answer."""
        if key not in self._states:
            return
        which = key, sending_domain(entry)
        state = self.known(*which)
        if state is not None and state.suspension is not None and state.suspension.left:
            after = replace(state.suspension, until_ns=now_ns + _PROBE_NS)
            self._keep(which, replace(state, suspension=after))

    @property
    def shuts(self) -> bool:
        """Say whether any destination has said something of a sending domain (``lines.Gate``)."""
        return bool(self._states)

    def at(self, limit_key: str, provider: str | None) -> Check | None:
        """Give what is asked of lines that wait there (``lines.Gate``)."""
        del provider
        states = self._states.get(limit_key)
        if states is None:
            return None

        def check(line: Line, now_ns: int) -> Shut | None:
            state = states.get(line.domain)
            return None if state is None else self._shut(state, now_ns)

        return check

    def _shut(self, state: DomainState, now_ns: int) -> Shut | None:
        found = state.suspension
        if found is not None and found.left and now_ns < found.until_ns:
            return Shut(found.until_ns, "suspended", spread=True)
        held = domainpace.held_ns(state, now_ns)
        if held is not None:
            # Its pace spreads what gathers meanwhile.
            return Shut(held, "suspended")
        at = domainpace.earliest(state, now_ns)
        if at <= now_ns + _AHEAD_NS:
            return None
        # Those that wait for the same token come at a random time, so that each is the first as often.
        return Shut(at - self._rng.randint(0, _AHEAD_NS), "domain_rate")

    def spend(self, limit_key: str, entry: DeliveryState, now_ns: int) -> int:
        """Spend the token of a delivery that the check has just let go; gives when its attempt may begin."""
        states = self._states.get(limit_key)
        state = None if states is None else states.get(sending_domain(entry))
        if state is None or state.backoff is None:
            return now_ns
        at = domainpace.earliest(state, now_ns)
        self._keep((state.key, state.domain), domainpace.spend(state, at))
        return max(at, now_ns)

    def known(self, limit_key: str, domain: str) -> DomainState | None:
        """Give what is known of a domain; None: nothing."""
        return self._states.get(limit_key, {}).get(domain)

    def supply(self, limit_key: str, domain: str, from_ns: int) -> list[Supply]:
        """Give what goes of a domain from ``from_ns`` on; empty: nothing slows it."""
        state = self.known(limit_key, domain)
        return [] if state is None else list(domainpace.supply(state, from_ns, self._rules))

    def probes(self, limit_key: str, domain: str) -> bool:
        """Say whether the destination must take something of a domain before more can be said: it is probed, or was just stopped."""
        state = self.known(limit_key, domain)
        if state is None:
            return False
        probed = state.suspension is not None and state.suspension.left > 0
        return probed or (state.backoff is not None and not state.backoff.taken)

    def suspended(self, now_ns: int) -> list[tuple[str, str, int]]:
        """List (limit key, domain, until ns) of those that wait."""
        found = []
        for state in self.all():
            until = domainpace.held_ns(state, now_ns)
            if state.suspension is not None and state.suspension.left:
                until = max(state.suspension.until_ns, until or 0, now_ns)
            if until is not None:
                found.append((state.key, state.domain, until))
        return found

    def slowed(self) -> list[tuple[str, str, int]]:
        """List (limit key, domain, messages a day) of those that may send a learnt part of what they did."""
        return [
            (state.key, state.domain, per_day)
            for state in self.all()
            if (per_day := domainpace.per_day(state)) is not None
        ]

    def all(self) -> Iterator[DomainState]:
        """Give all that is known."""
        return (state for states in self._states.values() for state in states.values())

    def _meter(self, key: str, domain: str, now_ns: int) -> Meter:
        meters = self._meters.get(key)
        meter = None if meters is None else meters.get(domain)
        if meter is None:
            if self._since_ns is None:
                self._since_ns = now_ns
            meters = self._meters.setdefault(key, {})
            if len(meters) >= _COUNTED:
                meters.clear()
            meter = meters[domain] = Meter()
        return meter

    def _good(
        self, which: Which, state: DomainState, grant: Open, outcome: Outcome, now_ns: int
    ) -> bool:
        meter = self._meter(*which, now_ns)
        was, state = state, domainpace.took(state, grant.t0_ns, meter, now_ns, self._rules)
        suspension = state.suspension
        if suspension is None or not suspension.left:
            ended = 0 if suspension is None else suspension.until_ns + self._rules.forget_ns
            if state.backoff is None and now_ns >= ended:
                self._keep(which, None)
            elif state.hits or state is not was:
                self._keep(which, replace(state, hits=0, parts=self._deciders))
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
        state = self._begun(which, entry)
        if grant.t0_ns <= state.mark_ns:
            return False
        probing = state.suspension is not None and state.suspension.left > 0
        state = replace(state, hits=state.hits + 1)
        if state.hits < reaction.hits and not probing:
            self._keep(which, state)
            return False
        was, rules = state.suspension, self._rules
        after = suspensions.suspended(
            was and replace(was, until_ns=min(was.until_ns, now_ns)),
            now_ns,
            self._rng,
            first_ns=max(rules.suspend_first_ns, self._horizon_ns),
            max_ns=rules.suspend_max_ns,
            probes=rules.probes,
        )
        state = replace(state, hits=0, mark_ns=now_ns + self._horizon_ns, suspension=after)
        self._keep(which, state)
        self._tell("suspended", which, state, outcome, reaction.fix, after.until_ns)
        return True

    def _too_much(
        self,
        which: Which,
        entry: DeliveryState,
        grant: Open,
        outcome: Outcome,
        reaction: SlowDomain,
        now_ns: int,
    ) -> bool:
        meter = self._meter(*which, now_ns)
        since = now_ns if self._since_ns is None else self._since_ns
        warning = Warned(now_ns, grant.t0_ns, reaction.hold_ns, self._horizon_ns, since)
        begun = replace(self._begun(which, entry), parts=self._deciders)
        state, new = domainpace.warned(begun, warning, meter, self._rules, self._rng)
        self._keep(which, state)
        if new:
            until = domainpace.held_ns(state, now_ns)
            self._tell("slowed", which, state, outcome, reaction.fix, until)
        return True

    def _begun(self, which: Which, entry: DeliveryState) -> DomainState:
        key, domain = which
        return self.known(key, domain) or DomainState(
            key=key, domain=domain, tenant=entry.tenant, provider=entry.provider
        )

    def _tell(
        self,
        kind: Kind,
        which: Which,
        state: DomainState,
        outcome: Outcome,
        fix: str = "",
        until_ns: int | None = None,
    ) -> None:
        self._news.append(
            PairNews(
                kind,
                which[0],
                None,
                state.provider,
                outcome,
                until_ns,
                fix,
                domain=which[1],
                tenant=state.tenant,
            )
        )

    def _keep(self, which: Which, state: DomainState | None) -> None:
        key, domain = which
        states = self._states.setdefault(key, {})
        if state is None:
            states.pop(domain, None)
        else:
            states[domain] = state
        if not states:
            del self._states[key]
        self._dirty[which] = None
