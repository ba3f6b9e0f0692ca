"""What is to be told of a transaction: where it went, how long each stage took, how it ended."""

from dataclasses import dataclass
from typing import Final

from services.sender.smtp import classify
from services.sender.smtp.session import Lost, Refused, Result
from shared.records.outcome import Wire
from shared.records.tlslevel import TlsLevel
from shared.runtime.clock import Clock

_MS: Final = 1_000_000
_CLOSING: Final = 421


@dataclass(frozen=True, slots=True)
class Peer:
    """Both ends of a connection."""

    host: str
    address: str
    port: int
    source_ip: str
    #: The version and the cipher, or empty.
    tls: str = ""
    cipher: str = ""
    #: What this connection is good enough for.
    level: TlsLevel = "opportunistic"
    #: Why TLS was given up, where this connection is the second try.
    fallen_back: str = ""
    #: TLS went on from an earlier connection's.
    resumed: bool = False

    def wire(self) -> Wire:
        """Say where a transaction on the connection goes, and how."""
        return Wire(
            source_ip=self.source_ip,
            mx=self.host,
            mx_ip=self.address,
            tls=self.tls or f"none: {self.fallen_back or 'it is not offered'}",
            tls_cipher=self.cipher,
            tls_verified=self.level == "verified",
            tls_resumed=self.resumed,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """How a transaction ended, and what is to be told of it.

    ``stale``: the connection had served before, or long waited for its first turn, and the peer ended it before it said anything about
    this envelope. Nothing is learnt about the pair: the transaction may begin anew on a new connection. A 421 that is a warning is heard
    on any connection.
    """

    result: Result
    wire: Wire
    stale: bool = False


def ended_unheard(result: Result) -> bool:
    """Say whether the peer went before it said anything about the envelope, or about us."""
    match result:
        case Lost(stage="rset" | "mail"):
            return True
        case Refused(stage="rset" | "mail" as stage, reply=reply):
            return reply.code == _CLOSING and not classify.warns(stage, reply)
        case _:
            return False


class Watch:
    """Note how long each stage took."""

    __slots__ = ("_clock", "_last_ns", "begun_ns", "bytes", "ms")

    def __init__(self, clock: Clock, ms: dict[str, int]) -> None:
        """Begin; ``ms`` is what was spent before."""
        self._clock, self.ms = clock, ms
        self._last_ns = clock.mono_ns()
        #: Of the message, so many were written.
        self.bytes = 0
        self.begin()

    def begin(self) -> None:
        """Note that MAIL is written now."""
        self.begun_ns = self._clock.now_ns()

    def lap(self, stage: str) -> None:
        """Count the time since the last call for ``stage``."""
        now = self._clock.mono_ns()
        self.ms[stage] = self.ms.get(stage, 0) + (now - self._last_ns) // _MS
        self._last_ns = now
