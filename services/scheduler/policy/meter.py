"""How many answers a pair had lately: the rate that it did, which is the rate that hurt. Pure; constant space.

What a destination counts is mail in a window, and nobody says how long that is: a short one is hit by the rate of the last seconds, a long
one by all that was sent in it. So both are known: ``measured`` is of seconds, ``counted`` of as many minutes as are asked for. The minutes
are kept for pairs alone that send some messages in ten seconds.
"""

from array import array
from dataclasses import dataclass
from typing import Final

_SPAN_NS: Final = 10_000_000_000
_DAY_NS: Final = 86_400_000_000_000
#: From so many answers on a rate says something ...
_ENOUGH: Final = 20
#: ... and for so long after it was measured.
_KNOWN_NS: Final = 600_000_000_000
#: So many answers in a span, and the minutes are kept: an hour of them.
_BUSY: Final = 3
_MINUTE_NS: Final = 60_000_000_000
_MINUTES: Final = 61
LONGEST_NS: Final = (_MINUTES - 1) * _MINUTE_NS


@dataclass(slots=True)
class Meter:
    """Two spans of ten seconds: the present one and, where it follows at once, the one before; and the last rate that was sure."""

    began_ns: int = 0
    count: int = 0
    before: int = 0
    #: Messages a day, and when.
    known: int = 0
    known_ns: int = 0
    #: Answers of each minute, by its number in the hour, and the last minute that was counted.
    minutes: "array[int] | None" = None
    minute: int = 0

    def add(self, now_ns: int) -> None:
        """Count an answer."""
        if now_ns - self.began_ns >= _SPAN_NS:
            self._pass_to(now_ns)
        self.count += 1

    def reset(self, now_ns: int) -> None:
        """Begin anew: from here on it does something else."""
        self.began_ns, self.count, self.before, self.known, self.known_ns = now_ns, 0, 0, 0, 0

    def measured(self, now_ns: int) -> int | None:
        """Give the rate in messages a day; None: too few answers to tell."""
        self._pass_to(now_ns)
        if self.count + self.before >= _ENOUGH:
            return self.per_day(now_ns)
        return self.known if self.known and now_ns < self.known_ns + _KNOWN_NS else None

    def counted(self, now_ns: int, window_ns: int) -> int | None:
        """Give the answers of the last ``window_ns``, some minutes up to ``LONGEST_NS``, as messages a day; None: too few to tell."""
        self._pass_to(now_ns)
        count = self.count
        if self.minutes is not None:
            self._turn(now_ns // _MINUTE_NS)
            whole, begun = window_ns // _MINUTE_NS, now_ns % _MINUTE_NS
            count += sum(self.minutes[(self.minute - each) % _MINUTES] for each in range(whole))
            # Of the minute in which the window begins, the part that lies in it.
            first = self.minutes[(self.minute - whole) % _MINUTES]
            count += first * (_MINUTE_NS - begun) // _MINUTE_NS
        return count * _DAY_NS // window_ns if count >= _ENOUGH else None

    def room_ns(self, now_ns: int, window_ns: int, most: int, open_: int) -> int:
        """Say from when on, ``most`` in each window and one after the other, no window has more with what was done lately in it.

        ``open_`` more are under way. Of a minute all counts as if it had come at its end.
        """
        # What was done since a time, at that pace from there on, would be done so much later.
        done = self.count + open_
        free = now_ns + window_ns * done // most
        if self.minutes is not None:
            self._turn(now_ns // _MINUTE_NS)
            for each in range(min(window_ns // _MINUTE_NS + 1, _MINUTES)):
                minute = self.minute - each
                found = self.minutes[minute % _MINUTES]
                done += found
                if found:
                    ended = min(now_ns, (minute + 1) * _MINUTE_NS)
                    free = max(free, ended + window_ns * done // most)
        return free if done else now_ns

    def per_day(self, now_ns: int) -> int:
        """Give the rate of the present spans in messages a day; a few answers are spread over a whole span."""
        self._pass_to(now_ns)
        elapsed = now_ns - self.began_ns
        if self.before:
            return (self.count + self.before) * _DAY_NS // (_SPAN_NS + elapsed)
        return self.count * _DAY_NS // max(elapsed, _SPAN_NS)

    def _pass_to(self, now_ns: int) -> None:
        elapsed = now_ns - self.began_ns
        if elapsed < _SPAN_NS:
            return
        if self.count >= _ENOUGH:
            self.known, self.known_ns = self.count * _DAY_NS // _SPAN_NS, now_ns
        if self.minutes is not None or self.count >= _BUSY:
            self._note(self.began_ns // _MINUTE_NS)
        self.before = self.count if elapsed < 2 * _SPAN_NS else 0
        self.began_ns = self.began_ns + _SPAN_NS if elapsed < 2 * _SPAN_NS else now_ns
        self.count = 0

    def _note(self, minute: int) -> None:
        """Count the span that is over in its minute."""
        if self.minutes is None:
            self.minutes, self.minute = array("L", bytes(8 * _MINUTES)), minute
        self._turn(minute)
        if minute > self.minute - _MINUTES:
            self.minutes[minute % _MINUTES] += self.count

    def _turn(self, minute: int) -> None:
        """Begin the minutes up to ``minute``."""
        if self.minutes is not None and minute > self.minute:
            for each in range(max(self.minute + 1, minute - _MINUTES + 1), minute + 1):
                self.minutes[each % _MINUTES] = 0
            self.minute = minute
