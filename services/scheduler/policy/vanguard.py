"""Which source of a pool goes first where nobody knows how much a provider takes: the others do no more than that one bore. Pure.

    a provider for which no rate is set, and a source that has learnt none there
      -> one of the pool leads: under way it has what its connections can take twice, and a quarter of what was answered of late
      -> the others have, in no window, more than was answered of one that led: what it is warned at they have not reached
      -> it has led for a minute, or may not send: the next one that would do more leads
      -> it is warned: what it bore counts no more; ``hearsay`` tells the others, and who goes on without having believed it leads

A campaign comes to all sources at once, and all of them would reach a quota within the same second, each to be warned by itself. This way
it costs the reputation of one. Who follows is behind by what is under way at the one that leads, a second or two, and no slower.

It is no limit: where none of those that could take a delivery leads (they are of another pool, or tied to a recipient), one of them begins
to. What is known here is of this process; after a restart, or a hand-over, one goes first again. Sites that are no provider's begin with
little and grow (``growth``), which is more careful still; smart hosts are paid for taking what comes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isqrt
from typing import Final

from services.scheduler.policy import pauses
from services.scheduler.policy.lines import FOREVER
from services.scheduler.policy.meter import LONGEST_NS
from services.scheduler.policy.pair import FEW, Pair
from shared.records.lanemap import group_of
from shared.runtime.settings import Settings

_S: Final = 1_000_000_000
#: Providers count over times such as these; who keeps to what was borne in each of them keeps to what was borne between.
_WINDOWS_NS: Final = (60 * _S, 300 * _S, 900 * _S, LONGEST_NS)
_LEADS_NS: Final = 60 * _S
_LATELY_NS: Final = 20 * _S
#: Of what was answered in that time, a part may be under way: some seconds of it, more each time as it goes faster.
_PART: Final = 4
#: One that follows and may do no more is not asked sooner than this.
_AGAIN_NS: Final = 100_000_000


@dataclass(slots=True)
class _Lead:
    """Who goes first at a provider, and the most that was borne in each window, now and in the time before."""

    slot: int
    since_ns: int
    kept_ns: int
    borne: list[int] = field(default_factory=lambda: [FEW] * len(_WINDOWS_NS))
    before: list[int] = field(default_factory=lambda: [FEW] * len(_WINDOWS_NS))

    def note(self, pair: Pair, now_ns: int, keep_ns: int) -> None:
        """Look at what the one that leads has borne."""
        if now_ns - self.kept_ns >= keep_ns:
            self.kept_ns, self.before, self.borne = now_ns, self.borne, [FEW] * len(_WINDOWS_NS)
        for at, window in enumerate(_WINDOWS_NS):
            self.borne[at] = max(self.borne[at], pair.meter.taken(now_ns, window))

    def room(self, pair: Pair, now_ns: int) -> int:
        """Say how many more another may have, so that it has no more than was borne in any window."""
        left = FOREVER
        for most, window in zip(map(max, self.borne, self.before), _WINDOWS_NS, strict=True):
            # Two counts of the same differ by so much; and the edge of a window is known to some seconds.
            left = min(left, most - isqrt(most) // 2 - pair.meter.taken(now_ns, window))
        return left - pair.open


class Vanguards:
    """Who leads, at each provider, among sources that share pools."""

    def __init__(self, settings: Settings) -> None:
        """Divide the sources into crews, which hear of each other."""
        self._providers = settings.providers
        self._keep_ns = settings.backoff.forget_ns
        self._crews = _crews(settings)
        self._leads: dict[tuple[str, int], _Lead] = {}

    def concern(self, key: str, slot: int) -> bool:
        """Say whether anybody of a key has to follow."""
        return slot in self._crews and key in self._providers

    def lets(
        self, pair: Pair, connections: int, pairs: Mapping[tuple[str, int], Pair], now_ns: int
    ) -> bool:
        """Say whether a pair whose ``slack`` is used up may have more; it is given that."""
        where = pair.key, self._crews[pair.slot]
        lead = self._leads.get(where)
        if lead is None:
            lead = self._leads[where] = _Lead(pair.slot, now_ns, now_ns)
        elif lead.slot != pair.slot and now_ns < pair.asked_ns + _AGAIN_NS:
            return False
        pair.asked_ns = now_ns
        first = pairs.get((pair.key, lead.slot))
        if first is None or not _fit(first):
            self.lead(pair, now_ns)
        else:
            lead.note(first, now_ns, self._keep_ns)
        pair.slack = lead.room(pair, now_ns)
        if pair.slack <= 0 and now_ns - lead.since_ns >= _LEADS_NS:
            self.lead(pair, now_ns)
        if lead.slot == pair.slot:
            late = pair.meter.taken(now_ns, _LATELY_NS) // _PART
            pair.slack = max(pair.slack, 2 * connections + late - pair.open)
        return pair.slack > 0

    def leads(self, key: str, slot: int) -> bool:
        """Say whether a source goes first."""
        lead = self._leads.get((key, self._crews[slot]))
        return lead is not None and lead.slot == slot

    def lead(self, pair: Pair, now_ns: int) -> None:
        """Let a pair go first."""
        where = pair.key, self._crews[pair.slot]
        lead = self._leads.setdefault(where, _Lead(pair.slot, now_ns, now_ns))
        lead.slot, lead.since_ns = pair.slot, now_ns

    def warned(self, pair: Pair, pairs: Mapping[tuple[str, int], Pair]) -> None:
        """Take it that a pair was warned: nothing that was borne counts."""
        crew = self._crews.get(pair.slot)
        if crew is None or self._leads.pop((pair.key, crew), None) is None:
            return
        for slot, other in self._crews.items():
            each = pairs.get((pair.key, slot)) if other == crew else None
            if each is not None:
                each.slack = 0


def _fit(pair: Pair) -> bool:
    """Say whether nothing is held against a pair."""
    return pair.backoff is None and type(pair.pause) is pauses.Clear


def _crews(settings: Settings) -> dict[int, int]:
    """Give each slot that shares a pool, and the decider, with another the first slot of all that it is joined with."""
    joined: dict[int, set[int]] = {}
    for pool in settings.pools.values():
        known = settings.sources.keys() & pool.sources.keys()
        by_group: dict[int, set[int]] = {}
        for slot in (settings.sources[name].slot for name in known):
            by_group.setdefault(group_of(slot), set()).add(slot)
        for slots in by_group.values():
            whole = slots.union(*(joined.get(slot, ()) for slot in slots))
            joined |= dict.fromkeys(whole, whole)
    return {slot: min(whole) for slot, whole in joined.items() if len(whole) > 1}
