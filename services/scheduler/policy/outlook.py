"""When a group's mail goes: what each of its sources can send from when it may, side by side, under what all of them may. Pure.

    a source:  stopped until, probes  ->  its rate, as it rises  ->  the days of its warm-up       (``supply``)
               its limit of bytes, by the mean of what waits in the group
    beside them: the other groups of the key that wait for the same sources, in turns; a total over them

Where a source has no rate, what it did of late tells its pace, or, if it has done nothing of late, what its connections can take when a
message takes ``_TRIP_NS``. A source that waits for a probe is taken to pass it: then the outlook is ``probed``, and says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from services.scheduler.policy import backoff, limits, pauses, sizes
from services.scheduler.policy.group import Group
from services.scheduler.policy.pair import Pair
from services.scheduler.policy.pairlimit import PairLimit
from services.scheduler.policy.queues import Queues
from services.scheduler.policy.supply import Supply, budgeted, drained_ns, growing, rising

_S: Final = 1_000_000_000
_DAY_NS: Final = 86_400 * _S
#: Of one attempt, from its grant until its outcome is read.
_TRIP_NS: Final = 1 * _S
#: So many of a group tell how large its messages are.
_SAMPLE: Final = 500


@dataclass(frozen=True, slots=True)
class Outlook:
    """When a delivery goes (None: nobody can say), and whether that rests on a probe that is still to be taken."""

    goes_ns: int | None
    probed: bool = False


def of(queues: Queues, group: Group, before: int, now_ns: int, from_ns: int) -> Outlook:
    """Say when the delivery goes before which ``before`` others of its group go, none of them before ``from_ns``."""
    pairs, key = queues.pairs, group.limit_key
    slots = [slot for slot, _ in queues.senders(group)]
    before += _beside(queues, group, before, set(slots))
    sure: list[Supply] = []
    probed: list[Supply] = []
    least = from_ns
    for slot in slots:
        pair, limit = pairs.known(key, slot), pairs.limit(group.provider, key, slot)
        stopped_ns, probes = _stopped(pair, now_ns)
        first = max(from_ns, stopped_ns)
        if probes:
            probed.append(Supply(first, _TRIP_NS, probes))
        found = probed if probes else sure
        found += _of_source(queues, group, slot, first + probes * _TRIP_NS, now_ns)
        if limit.total_rate is not None:
            begins = max(from_ns, pairs.totals.earliest(key, limit.total_rate, now_ns))
            least = max(least, begins + before * limits.interval_ns(limit.total_rate))
    goes = drained_ns([*sure, *probed], before)
    if goes is None:
        return Outlook(None)
    pace = group.pace if group.reason == "credit" else None
    late = None if pace is None else pace.interval_ns(now_ns)
    if late is not None:
        # Its destination goes on taking what it took of late, which may be less than the limits allow.
        least = max(least, now_ns + before * late)
    sooner = bool(probed) and goes != drained_ns(sure, before)
    return Outlook(max(goes, least, now_ns), probed=sooner)


def _beside(queues: Queues, group: Group, before: int, slots: set[int]) -> int:
    """Count what goes meanwhile of other groups of the key: they take turns at the sources that they share."""
    found = 0
    for other in queues.of_key(group.limit_key):
        if other is not group and other.reason != "due":
            shares = any(slot in slots for slot, _ in queues.senders(other))
            found += min(len(other.queue), before + 1) if shares else 0
    return found


def _stopped(pair: Pair | None, now_ns: int) -> tuple[int, int]:
    """Say from when on a pair may do something, and how many probes it must pass then."""
    if pair is None:
        return now_ns, 0
    until, probes = now_ns, 0
    if isinstance(pair.pause, pauses.Paused):
        until, probes = max(until, pair.pause.until_ns), 1
    back = pair.backoff
    if back is not None:
        until = max(until, backoff.until_ns(back, now_ns) or now_ns)
        probes = max(probes, back.suspension.left if back.suspension is not None else 0)
    return until, probes


def _of_source(
    queues: Queues, group: Group, slot: int, from_ns: int, now_ns: int
) -> Iterator[Supply]:
    """Give what one source sends for a group, from ``from_ns`` on."""
    pairs, key, settings = queues.pairs, group.limit_key, queues.settings
    pair, limit = pairs.known(key, slot), pairs.limit(group.provider, key, slot)
    fastest = _fastest_ns(pair, pairs.whole(key, slot), now_ns)
    first = from_ns
    if limit.volume is not None and group.queue:
        spent = 0 if pair is None else pair.volume
        waits = [queues.entries[id_].size_bytes for id_ in group.queue.some(_SAMPLE)]
        first = sizes.earliest(spent, limit.volume, waits[0], first)
        intervals = [sizes.interval_ns(limit.volume, size) for size in waits]
        fastest = max(fastest, sum(intervals) // len(intervals))
    if group.site:
        at, interval = queues.parts.sites.pace(key, group.site, slot, now_ns)
        first, fastest = max(first, at), max(fastest, interval)
    if limit.rate is not None and pair is not None:
        first = max(first, limits.earliest(pair.limiter, limit.rate, now_ns))
    warming = pairs.budgets.standing(key, slot, now_ns)
    if warming is not None:
        state, plan = warming
        interval = max(limit.spacing_ns, fastest)
        yield from budgeted(state, plan, interval, first, settings.timing.skew_ns)
    elif pair is not None and pair.backoff is not None and (pace := backoff.pace(pair.backoff)):
        yield from rising(pace, fastest, first, settings.backoff.step_ns)
    elif limit.growing is not None:
        yield from growing(limit.growing, 0 if pair is None else pair.good, fastest, first)
    else:
        yield Supply(first, fastest)


def _fastest_ns(pair: Pair | None, limit: PairLimit, now_ns: int) -> int:
    """Give the time between two messages of a source that no warning slows."""
    whole = limit.growing.rate if limit.growing is not None else limit.rate
    if whole is not None:
        return limits.interval_ns(whole)
    did = None if pair is None else pair.meter.measured(now_ns)
    return _DAY_NS // did if did else _TRIP_NS // limit.connections
