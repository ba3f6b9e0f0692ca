"""What destinations' answers have left of limits: of each source, and of each sending domain, that was warned or could not get in. Pure."""

from collections.abc import Iterator

from services.scheduler.policy import backoff, pauses
from services.scheduler.policy.pair import Pair
from services.scheduler.policy.pairs import Pairs
from shared.records.answers import Learnt
from shared.records.backoff import NO_BACKOFF, Backoff
from shared.records.state import DomainState
from shared.runtime.settings import Settings


def of(
    pairs: Pairs, settings: Settings, partition: int, now_ns: int, key: str = ""
) -> Iterator[Learnt]:
    """Give what is known at a limit key, or at all; nothing of those that have been warned of nothing."""
    for pair in pairs.warned():
        if not key or pair.key == key:
            paused = pauses.until_ns(pair.pause)
            source = settings.source_name(pair.slot)
            yield _learnt(pair, source, partition, now_ns, paused)
    for state in pairs.domains.all():
        if not key or state.key == key:
            yield _of_domain(state, partition, now_ns)


def _learnt(pair: Pair, source: str, partition: int, now_ns: int, paused: int | None) -> Learnt:
    back = pair.backoff or NO_BACKOFF
    pace, connections = backoff.pace(back), back.connections
    return Learnt(
        partition=partition,
        key=pair.key,
        source=source,
        level=None if pace is None else pace.level,
        hurt=None if pace is None else pace.hurt,
        careful_ns=None if pace is None else pace.careful_ns,
        connections=None if connections is None else connections.level,
        connections_hurt=None if connections is None else connections.hurt,
        sibling=back.pace is None and pace is not None,
        stopped_ns=_later(backoff.until_ns(back, now_ns), paused, now_ns),
        paused=paused is not None,
        probes=_probes(back),
    )


def _of_domain(state: DomainState, partition: int, now_ns: int) -> Learnt:
    back, suspension = state.backoff or NO_BACKOFF, state.suspension
    until = None if suspension is None or not suspension.left else suspension.until_ns
    return Learnt(
        partition=partition,
        key=state.key,
        domain=state.domain,
        level=None if back.pace is None else back.pace.level,
        hurt=None if back.pace is None else back.pace.hurt,
        careful_ns=None if back.pace is None else back.pace.careful_ns,
        stopped_ns=_later(backoff.until_ns(back, now_ns), until, now_ns),
        probes=0 if suspension is None else suspension.left,
    )


def _later(one: int | None, other: int | None, now_ns: int) -> int | None:
    """Give when both are over; None: they are."""
    return max((at for at in (one, other) if at is not None and at > now_ns), default=None)


def _probes(back: Backoff) -> int:
    return 0 if back.suspension is None else back.suspension.left
