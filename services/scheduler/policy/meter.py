"""How many answers a pair had lately: the rate that it did, which is the rate that hurt. Pure; constant space.

What a destination counts is mail in a window, and nobody says how long that is: a short one is hit by the rate of the last seconds, a long
one by all that was sent in it. So both are known: ``measured`` is of seconds, ``counted`` of as many minutes as are asked for. What those
hold is kept for pairs alone that send some messages in ten seconds.
"""

from array import array
from typing import Final

import msgspec

_SPAN_NS: Final = 10_000_000_000
_DAY_NS: Final = 86_400_000_000_000
#: From so many answers on a rate says something ...
_ENOUGH: Final = 20
#: ... and for so long after it was measured.
_KNOWN_NS: Final = 600_000_000_000
#: So many answers in a span, and the spans are kept: an hour of them, 722 bytes.
_BUSY: Final = 3
_SPANS: Final = 361
LONGEST_NS: Final = (_SPANS - 1) * _SPAN_NS
_MOST: Final = 0xFFFF


class Meter(msgspec.Struct, gc=False):
    """Two spans of ten seconds: the present one and, where it follows at once, the one before; and the last rate that was sure."""

    began_ns: int = 0
    count: int = 0
    before: int = 0
    #: Messages a day, and when.
    known: int = 0
    known_ns: int = 0
    #: Answers of each span of the day that begins at a multiple of its length, by its number in the hour, and the last that was counted.
    spans: "array[int] | None" = None
    span: int = 0

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
        count = self.taken(now_ns, window_ns)
        return count * _DAY_NS // window_ns if count >= _ENOUGH else None

    def taken(self, now_ns: int, window_ns: int) -> int:
        """Count the answers of the last ``window_ns``, up to ``LONGEST_NS``."""
        self._pass_to(now_ns)
        count = self.count
        if self.spans is not None:
            self._turn(now_ns // _SPAN_NS)
            whole, begun = window_ns // _SPAN_NS, now_ns % _SPAN_NS
            first = (self.span - whole) % _SPANS
            count += sum(self.spans[first + 1 : first + 1 + whole])
            count += sum(self.spans[: max(0, first + 1 + whole - _SPANS)])
            # Of the span in which the window begins, the part that lies in it.
            count += self.spans[first] * (_SPAN_NS - begun) // _SPAN_NS
        return count

    def room_ns(self, now_ns: int, window_ns: int, most: int, open_: int) -> int:
        """Say from when on, ``most`` in each window and one after the other, no window has more with what was done lately in it.

        ``open_`` more are under way. All of a span counts as if it had come at its end.
        """
        self._pass_to(now_ns)
        # What was done since a time, at that pace from there on, would be done so much later.
        done = self.count + open_
        free = now_ns + window_ns * done // most
        if self.spans is not None:
            self._turn(now_ns // _SPAN_NS)
            for each in range(min(window_ns // _SPAN_NS + 1, _SPANS)):
                span = self.span - each
                found = self.spans[span % _SPANS]
                done += found
                if found:
                    ended = min(now_ns, (span + 1) * _SPAN_NS)
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
        if self.spans is not None or self.count >= _BUSY:
            self._note()
        self.before = self.count if elapsed < 2 * _SPAN_NS else 0
        self.began_ns = self.began_ns + _SPAN_NS if elapsed < 2 * _SPAN_NS else now_ns
        self.count = 0

    def _note(self) -> None:
        """Keep the span that is over: in the two that it overlaps, as much as lies in each."""
        number, late = divmod(self.began_ns, _SPAN_NS)
        if self.spans is None:
            self.spans, self.span = array("H", bytes(2 * _SPANS)), number
        self._turn(number + 1)
        after = self.count * late // _SPAN_NS
        for span, count in ((number, self.count - after), (number + 1, after)):
            if span > self.span - _SPANS:
                at = span % _SPANS
                self.spans[at] = min(_MOST, self.spans[at] + count)

    def _turn(self, span: int) -> None:
        """Begin the spans up to ``span``."""
        if self.spans is not None and span > self.span:
            for each in range(max(self.span + 1, span - _SPANS + 1), span + 1):
                self.spans[each % _SPANS] = 0
            self.span = span
