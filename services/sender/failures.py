"""Which addresses could not be connected to, and for how long they are tried last: pure, one memory for all sources of a process.

    failed: tried last for a minute (five where it took a time-out) -> again: twice as long, up to half an hour -> connected: forgotten

A host that refuses at once costs nothing, one that swallows what is sent to it costs the time for connecting: so an MX that is dead for
hours is waited for by one connection now and then, and not by each that is made. It is an order, never a ban: where all have failed, all
are tried.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

_S: Final = 1_000_000_000
_FIRST_NS: Final = 60 * _S
_FIRST_SLOW_NS: Final = 300 * _S
_MOST_NS: Final = 1800 * _S
_REMEMBERED: Final = 10_000


class _Failed(NamedTuple):
    until_ns: int
    length_ns: int


@dataclass(slots=True)
class Failures:
    """Times are monotonic, ns."""

    _known: dict[str, _Failed] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the addresses that are remembered."""
        return len(self._known)

    def note(self, address: str, now_ns: int, *, slow: bool) -> None:
        """Take a failure; ``slow``: it took all the time there is for connecting."""
        first, known = _FIRST_SLOW_NS if slow else _FIRST_NS, self._known.get(address)
        if known is not None and now_ns < known.until_ns:
            # One of those that began before it was known.
            return
        if known is not None and now_ns < known.until_ns + _MOST_NS:
            first = max(first, min(2 * known.length_ns, _MOST_NS))
        if len(self._known) >= _REMEMBERED and address not in self._known:
            self._known.clear()
        self._known[address] = _Failed(now_ns + first, first)

    def forget(self, address: str) -> None:
        """Take that it could be connected to."""
        self._known.pop(address, None)

    def failed(self, address: str, now_ns: int) -> bool:
        """Say whether an address is to be tried last."""
        known = self._known.get(address)
        return known is not None and now_ns < known.until_ns
