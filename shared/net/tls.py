"""What TLS must be for a destination, decided in one place; DANE and MTA-STS will be further sources of the same decision.

Pure but for the contexts, of which there is one for each level and process.
"""

import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

Level = Literal["opportunistic", "encrypted", "verified"]

_ORDER: Final[tuple[Level, ...]] = ("opportunistic", "encrypted", "verified")
#: A host whose TLS was broken is tried in the clear for so long, where that is allowed (KumoMTA and others remember three days).
REMEMBER_NS: Final = 3 * 24 * 3600 * 1_000_000_000
_REMEMBERED: Final = 100_000


def strictest(levels: Iterable[Level]) -> Level:
    """Give the highest of the levels that somebody requires; a required level never downgrades."""
    return max(levels, key=_ORDER.index, default="opportunistic")


def context(level: Level) -> ssl.SSLContext:
    """Make the context of a level: verified checks chain and name; the others encrypt towards whoever answers."""
    if level == "verified":
        made = ssl.create_default_context()
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        return made
    # Nothing is checked, so nothing of the system's certificates is loaded.
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if level == "opportunistic":
        # Small keys and old hashes are still better than the plain text that would follow (RFC 7435 3).
        made.set_ciphers("DEFAULT:@SECLEVEL=1")
    return made


@dataclass(slots=True)
class BrokenTls:
    """Hosts whose TLS did not work, for opportunistic delivery alone; when there are too many the oldest are forgotten."""

    bound: int = _REMEMBERED
    _until: dict[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Show how many there are."""
        return f"<BrokenTls [{len(self._until)} hosts]>"

    def remember(self, host: str, now_ns: int) -> None:
        """Note that TLS with ``host`` failed."""
        self._until.pop(host, None)
        while len(self._until) >= self.bound:
            del self._until[next(iter(self._until))]
        self._until[host] = now_ns + REMEMBER_NS

    def is_broken(self, host: str, now_ns: int) -> bool:
        """Say whether ``host`` is tried without TLS for now."""
        return self._until.get(host, 0) > now_ns
