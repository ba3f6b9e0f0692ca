"""What is known of the address that one path's connections are seen with. Pure: observations go in, trouble and the next time come out.

Nothing leaves before the right address was seen. A wrong one stands until the right one is seen. An echo that does not answer keeps what
it said last, for three times ``every``: it is somebody else's machine, and mail must not stop because it restarts; yet what
nobody has confirmed for so long is not known any more.
"""

from dataclasses import dataclass
from typing import Final

_AGAIN_NS: Final = 60_000_000_000
_STANDS: Final = 3


@dataclass(slots=True)
class Verdict:
    """Observations of one path, which should be seen as ``expected``."""

    expected: str
    every_ns: int
    seen: str | None = None
    seen_ns: int = 0
    due_ns: int = 0
    _silence: str = "not asked yet"

    def observed(self, address: str, now_ns: int) -> None:
        """Take what an echo has seen."""
        self.seen, self.seen_ns = address, now_ns
        self.due_ns = now_ns + (self.every_ns if address == self.expected else self._soon_ns())

    def silent(self, why: str, now_ns: int) -> None:
        """Take that it said nothing that can be used."""
        self._silence, self.due_ns = why, now_ns + self._soon_ns()

    def trouble(self, now_ns: int) -> str | None:
        """Say why nothing may leave by this path; None: its address is right."""
        if self.seen is None:
            return f"address {self.expected} is not confirmed: {self._silence}"
        if self.seen != self.expected:
            return f"observed address {self.seen} is not {self.expected}"
        if now_ns >= self.seen_ns + _STANDS * self.every_ns:
            return f"address {self.expected} is not confirmed any more: {self._silence}"
        return None

    def _soon_ns(self) -> int:
        return min(self.every_ns, _AGAIN_NS)
