"""Pause a pair that does not work, probe it with one delivery, release it without a wave. Pure.

    Clear --failure--> Paused --its time--> one probe --success--> Ramp --successes, or time--> Clear
                         ^                      |                    |
                         +---- twice as long ---+------ failure -----+

A pair is (limit key, slot). Failures and successes that come while a pause lasts are those of
attempts begun before it: they change nothing. A failure in the ramp doubles as a failed probe does,
so a pair that works for one connection and not for ten is not tried every minute. What waits for a
pause uses no attempt. The states are records, kept in mail.state as they are.
"""

import random
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

#: Each pause ends up to this share later, so that the pairs of a provider do not probe together.
_JITTER: Final = 0.1
#: So many may be open at once when the ramp is over; it begins with two, and each success adds one.
_RAMP_END: Final = 64


class Times(Protocol):
    """What an operator sets."""

    @property
    def pair_pause_first_ns(self) -> int:
        """Give the first pause's length."""

    @property
    def pair_pause_max_ns(self) -> int:
        """Give the longest."""


class Clear(msgspec.Struct, frozen=True, gc=False, tag_field="p", tag="clear"):
    """Nothing is held back."""


class Paused(msgspec.Struct, frozen=True, gc=False, tag_field="p", tag="paused"):
    """Nothing is granted until ``until_ns``, then one delivery at a time until one succeeds."""

    until_ns: int
    #: The pause's length before the jitter: the next one is twice as long.
    length_ns: int


class Ramp(msgspec.Struct, frozen=True, gc=False, tag_field="p", tag="ramp"):
    """The probe succeeded: ``most`` may be open, more with each success; over at ``until_ns``."""

    most: int
    length_ns: int
    until_ns: int


Pause = Clear | Paused | Ramp
CLEAR: Final = Clear()


@dataclass(frozen=True, slots=True)
class Allowed:
    """A grant may go."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not before ``until_ns``; None: until an open attempt has ended."""

    until_ns: int | None


def on_failure(pause: Pause, now_ns: int, times: Times, rng: random.Random) -> Pause:
    """Take a failed connection, a refusing banner, or a 421 before RCPT."""
    match pause:
        case Paused(until_ns=until) if now_ns < until:
            return pause
        case Paused(length_ns=length):
            return _paused(2 * length, now_ns, times, rng)
        case Ramp(length_ns=length, until_ns=until) if now_ns < until:
            return _paused(2 * length, now_ns, times, rng)
        case Clear() | Ramp():
            return _paused(times.pair_pause_first_ns, now_ns, times, rng)


def on_success(pause: Pause, now_ns: int) -> Pause:
    """Take any answer that says that the pair works."""
    match pause:
        case Paused(until_ns=until) if now_ns < until:
            return pause
        case Paused(length_ns=length):
            return Ramp(2, length, now_ns + length)
        case Ramp(most=most, length_ns=length, until_ns=until) if (
            now_ns < until and most + 1 < _RAMP_END
        ):
            return Ramp(most + 1, length, until)
        case Clear() | Ramp():
            return CLEAR


def may_grant(pause: Pause, now_ns: int, open_grants: int) -> Allowed | Deferred:
    """Say whether one more grant may go to a pair that has ``open_grants``."""
    match pause:
        case Clear():
            return Allowed()
        case Paused(until_ns=until) if now_ns < until:
            return Deferred(until)
        case Paused():
            # What was open before the pause must have ended too: its end is an answer as well.
            return Allowed() if open_grants == 0 else Deferred(None)
        case Ramp(most=most, until_ns=until):
            return Allowed() if open_grants < most or now_ns >= until else Deferred(None)


def stricter(one: Pause, other: Pause) -> Pause:
    """Join what two deciders know of a pair: a pause before a ramp, the longer before the shorter."""
    return max(one, other, key=_severity)


def _severity(pause: Pause) -> tuple[int, int]:
    match pause:
        case Paused(until_ns=until):
            return 2, until
        case Ramp(until_ns=until):
            return 1, until
        case Clear():
            return 0, 0


def until_ns(pause: Pause) -> int | None:
    """Say until when nothing is granted; None: it is not paused."""
    return pause.until_ns if isinstance(pause, Paused) else None


def _paused(length_ns: int, now_ns: int, times: Times, rng: random.Random) -> Paused:
    length = min(length_ns, times.pair_pause_max_ns)
    return Paused(now_ns + length + rng.randint(0, int(length * _JITTER)), length)
