"""Which slot takes a group's next grant; where none may, why, and until when. Pure.

Whose turn it is says the rotation, or the rendezvous hash of a sticky pool, or who is being warmed up. Nearly always the slot whose turn
it is has room, so only that one is asked. Where it has none, or where it takes all of them to choose, all are.
"""

import random
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

import msgspec

from services.scheduler.policy.claims import Claims
from services.scheduler.policy.group import Group
from services.scheduler.policy.lines import FOREVER
from services.scheduler.policy.pairs import Pairs
from services.scheduler.policy.parts import Parts
from services.scheduler.policy.room import BEHIND, Full, Room
from services.scheduler.policy.rotation import Candidates, Rotation, Weighted, drawn
from services.scheduler.policy.steering import Steering, first_tags, goes_first
from services.scheduler.policy.stickiness import Homes
from shared.records.lanemap import group_of
from shared.records.state import DeliveryState
from shared.runtime.settings import Settings, Source

#: Of a destination that nobody knows.
_FAMILIES: Final = ("v4",)
# A slot's own bound is shared by groups of other keys, whose outcomes do not wake this one.
_LOOK_AGAIN_NS: Final = 50_000_000
# Parts of a weight: a source that fares badly keeps a few.
_PARTS: Final = 64
# A delivery's own slot is waited for while it is only busy; others stand in for one that cannot send.
_STOOD_IN_FOR: Final = frozenset({"no_source", "paused", "suspended", "warmup"})


class Candidate(msgspec.Struct, gc=False, eq=False):
    """A slot that may take a grant now."""

    slot: int
    #: In its pool, and what its health leaves of it.
    weight: int
    turns: int
    epoch: int
    room: Room


@dataclass(frozen=True, slots=True)
class _Reach:
    """The sources of a pool in a slot group that can reach a destination at all."""

    #: (slot, weight), and of them those that are live.
    all: tuple[Weighted, ...]
    live: tuple[Weighted, ...]
    #: The same with their weights in parts.
    turns: tuple[Weighted, ...]
    #: Some are being warmed up, or were.
    warming: bool


class Sources:
    """The slots of a partition's groups."""

    def __init__(self, settings: Settings, pairs: Pairs, parts: Parts, rng: random.Random) -> None:
        """Begin with no slot that is live."""
        self.settings, self.pairs, self.parts, self.rng = settings, pairs, parts, rng
        self.homes = Homes(settings.pools)
        #: Tags of mail that goes first from a source that is being warmed up.
        self.first = first_tags(settings)
        #: slot -> epoch that may be granted to now.
        self.live: dict[int, int] = {}
        self.claims = Claims()
        #: (pool, provider, slot group)
        self._reach: dict[tuple[str, str | None, int], _Reach] = {}

    def set_live(self, live: dict[int, int]) -> bool:
        """Grant to these slots, and no others, in these epochs; False: nothing has changed."""
        if live == self.live:
            return False
        self.live = live
        self._reach.clear()
        return True

    def home(self, entry: DeliveryState, slots: int) -> int | None:
        """Name the slot that a delivery of a sticky pool is tied to; None: any of its pool will do."""
        reach = self.reach(entry.pool, entry.provider, slots)
        return self.homes.of(entry, reach.all)

    def reach(self, pool: str, provider: str | None, slots: int) -> _Reach:
        """Find the sources of a pool in the slot group ``slots``."""
        known = self._reach.get((pool, provider, slots))
        if known is None:
            known = self._reach[pool, provider, slots] = self._found(pool, provider, slots)
        return known

    def of(self, group: Group, blocked: AbstractSet[int]) -> tuple[Weighted, ...]:
        """Give (slot, weight) of the live ones that may send for a group, but for ``blocked``."""
        live = self.reach(group.pool, group.provider, group.slots).live
        return live if group.pinned is None and not blocked else _left(live, group, blocked)

    def paused(self, group: Group, blocked: AbstractSet[int]) -> bool:
        """Say whether a live one that could send for a group is blocked."""
        live = self.reach(group.pool, group.provider, group.slots).live
        return any(slot in blocked for slot, _ in live if group.pinned in (None, slot))

    def room(self, group: Group, slot: int, now_ns: int) -> Room | Full:
        """Say whether a live slot may take a grant of a group."""
        room = self.pairs.room(group.provider, group.limit_key, slot, self.live[slot], now_ns)
        if self.claims and isinstance(room, Room):
            room = self.claims.full(group, slot, now_ns) or room
        if not group.site or isinstance(room, Full):
            return room
        at, why = self.parts.sites.earliest(group.limit_key, group.site, slot, now_ns)
        return room if at <= now_ns else Full(at, why)

    def turns(self, group: Group, slot: int, weight: int, now_ns: int) -> int:
        """Give the weight that a slot's health leaves it, in parts."""
        left = self.pairs.weight(group.limit_key, slot, now_ns)
        return max(1, int(weight * _PARTS * left))

    def in_turn(
        self, group: Group, blocked: AbstractSet[int], now_ns: int
    ) -> tuple[Weighted, ...] | None:
        """Give (slot, weight in parts) of those that ``of`` gives where the rotation alone chooses; None: it does not."""
        reach = self.reach(group.pool, group.provider, group.slots)
        if group.home is not None or reach.warming:
            return None
        if self.pairs.ails(group.limit_key):
            return tuple(
                (slot, self.turns(group, slot, weight, now_ns))
                for slot, weight in self.of(group, blocked)
            )
        turns = reach.turns
        return turns if group.pinned is None and not blocked else _left(turns, group, blocked)

    def _found(self, pool: str, provider: str | None, slots: int) -> _Reach:
        # A pool that is not there was taken out, or another configuration is meant: what waits for it has until it expires.
        named = self.settings.pools[pool].sources if pool in self.settings.pools else {}
        found = [
            (self.settings.sources[name], weight)
            for name, weight in named.items()
            if self._reaches(self.settings.sources[name], provider, slots)
        ]
        both = tuple((source.slot, weight) for source, weight in found)
        live = tuple((slot, weight) for slot, weight in both if slot in self.live)
        return _Reach(
            both,
            live,
            Candidates.of((slot, weight * _PARTS) for slot, weight in live),
            any(source.warmup in self.settings.warmups for source, _ in found),
        )

    def _reaches(self, source: Source, provider: str | None, slots: int) -> bool:
        """Say whether a source is in the slot group and of a family that the destination takes (IPv6 only where its row says so)."""
        if source.kind == "smarthost":
            return True
        known = self.settings.providers.get(provider or "")
        families = known.families if known is not None else _FAMILIES
        return group_of(source.slot) == slots and source.family in families


def _left(
    slots: tuple[Weighted, ...], group: Group, blocked: AbstractSet[int]
) -> tuple[Weighted, ...]:
    return tuple(
        each for each in slots if each[0] not in blocked and group.pinned in (None, each[0])
    )


class Turn:
    """One look at a group: a slot for each delivery, until none has room."""

    __slots__ = (
        "_blocked",
        "_candidates",
        "_group",
        "_last",
        "_now_ns",
        "_one",
        "_sized",
        "_slots",
        "_sources",
        "wake_ns",
        "why",
    )

    def __init__(
        self, sources: Sources, group: Group, blocked: AbstractSet[int], now_ns: int
    ) -> None:
        """Begin, without ``blocked``."""
        self._sources, self._group, self._blocked, self._now_ns = sources, group, blocked, now_ns
        #: Where the rotation alone chooses, and the one whose turn it is has had room so far.
        self._slots = sources.in_turn(group, blocked, now_ns)
        self._one: Candidate | None = None
        #: Else all that have room, and the one that took the last grant.
        self._candidates: list[Candidate] = []
        self._last: Candidate | None = None
        #: How large a message is matters to one of them.
        self._sized = False
        #: When nobody has room: why, and when to look again (FOREVER: when something changes).
        self.why, self.wake_ns = "no_source", FOREVER
        if not self._slots:
            self._ask_all()

    def ready(self) -> bool:
        """Say whether one more grant is possible; False: see ``why`` and ``wake_ns``."""
        if self._slots:
            group, sources = self._group, self._sources
            rotation = group.rotation
            slot, turns = (
                drawn(self._slots, sources.rng)
                if rotation is None
                else rotation.first(self._slots, sources.rng)
            )
            epoch = sources.live[slot]
            if group.site or sources.claims:
                room = sources.room(group, slot, self._now_ns)
            else:
                room = sources.pairs.room(
                    group.provider, group.limit_key, slot, epoch, self._now_ns
                )
            if type(room) is Room:
                self._one = Candidate(slot, turns, turns, epoch, room)
                return True
            self._ask_all()
        elif self._last is not None:
            self._ask_again(self._last)
        self._last = None
        return bool(self._candidates)

    def choose(self, entry: DeliveryState) -> Candidate | Full | None:
        """Choose for a delivery, once ``ready`` has said so; None: its time would be over before it could begin.

        Full: it is too large for now, and the slot that has room for it first is kept for it.
        """
        one = self._one if self._slots else None
        if one is not None:
            if one.room.limit.volume is not None:
                room = self._room_for(entry, one)
                if isinstance(room, Room) and room.t0_ns < entry.expires_ns:
                    one.room = room
                    return one
            elif one.room.t0_ns < entry.expires_ns:
                return one
            self._ask_all()
        if self._sized:
            return self._of_size(entry)
        able = [each for each in self._candidates if each.room.t0_ns < entry.expires_ns]
        return self._among(able, entry)

    def _of_size(self, entry: DeliveryState) -> Candidate | Full | None:
        rooms = {each.slot: self._room_for(entry, each) for each in self._candidates}
        fit = {
            slot: room
            for slot, room in rooms.items()
            if isinstance(room, Room) and room.t0_ns < entry.expires_ns
        }
        chosen = self._among([each for each in self._candidates if each.slot in fit], entry)
        if chosen is not None:
            chosen.room = fit[chosen.slot]
            return chosen
        full = {slot: room for slot, room in rooms.items() if isinstance(room, Full)}
        if not full:
            return None
        first = min(full, key=lambda slot: full[slot].until_ns or FOREVER)
        self._sources.claims.keep(self._group, first, full[first].until_ns or self._now_ns)
        return full[first]

    def _room_for(self, entry: DeliveryState, candidate: Candidate) -> Room | Full:
        key, pairs = self._group.limit_key, self._sources.pairs
        return pairs.sized(key, candidate.slot, candidate.room, entry.size_bytes, self._now_ns)

    def _among(self, able: list[Candidate], entry: DeliveryState) -> Candidate | None:
        if len(able) < 2:  # noqa: PLR2004 - none, or one
            return able[0] if able else None
        group, sources = self._group, self._sources
        if group.home is not None:
            slots = tuple((each.slot, each.weight) for each in able)
            slot = sources.homes.of(entry, slots)
        else:
            first = goes_first(entry, sources.first)
            if group.steering is None:
                group.steering = Steering()
            fit = group.steering.among(able, first=first, now_ns=self._now_ns)
            turns, rotation = [(each.slot, each.turns) for each in fit], group.rotation
            slot, _ = (
                drawn(turns, sources.rng)
                if rotation is None
                else rotation.first(turns, sources.rng)
            )
        return next(each for each in able if each.slot == slot)

    def took(self, candidate: Candidate) -> None:
        """Let the one that was chosen have had its turn; its grant is spent."""
        self._last = candidate
        if self._group.home is None:
            if self._group.rotation is None:
                self._group.rotation = Rotation()
            self._group.rotation.took(candidate.slot, candidate.turns)

    def _ask_again(self, last: Candidate) -> None:
        """Ask who has room after ``last`` took a grant: only that one's has changed.

        With a total over slots every slot's earliest time has moved, so all are asked.
        """
        if last.room.limit.total_rate is None and not self._group.site:
            room = self._sources.room(self._group, last.slot, self._now_ns)
            if isinstance(room, Room):
                last.room = room
                return
            left = [each for each in self._candidates if each is not last]
            if left:
                self._candidates = left
                return
        self._ask_all()

    def _ask_all(self) -> None:
        """List all that have room now."""
        group, sources = self._group, self._sources
        self._slots = ()
        slots = sources.of(group, self._blocked)
        own = tuple(each for each in slots if each[0] == group.home)
        found, why, wake = self._look(own) if own else ([], "no_source", FOREVER)
        if not found and why in _STOOD_IN_FOR:
            found, why, wake = self._look(slots)
        if not slots and sources.paused(group, self._blocked):
            why = "directive"
        self._candidates, self.why, self.wake_ns = found, why, wake

    def _look(self, slots: tuple[Weighted, ...]) -> tuple[list[Candidate], str, int]:
        """Give those of ``slots`` that may take a grant now; else why not, and when to look again."""
        group, sources, now_ns = self._group, self._sources, self._now_ns
        self._sized = False
        found: list[Candidate] = []
        behind: list[int] = []
        why, wake = "no_source", FOREVER
        for slot, weight in slots:
            room = sources.room(group, slot, now_ns)
            if isinstance(room, Room):
                turns = sources.turns(group, slot, weight, now_ns)
                self._sized = self._sized or room.limit.volume is not None
                found.append(Candidate(slot, weight, turns, sources.live[slot], room))
                continue
            if room is BEHIND:
                behind.append(slot)
            until = now_ns + _LOOK_AGAIN_NS if room.until_ns is None else room.until_ns
            if until < wake:
                why, wake = room.why, until
        if behind and not found and sources.pairs.go_first(group.limit_key, behind, now_ns):
            return self._look(slots)
        return found, why, wake
