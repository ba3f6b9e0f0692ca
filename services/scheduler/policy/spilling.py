"""Mail that spills over: where a pool's backlog for a destination is too old, a part of it goes by another pool. Pure.

    ready for longer than ``after``  ->  its pool is the other one from now on, as after an operator's reroute

At most ``share`` of a day's mail (what was granted by the pool, what spilled and what waits), and at most ``daily`` in number. Both are for
each provider by itself, since there the pool is decided about in one place; the other sites are counted together, a bucket of theirs at a
time, and each bucket has its part of ``daily``. Only mail of tenants who may use the other pool spills, the oldest first, and never what
is held back by something that holds there too (an operator's order, a window, a tenant's own limit). What spilled never comes back.

The counts are kept with the totals of the limit key (``TotalState.spills``), in the transaction of what they count.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from services.scheduler.policy.limits import SMARTHOST
from services.scheduler.policy.whose import Whose
from shared.records.state import SpillState
from shared.runtime.settings import Settings, Spill

if TYPE_CHECKING:
    from services.scheduler.policy.group import Group
    from services.scheduler.policy.queues import Queues

_DAY_NS: Final = 86_400 * 1_000_000_000
_EVERY_NS: Final = 5 * 1_000_000_000
#: In one look: a round must not become long.
_MOST: Final = 1_000
#: Nothing of a group in such a state may go by another pool either.
_HELD: Final = frozenset({"lane", "directive"})


@dataclass(frozen=True, slots=True)
class Spilled:
    """A delivery goes by another pool from now on."""

    id: str
    key: str
    pool: str
    to: str


@dataclass(slots=True)
class Spilling:
    """What spilled of this partition's mail, and what may."""

    settings: Settings
    whose: Whose
    #: So many partitions count for themselves, each for the sources of its slot group.
    deciders: int = 1
    #: (provider, smart host or bucket; pool) -> its day's counts.
    _counts: dict[tuple[str, str], SpillState] = field(default_factory=dict)
    _dirty: set[str] = field(default_factory=set)
    _news: list[Spilled] = field(default_factory=list)
    _look_ns: int = 0
    _pools: dict[str, Spill] = field(init=False)
    #: Some pool spills; else nothing need be counted here.
    active: bool = field(init=False)

    def __post_init__(self) -> None:
        """Know which pools spill."""
        self._pools = {
            pool.name: pool.spill for pool in self.settings.pools.values() if pool.spill is not None
        }
        self.active = bool(self._pools)

    # -- memory

    def restore(self, key: str, spills: dict[str, SpillState]) -> None:
        """Take what a total's record says."""
        for pool, state in spills.items():
            self._counts[key, pool] = state

    def merge(self, key: str, spills: dict[str, SpillState]) -> None:
        """Take what the decider before has counted; what was counted here before is in it."""
        for pool, state in spills.items():
            known = self._counts.get((key, pool), state)
            self._counts[key, pool] = max(
                known, state, key=lambda each: (each.day, each.spilled, each.sent)
            )
            self._dirty.add(key)

    def state(self, key: str) -> dict[str, SpillState]:
        """Give what a total's record must say."""
        return {pool: state for (of, pool), state in self._counts.items() if of == key}

    def keys(self) -> set[str]:
        """Give whose counts there are."""
        return {key for key, _ in self._counts}

    def take(self) -> set[str]:
        """Give whose counts have changed since the last call."""
        dirty, self._dirty = self._dirty, set()
        return dirty

    def take_news(self) -> list[Spilled]:
        """Give what spilled since the last call."""
        news, self._news = self._news, []
        return news

    # -- counts

    def granted(self, limit_key: str, pool: str, now_ns: int) -> None:
        """Count a grant of a pool's own."""
        if pool in self._pools:
            key, _, _ = self.whose.of(limit_key)
            state = self._today(key, pool, now_ns)
            self._set(key, pool, msgspec.structs.replace(state, sent=state.sent + 1))

    def counts(self, now_ns: int) -> Iterator[tuple[str, str, SpillState]]:
        """Give (provider, smart host or bucket; pool; counts of the day)."""
        for key, pool in list(self._counts):
            yield key, pool, self._today(key, pool, now_ns)

    # -- what spills

    def go(self, queues: "Queues", now_ns: int) -> Iterator[Spilled]:
        """Take what spills out of its queue; to be called in every round."""
        if not self._pools or now_ns < self._look_ns:
            return
        self._look_ns = now_ns + _EVERY_NS
        most = _MOST
        for (key, pool), groups in self._by_count(queues).items():
            spill = self._pools[pool]
            may = min(most, self._allowance(key, pool, spill, groups, now_ns))
            old = queues.overdue(groups, now_ns - spill.after_ns, self._tenants(spill), now_ns)
            for id_ in itertools.islice(old, may):
                state = self._today(key, pool, now_ns)
                self._set(key, pool, msgspec.structs.replace(state, spilled=state.spilled + 1))
                most -= 1
                spilled = Spilled(id_, key, pool, spill.to)
                self._news.append(spilled)
                yield spilled

    def _by_count(self, queues: "Queues") -> dict[tuple[str, str], list["Group"]]:
        found: dict[tuple[str, str], list[Group]] = {}
        for group in queues.groups():
            if group.pool in self._pools and group.reason not in _HELD:
                key, _, _ = self.whose.of(group.limit_key)
                found.setdefault((key, group.pool), []).append(group)
        return found

    def _allowance(
        self, key: str, pool: str, spill: Spill, groups: list["Group"], now_ns: int
    ) -> int:
        state = self._today(key, pool, now_ns)
        waiting = sum(len(group.queue) for group in groups)
        by_share = int(spill.share * (state.sent + state.spilled + waiting))
        _, part, parts = self.whose.of(key)
        whole = spill.daily if key.startswith(SMARTHOST) else spill.daily // self.deciders
        daily = whole * (part + 1) // parts - whole * part // parts
        return max(0, min(by_share, daily) - state.spilled)

    def _tenants(self, spill: Spill) -> frozenset[str]:
        """Name the tenants whose mail may go there."""
        return frozenset(
            tenant.name for tenant in self.settings.tenants.values() if tenant.may_use(spill.to)
        )

    def _today(self, key: str, pool: str, now_ns: int) -> SpillState:
        today = now_ns // _DAY_NS
        state = self._counts.get((key, pool))
        return state if state is not None and state.day >= today else SpillState(day=today)

    def _set(self, key: str, pool: str, state: SpillState) -> None:
        self._counts[key, pool] = state
        self._dirty.add(key)
