"""What can go wrong: values, so that a plan can be printed, shrunk and run again.

``Strike`` hits the process that makes a named step for the count-th time, ``At`` hits a process (or, without a name, Kafka) at a time.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Crash:
    """Die at once; the next process of the name starts after ``restart`` ms, in the same pod."""

    restart: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Stand still (SIGSTOP) while the clocks go on.

    ``replaced`` ms later (0: never) another process takes the name: in another pod, or in the same one although this one lives.
    """

    ms: int
    replaced: int = 0
    same_pod: bool = False


@dataclass(frozen=True, slots=True)
class Stun:
    """Stand still with both clocks (a paused virtual machine)."""

    ms: int


@dataclass(frozen=True, slots=True)
class Cut:
    """Lose Kafka, as far as these logs go."""

    logs: tuple[str, ...]
    ms: int


@dataclass(frozen=True, slots=True)
class Break:
    """Break the producer for these logs for a while: what is sent fails, and may have arrived all the same."""

    logs: tuple[str, ...]
    ms: int


@dataclass(frozen=True, slots=True)
class Lag:
    """Read a log ``late`` ms late."""

    log: str
    ms: int
    late: int


@dataclass(frozen=True, slots=True)
class ClockStep:
    """Move the wall clock."""

    ms: int


@dataclass(frozen=True, slots=True)
class Term:
    """SIGTERM."""


@dataclass(frozen=True, slots=True)
class Slow:
    """A follower lags: appended, and not yet replicated."""

    log: str
    ms: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Somebody's transaction hangs and hides what comes after it."""

    log: str
    ms: int


@dataclass(frozen=True, slots=True)
class Leader:
    """The log's leader has another clock."""

    log: str
    ms: int


@dataclass(frozen=True, slots=True)
class Append:
    """Something arrives from outside."""

    log: str
    value: bytes


Action = Crash | Stop | Stun | Cut | Break | Lag | ClockStep | Term | Slow | Hold | Leader | Append


@dataclass(frozen=True, slots=True)
class Strike:
    """Hit the process that makes ``step`` for the ``count``-th time."""

    step: str
    count: int
    action: Action


@dataclass(frozen=True, slots=True)
class At:
    """Hit ``who`` at a time; None: Kafka."""

    ms: int
    who: str | None
    action: Action


Fault = Strike | At
