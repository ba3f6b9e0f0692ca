"""The open grants of one partition: whose they are, what credit they hold, when nobody can still answer for them. Pure."""

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from services.scheduler.policy.gathering import Gathering
from services.scheduler.policy.lease import LeaseTimes, Verdict, deadline_ns, judge
from services.scheduler.policy.pair import Pair
from services.scheduler.policy.pairs import Pairs
from services.scheduler.policy.queues import Queues
from shared.protocol.control import ControlView
from shared.records.state import DeliveryState, Open

# Less garbage than this is not worth a sweep.
_SWEEP: Final = 1_024


class OpenGrants:
    """Know every grant that is not settled."""

    def __init__(self, times: LeaseTimes, view: ControlView, pairs: Pairs, queues: Queues) -> None:
        """Begin empty."""
        self._times, self._view, self._pairs, self._queues = times, view, pairs, queues
        self._skew_ns = times.skew_ns
        self.gathering = Gathering(pairs, queues)
        #: (slot, epoch) -> delivery id -> its limit key.
        self._ids: defaultdict[tuple[int, int], dict[str, str]] = defaultdict(dict)
        self._count = 0
        #: (log time, id, n), some of which are settled; swept when those outweigh the others.
        self._deadlines: list[tuple[int, str, int]] = []

    def __len__(self) -> int:
        """Count them."""
        return self._count

    def add(self, entry: DeliveryState, grant: Open, limit_key: str) -> Pair:
        """Take a grant that was just made, or restored, under the limits of ``limit_key``; gives its pair."""
        ids = self._ids[grant.slot, grant.epoch]
        if entry.id not in ids:
            self._count += 1
        ids[entry.id] = limit_key
        self.gathering.opened(limit_key, grant.slot)
        deadlines = self._deadlines
        # It is started already only where it was restored.
        if grant.started_ns is None and len(deadlines) <= _SWEEP + 4 * self._count:
            heapq.heappush(deadlines, (grant.t1_ns + self._skew_ns, entry.id, grant.n))
        else:
            self._await_answer(entry, grant)
        return self._pairs.opened(limit_key, grant, entry.size_bytes)

    def started(self, entry: DeliveryState, grant: Open, stamp_ns: int) -> None:
        """Keep that an attempt has begun: it has longer from then on."""
        grant.started_ns = stamp_ns
        if stamp_ns + self._times.attempt_max_ns < grant.t1_ns:
            self._await_answer(entry, grant)
        # Else it is looked at when its first time is over, and then knows the longer one.

    def _await_answer(self, entry: DeliveryState, grant: Open) -> None:
        """Look at it again when its time, as it is known now, is over."""
        deadlines = self._deadlines
        heapq.heappush(deadlines, (deadline_ns(grant, self._times), entry.id, grant.n))
        if len(deadlines) > _SWEEP + 4 * self._count:
            # A message that takes a second would else be held for the twenty minutes that its attempt might have taken.
            self._sweep()

    def _sweep(self) -> None:
        there = set().union(*self._ids.values())
        self._deadlines = [each for each in self._deadlines if each[1] in there]
        heapq.heapify(self._deadlines)

    def close(self, entry: DeliveryState, grant: Open) -> str:
        """Forget a grant that is settled: its credit is free, and its limit key, which is given, is looked at again."""
        entry.open = None
        which = grant.slot, grant.epoch
        ids = self._ids[which]
        key = ids.pop(entry.id, None)
        if key is None:
            key = self._queues.limit_key(entry)
        else:
            self._count -= 1
        if not ids:
            del self._ids[which]
        self._pairs.closed(key, grant, entry.size_bytes)
        self.gathering.settled(key, grant.slot)
        self._queues.wake(key)
        return key

    def lapsed(
        self, entries: Mapping[str, DeliveryState], log_time_ns: int
    ) -> Iterator[tuple[DeliveryState, Open, Verdict]]:
        """Give what log time, or a newer epoch, has settled; each must be closed before the next is taken."""
        while self._deadlines and self._deadlines[0][0] < log_time_ns:
            _, id_, n = heapq.heappop(self._deadlines)
            entry = entries.get(id_)
            if entry is not None and entry.open is not None and entry.open.n == n:
                yield from self._judged(entry, entry.open, log_time_ns)
        for slot, epoch in [each for each in self._ids if self._view.epoch(each[0]) > each[1]]:
            newer = self._view.newer_ready_ns(slot, epoch)
            if newer is not None and log_time_ns > newer + self._times.skew_ns:
                for id_ in list(self._ids[slot, epoch]):
                    entry = entries[id_]
                    grant = entry.open
                    # What the epoch left behind its dot is looked at when its own time is over.
                    if grant is not None and self._over_ns(entry, grant) is not None:
                        yield from self._judged(entry, grant, log_time_ns)

    def _judged(
        self, entry: DeliveryState, grant: Open, log_time_ns: int
    ) -> Iterator[tuple[DeliveryState, Open, Verdict]]:
        verdict = judge(grant, log_time_ns, self._over_ns(entry, grant), self._times)
        if verdict is Verdict.OPEN:
            self._await_answer(entry, grant)
        else:
            yield entry, grant, verdict

    def _over_ns(self, entry: DeliveryState, grant: Open) -> int | None:
        return self._view.over_ns(grant.slot, grant.epoch, entry.id, grant.n)
