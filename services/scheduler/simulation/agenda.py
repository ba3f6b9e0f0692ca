"""What happens when, in virtual time: a heap of calls. Of two for the same moment the one that was put in first comes first."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

FOREVER: Final = 1 << 62


@dataclass(slots=True)
class Agenda:
    """Calls in their order."""

    now_ns: int
    _calls: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = field(
        default_factory=list
    )
    _serial: int = 0

    def at(self, at_ns: int, call: Callable[..., None], *arguments: Any) -> None:
        """Call ``call(at_ns, *arguments)`` when it is ``at_ns``."""
        self._serial += 1
        heapq.heappush(self._calls, (at_ns, self._serial, call, arguments))

    def next_ns(self) -> int:
        """Say when the next call is."""
        return self._calls[0][0] if self._calls else FOREVER

    def step(self) -> None:
        """Let time pass to the next call, and make it."""
        self.now_ns, _, call, arguments = heapq.heappop(self._calls)
        call(self.now_ns, *arguments)
