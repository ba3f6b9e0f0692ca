"""When an open grant is settled although no outcome came: pure (DESIGN 4.3).

Leases are judged by log time, the newest broker stamp that the partition has *read* in mail.outcomes (its own marks make it pass), never
by a clock: all that a sender can have said before that time has then been read too.
"""

import enum
from dataclasses import dataclass

from shared.records.state import Open


class Verdict(enum.Enum):
    """How an open grant stands."""

    OPEN = "open"
    #: It can no longer begin: plan the delivery again.
    NOT_STARTED = "not started"
    #: It began, and what became of it is not known.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Times of the lease, ns."""

    lease_ns: int = 60_000_000_000
    skew_ns: int = 2_000_000_000
    attempt_max_ns: int = 1_200_000_000_000


def judge(grant: Open, log_time_ns: int, over_ns: int | None, times: LeaseTimes) -> Verdict:
    """Judge ``grant`` at ``log_time_ns``; ``over_ns``: when it was in nobody's hands any more, as mail.control tells it."""
    # A newer epoch was ready: once the skew has passed, all that the older one can have said has been read.
    over = over_ns is not None and log_time_ns > over_ns + times.skew_ns
    if grant.started_ns is None:
        late = log_time_ns > grant.t1_ns + times.skew_ns
        return Verdict.NOT_STARTED if late or over else Verdict.OPEN
    late = log_time_ns > grant.started_ns + times.attempt_max_ns + times.skew_ns
    return Verdict.UNKNOWN if late or over else Verdict.OPEN


def deadline_ns(grant: Open, times: LeaseTimes) -> int:
    """Give the log time past which ``judge`` settles ``grant`` without a newer epoch."""
    if grant.started_ns is None:
        return grant.t1_ns + times.skew_ns
    return grant.started_ns + times.attempt_max_ns + times.skew_ns


def counts_as_started(grant: Open, stamp_ns: int) -> bool:
    """Say whether a `started` with this stamp counts; one stamped after t1 is void for both sides."""
    return stamp_ns <= grant.t1_ns
