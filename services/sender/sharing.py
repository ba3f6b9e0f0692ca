"""Which floating slots this process should have: pure, the same answer in every process that has read as much of mail.control.

A fixed slot stays with whoever can serve it. A floating one (smart host, proxy) is anybody's, so the senders that are present share them:
``shares`` gives every slot to the least loaded who can serve it, and moves one only from a sender that has two more than another. So
nobody has more than ceil(slots / senders), nothing moves back, and a restarted pod keeps what it had. Ties are broken by a rendezvous
hash of (pod, slot): all agree on who takes a slot that is free, and claims do not collide.

``Sharing`` turns that into wishes, and hurries only where a slot has nobody. Moving is polite: one slot at a time, after a random moment,
only while every sender has been here for a while and every slot has a ready owner, so a rolling update makes no wave. A slot whose last
attempts take too long to end is kept, and asked for again later. Who does not take what is theirs is passed over.

Nothing here is a fence. A wish that is wrong, or late, costs balance or time; ``ownership`` alone says when a slot may be claimed.
"""

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from services.sender.ownership import Constants
from shared.protocol.control import ControlView, Sender

#: How often a sender says that it is present, and how long a new one listens to the others, in heartbeats.
PRESENT_BEATS: Final = 2
_PASSED_NS: Final = 60_000_000_000
_STUCK_FIRST_NS: Final = 60_000_000_000
_STUCK_MAX_NS: Final = 16 * _STUCK_FIRST_NS


_Asked = tuple[dict[str, frozenset[int]], dict[int, str], set[int]]


def shares(
    slots: Sequence[int],
    lacks: Mapping[str, Collection[int]],
    held: Mapping[int, str],
    stuck: Collection[int] = (),
) -> dict[int, str]:
    """Say who should have each slot; one that nobody can serve is left out.

    ``lacks``: the senders that are present, and what each cannot serve; ``held``: who has what; ``stuck``: what cannot be moved now.
    """
    share = {slot: pod for slot, pod in held.items() if pod in lacks and slot not in lacks[pod]}
    load = Counter(dict.fromkeys(lacks, 0)) + Counter(share.values())
    for slot in (slot for slot in slots if slot not in share):
        if able := [pod for pod in lacks if slot not in lacks[pod]]:
            share[slot] = min(able, key=lambda pod: (load[pod], _rank(pod, slot)))
            load[share[slot]] += 1
    while (move := _move(share, lacks, load, stuck)) is not None:
        slot, taker = move
        load[share[slot]] -= 1
        load[taker] += 1
        share[slot] = taker
    return share


def _move(
    share: Mapping[int, str],
    lacks: Mapping[str, Collection[int]],
    load: Mapping[str, int],
    stuck: Collection[int],
) -> tuple[int, str] | None:
    """Find a slot that one sender should give another, which has at least two less."""
    by_load = sorted(lacks, key=lambda pod: (load[pod], _rank(pod)))
    for giver in reversed(by_load):
        for taker in by_load:
            if load[giver] - load[taker] < 2:  # noqa: PLR2004 - with one more it would only move back
                break
            movable = [
                slot
                for slot, pod in share.items()
                if pod == giver and slot not in lacks[taker] and slot not in stuck
            ]
            if movable:
                return min(movable, key=lambda slot: _rank(taker, slot)), taker
    return None


def _rank(pod: str, slot: int = -1) -> bytes:
    return blake2b(f"{slot}/{pod}".encode(), digest_size=8).digest()


@dataclass(slots=True)
class Sharing:
    """Say what one process should have; ask again and again."""

    slots: tuple[int, ...]
    process: str
    pod: str
    view: ControlView
    times: Constants
    rng: random.Random
    #: What is being given away, and since when; when the next may be.
    _giving: tuple[int, int] | None = None
    _next_ns: int | None = None
    #: slot -> until when it is not to be moved, and for how long that was
    _stuck: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: slot that nobody has -> who should have it, since when
    _due: dict[int, tuple[str, int]] = field(default_factory=dict)
    #: (slot, pod) that did not take it -> until when it is not asked again
    _passed: dict[tuple[int, str], int] = field(default_factory=dict)
    #: What the last shares were made of, and they: a hundred slots that all move take milliseconds.
    _asked: _Asked = field(default_factory=lambda: ({}, {}, set()))
    _share: dict[int, str] = field(default_factory=dict)

    def settled(self) -> bool:
        """Say whether this process has heard everybody: whoever lives has spoken since its own first word."""
        me = self.view.present(self.times.silence_ns).get(self.pod)
        return (
            me is not None
            and me.process == self.process
            and self.view.log_ns - me.since_ns >= PRESENT_BEATS * self.times.heartbeat_ns
        )

    def wanted(self, mine: Collection[int], now_ns: int) -> frozenset[int]:
        """Name the slots to claim or to keep, of ``mine`` (claimed by this process) and all others; ``now_ns`` is monotonic."""
        held = {slot: pod for slot in self.slots if (pod := self._holder(slot)) is not None}
        held |= dict.fromkeys(mine, self.pod)
        ours = {slot for slot, pod in held.items() if pod == self.pod}
        if not self.settled():
            return frozenset(ours)
        senders = self.view.present(self.times.silence_ns)
        stuck = {slot for slot, (until, _) in self._stuck.items() if now_ns < until}
        asked = self._lacks(senders, held, now_ns), held, stuck
        if asked != self._asked:
            self._asked, self._share = asked, shares(self.slots, *asked)
        share = self._share
        self._pass_over(share, held, now_ns)
        # One that nobody else can serve either is kept.
        spare = {slot for slot in ours if share.get(slot, self.pod) != self.pod}
        quiet = self._quiet(senders, share, held)
        given = self._give(spare, now_ns, may_begin=quiet)
        return frozenset(slot for slot, pod in share.items() if pod == self.pod) | ours - given

    def _holder(self, slot: int) -> str | None:
        return self.view.holder(slot, self.times.silence_ns)

    def _lacks(
        self, senders: Mapping[str, Sender], held: Mapping[int, str], now_ns: int
    ) -> dict[str, frozenset[int]]:
        self._passed = {
            (slot, pod): until
            for (slot, pod), until in self._passed.items()
            if now_ns < until and held.get(slot) != pod
        }
        return {
            pod: sender.lacks | {slot for slot, other in self._passed if other == pod}
            for pod, sender in senders.items()
        }

    def _pass_over(self, share: Mapping[int, str], held: Mapping[int, str], now_ns: int) -> None:
        """Note who does not take a slot that is theirs, as those who stall or cannot reach Kafka's partition of it."""
        for slot in self.slots:
            pod = share.get(slot)
            if slot in held or pod is None:
                self._due.pop(slot, None)
                continue
            known, since = self._due.get(slot, ("", 0))
            if known != pod:
                self._due[slot] = pod, now_ns
            elif now_ns - since > self.times.silence_ns and pod != self.pod:
                self._passed[slot, pod] = now_ns + _PASSED_NS

    def _quiet(
        self, senders: Mapping[str, Sender], share: Mapping[int, str], held: Mapping[int, str]
    ) -> bool:
        """Say whether a slot may be moved now: nobody is new, and every slot that somebody can serve has an owner who began."""
        view = self.view
        return all(
            view.log_ns - sender.since_ns >= self.times.silence_ns for sender in senders.values()
        ) and all(
            held.get(slot) in senders and view.was_ready(slot, view.epoch(slot)) for slot in share
        )

    def _give(self, spare: Collection[int], now_ns: int, *, may_begin: bool) -> set[int]:
        if self._giving is not None:
            slot, since = self._giving
            if slot in spare and now_ns - since < 2 * self.times.wait_ns:
                return {slot}
            if slot in spare:
                last = self._stuck.get(slot, (0, _STUCK_FIRST_NS // 2))[1]
                pause = min(2 * last, _STUCK_MAX_NS)
                self._stuck[slot] = now_ns + pause, pause
            else:
                self._stuck.pop(slot, None)
            self._giving = None
            return set()
        if not spare or not may_begin:
            self._next_ns = None
        elif self._next_ns is None:
            # So that not all who have too much begin in the same moment.
            within = PRESENT_BEATS * self.times.heartbeat_ns
            self._next_ns = now_ns + int(self.rng.random() * within)
        elif now_ns >= self._next_ns:
            self._giving, self._next_ns = (min(spare), now_ns), None
            return {self._giving[0]}
        return set()
