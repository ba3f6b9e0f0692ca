"""What hosts gave to resume TLS with: session ids and tickets of TLS 1.2, tickets of TLS 1.3.

An abbreviated handshake has no certificate to send, to sign with or to verify.

    kept after the greeting over TLS -> offered at the next connection of the same way -> the host takes it, or makes a full handshake

A way is source, host, address, port, level and name. A ticket of one level is never offered at another: a session that nobody verified
would pass as verified, since a resumed handshake shows no certificate. (Each level has a context of its own besides, and OpenSSL's
sessions belong to a context.) Nor is one shown from two sources, which would tell the host what they have in common.

A ticket is shown until it ends, ``REUSE_NS`` after the full handshake that gave it or with the certificate that was verified then; those
that a host gives when it resumes are not taken. So what was verified once is verified again (RFC 8446 4.6.1 asks for such an end), and the
price of taking one is paid once: Python copies the session and its certificate, a fifth of a handshake. RFC 8446 C.4 advises against
showing one twice lest an onlooker links connections; ours come from one address that is known by its name. A host that takes each
only once resumes every other connection.

A ticket that was offered when a connection failed is forgotten, so a host that cannot resume costs one more connection, never the TLS.
"""

import ssl
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from shared.records.tlslevel import TlsLevel

_S: Final = 1_000_000_000
#: A full handshake, and so the verification of a certificate, is good for so long.
REUSE_NS: Final = 3600 * _S
#: Each holds the ticket and the host's certificate: 6 to 7 KiB.
_REMEMBERED: Final = 4_000


class Way(NamedTuple):
    """What must be the same for a ticket to be shown again; ``name`` is the one that TLS asks for and verifies."""

    source: str
    host: str
    address: str
    port: int
    level: TlsLevel
    name: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """A session, and until when it is shown; wall clock."""

    way: Way
    session: ssl.SSLSession
    until_ns: int


@dataclass(slots=True)
class Tickets:
    """The latest ticket of each way; when there are too many, those that were kept first are forgotten."""

    bound: int = _REMEMBERED
    _kept: dict[Way, Ticket] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Show how many there are."""
        return f"<Tickets [{len(self._kept)} ways]>"

    def offer(self, way: Way, now_ns: int) -> Ticket | None:
        """Give what can be shown at ``way`` now."""
        ticket = self._kept.get(way)
        if ticket is not None and now_ns >= ticket.until_ns:
            del self._kept[way]
            return None
        return ticket

    def keep(self, way: Way, made: ssl.SSLObject, now_ns: int) -> None:
        """Keep what a full handshake gave, after something was read over TLS: TLS 1.3 sends tickets behind it (RFC 8446 4.6.1)."""
        if made.session_reused:
            return
        session = made.session
        if session is None or not (session.has_ticket or session.id):
            return
        ticket = Ticket(way, session, _until_ns(made, session, now_ns))
        self._kept.pop(way, None)
        if ticket.until_ns <= now_ns:
            return
        while len(self._kept) >= self.bound:
            del self._kept[next(iter(self._kept))]
        self._kept[way] = ticket

    def forget(self, ticket: Ticket) -> None:
        """Offer it no more."""
        if self._kept.get(ticket.way) is ticket:
            del self._kept[ticket.way]


def _until_ns(made: ssl.SSLObject, session: ssl.SSLSession, now_ns: int) -> int:
    until_ns = now_ns + REUSE_NS
    if session.ticket_lifetime_hint:
        until_ns = min(until_ns, now_ns + session.ticket_lifetime_hint * _S)
    # Without verification there is nothing here, and it may be expired for all we care.
    if ends := (made.getpeercert() or {}).get("notAfter"):
        until_ns = min(until_ns, ssl.cert_time_to_seconds(str(ends)) * _S)
    return until_ns
