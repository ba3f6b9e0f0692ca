"""That this process lives and may be given floating slots, said to the other senders: pure. Every two heartbeats, and where it has changed.

A sender that owns nothing beats for nothing, so it says ``present``. A process whose clock is off by more than the skew, as the stamp of
its last word shows, says that it can serve none of the slots. One that leaves says so before it releases, so that nobody counts on it.

The record is kept by the pod's name, which compaction would keep for ever: the pod's last act is a tombstone. One that died without is
buried after ten minutes of silence by the first of the living; should two think that they are it, they say the same thing twice.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from services.sender.ownership import Constants, Identity, Now
from services.sender.sharing import PRESENT_BEATS
from shared.protocol.clockbound import ClockBound, bound
from shared.protocol.control import ControlView
from shared.records.control import Present

_BURIED_NS: Final = 600_000_000_000


@dataclass(slots=True)
class Presence:
    """Speak for one process."""

    #: The floating slots.
    slots: tuple[int, ...]
    me: Identity
    view: ControlView
    times: Constants
    _clock: ClockBound | None = None
    _spoke_ns: int | None = None
    _lacked: tuple[int, ...] = ()

    def speak(self, lacks: Collection[int], now: Now) -> Present | None:
        """Give what must be said now, if anything; ``lacks``: what this process cannot serve."""
        fits = self._clock is None or self._clock.within(self.times.skew_ns)
        lacking = tuple(sorted(lacks)) if fits else self.slots
        pause = PRESENT_BEATS * self.times.heartbeat_ns
        spoken = self._spoke_ns is not None and now.mono_ns < self._spoke_ns + pause
        if not self.slots or (spoken and lacking == self._lacked):
            return None
        self._spoke_ns, self._lacked = now.mono_ns, lacking
        return self._present(now, lacks=lacking)

    def leave(self, now: Now) -> Present | None:
        """Give the last word of a process that has spoken."""
        return None if self._spoke_ns is None else self._present(now, leaving=True)

    def on_stamped(self, said: Present, stamp_ns: int, now: Now) -> None:
        """Take the acknowledgement of what was said."""
        self._clock = bound(said.wall_ns, stamp_ns, now.wall_ns)

    def to_bury(self) -> list[str]:
        """Name the pods whose ``present`` is to be taken away, where that falls to this process."""
        living = self.view.present(self.times.silence_ns)
        if self.me.pod != min(living, default=None):
            return []
        return [
            pod
            for pod, sender in self.view.senders.items()
            if self.view.log_ns - sender.last_ns > _BURIED_NS
        ]

    def _present(self, now: Now, *, lacks: tuple[int, ...] = (), leaving: bool = False) -> Present:
        return Present(
            process=self.me.process,
            pod=self.me.pod,
            wall_ns=now.wall_ns,
            lacks=lacks,
            leaving=leaving,
        )
