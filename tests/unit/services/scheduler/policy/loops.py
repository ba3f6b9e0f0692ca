"""A pool of sources for which there is always mail, at a provider that answers as a test wants: whole days of answers in seconds."""

import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from services.scheduler.policy.entries import waiting
from services.scheduler.policy.pairs import Pairs
from services.scheduler.policy.room import BEHIND, Room
from services.scheduler.simulation.answers import ACCEPTED, Answer
from shared.protocol.control import ControlView
from shared.records.outcome import Outcome
from shared.records.state import Open
from shared.runtime import defaults
from shared.runtime.settings import LimitRow, Pool, Provider, Settings, Source
from tests.unit.services.scheduler.policy.making import delivery
from tests.unit.services.scheduler.policy.slots import live

S = 1_000_000_000
MINUTE, HOUR = 60 * S, 3_600 * S
#: Midnight.
START = 1_700_006_400 * S
_CONNECTIONS = 4

#: What a provider says to a slot at a time after the start.
Judge = Callable[[int, int], Answer]


@dataclass
class Counting:
    """At most ``quota(ns after the start)`` in any window of ``period_ns`` from one source."""

    quota: Callable[[int, int], int]
    period_ns: int
    refusal: Answer
    times: defaultdict[int, deque[int]] = field(default_factory=lambda: defaultdict(deque))

    def __call__(self, slot: int, at_ns: int) -> Answer:
        times = self.times[slot]
        while times and times[0] <= at_ns - self.period_ns:
            times.popleft()
        if len(times) >= self.quota(slot, at_ns):
            return self.refusal
        times.append(at_ns)
        return ACCEPTED


class Loop:
    """The pairs of a pool, a round every few seconds, each source with a message a second at most."""

    def __init__(
        self, provider: str, count: int, judge: Judge, *, round_s: int = 2, trip_ns: int = S
    ) -> None:
        self.key, self.count, self.now, self.trip_ns = provider, count, START, trip_ns
        self._judge, self._round_s, self._view = judge, round_s, ControlView()
        sources = {
            f"ip-{at}": Source(
                f"ip-{at}", at, "bind", "none", ehlo=f"m{at}.example.com", address=f"192.0.2.{at}"
            )
            for at in range(count)
        }
        config = Settings(
            sources=sources,
            pools={"main": Pool("main", dict.fromkeys(sources, 1))},
            providers={provider: Provider(provider, (".big.example",))},
            limits={**defaults.LIMITS, provider: LimitRow(_CONNECTIONS)},
        )
        self.pairs = Pairs(config, self._view, random.Random(1))
        self._epochs = [live(self._view, slot, START) for slot in range(count)]
        self._way: list[deque[tuple[int, Open, Answer]]] = [deque() for _ in range(count)]
        record = delivery("d", START, 72 * HOUR, provider=provider, site="mx.big.example")
        self._entry = waiting(record, "bulk", 0)
        #: Minute -> slot -> how many were taken, and refused.
        self.taken: defaultdict[int, Counter[int]] = defaultdict(Counter)
        self.refused: defaultdict[int, Counter[int]] = defaultdict(Counter)

    def run(self, hours: float) -> None:
        """Let time pass."""
        end = self.now + int(hours * HOUR)
        while self.now < end:
            self.now += self._round_s * S
            for slot in range(self.count):
                self._settle(slot)
            self._fill()

    def _settle(self, slot: int) -> None:
        way, minute = self._way[slot], (self.now - START) // MINUTE
        for _ in range(self._round_s):
            if not way or way[0][0] > self.now:
                return
            _, grant, answer = way.popleft()
            counts = self.taken if answer.result == "delivered" else self.refused
            counts[minute][slot] += 1
            self.pairs.closed(self.key, grant, 1000)
            outcome = Outcome(
                id="d",
                n=1,
                slot=slot,
                epoch=grant.epoch,
                result=answer.result,
                category=answer.category,
                scope=answer.scope,
                reply=answer.reply,
            )
            self.pairs.hear(self._entry, self.key, grant, outcome, self.now)

    def _fill(self) -> None:
        """Grant what there is room for, up to what the connections have under way."""
        most = self._round_s + self.trip_ns // S
        able = [slot for slot in range(self.count) if len(self._way[slot]) < most]
        while able:
            behind = []
            for slot in list(able):
                room = self.pairs.room(self.key, self.key, slot, self._epochs[slot], self.now)
                if isinstance(room, Room):
                    self._grant(slot, room)
                    full = len(self._way[slot]) >= most
                else:
                    full = True
                    behind += [slot] * (room is BEHIND)
                if full:
                    able.remove(slot)
            if not able and behind and self.pairs.go_first(self.key, behind, self.now):
                able = behind

    def _grant(self, slot: int, room: Room) -> None:
        t0 = room.t0_ns
        grant = Open(n=1, slot=slot, epoch=self._epochs[slot], t0_ns=t0, t1_ns=t0 + MINUTE)
        self.pairs.spend(self.key, slot, t0, room.limit)
        self.pairs.opened(self.key, grant, 1000)
        self._way[slot].append((t0 + self.trip_ns, grant, self._judge(slot, t0 - START)))

    def hours(self, slot: int, first: int, last: int) -> list[int]:
        """Give what was taken of a source in each hour from ``first`` to before ``last``."""
        return [
            sum(self.taken[minute][slot] for minute in range(60 * hour, 60 * hour + 60))
            for hour in range(first, last)
        ]

    def swings(self, slot: int, first: int, last: int) -> int:
        """Count how often, in these hours, a minute of at least half of the most is followed by one of nothing."""
        minutes = [self.taken[minute][slot] for minute in range(60 * first, 60 * last)]
        high = max(1, max(minutes) // 2)
        return sum(one >= high and not other for one, other in pairwise(minutes))
