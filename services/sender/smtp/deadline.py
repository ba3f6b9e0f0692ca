"""One timer for all that a connection waits for, one after the other: moved without being touched as long as that can be.

Each message has half a dozen time-outs, nearly all of which are over before they end. A timer that is due before the time that counts is
left alone, and looks what counts when it fires; only a shorter time-out than the one under way costs another timer.
"""

import asyncio
from collections.abc import Callable
from typing import Final

_NEVER: Final = float("inf")
#: Loops count in milliseconds: a timer may fire so much too early.
_GRAIN_S: Final = 0.001


class Deadline:
    """Call ``over`` when the time that was last set has come."""

    __slots__ = ("_at", "_due", "_loop", "_over", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, over: Callable[[], None]) -> None:
        """Begin without any."""
        self._loop, self._over = loop, over
        #: What counts, and when the timer fires; both by the loop's time, s.
        self._at = self._due = _NEVER
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Let the time be over at ``at``, by the loop's time, and not at what was set before."""
        self._at = at
        if at < self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._due = at
            self._timer = self._loop.call_at(at, self._fired)

    def clear(self) -> None:
        """Let it never be over."""
        self._at = _NEVER

    def close(self) -> None:
        """Leave no timer behind."""
        self._at = self._due = _NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fired(self) -> None:
        self._timer, self._due = None, _NEVER
        if self._at == _NEVER:
            return
        if self._at - self._loop.time() > _GRAIN_S:
            self.set(self._at)
        else:
            self._at = _NEVER
            self._over()
