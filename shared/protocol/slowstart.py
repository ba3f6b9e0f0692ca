"""How many connections a site may have: few at first, one more for each message that it takes. Pure.

A host that hears twenty greetings in the first second from an address that it does not know sees what a botnet does, and a small one is
down with it. Growth is quick where all is well: as every connection adds one for each message, it doubles about every message's time.
A connection that fails, or that the host ends, halves it. What was learnt ends with the site's last connection.
"""

from dataclasses import dataclass
from typing import Final

_FIRST: Final = 2


@dataclass(slots=True)
class SlowStart:
    """One site, as seen from one source."""

    allowed: int = _FIRST

    def good(self, most: int) -> None:
        """Take it that a message was accepted; never more than ``most``."""
        self.allowed = min(self.allowed + 1, max(most, 1))

    def bad(self) -> None:
        """Take it that a connection failed, or was ended by the host."""
        self.allowed = max(self.allowed // 2, 1)
