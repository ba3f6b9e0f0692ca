"""grant: permission for one attempt, from one slot in one epoch, in mail.dispatch (partition = slot).

It starts not before ``t0_ns`` and not after ``t1_ns``. A grant of another epoch than the owner's is skipped without a word: its lease
settles it. The message follows the line, or is referred to.
"""

from typing import Final

import msgspec

from shared.records.body import BodyRef
from shared.records.codec import Codec, Record
from shared.records.tlslevel import TlsLevel

#: With RSA-4096 it is 1,200 bytes; SIZE may be more than the message, never less (RFC 1870 6.1).
SIGNATURE_BYTES: Final = 2000


class Grant(Record, frozen=True, omit_defaults=True):
    """Permit attempt ``id:n`` from ``slot`` in ``epoch``.

    Fields without a default come first: the scheduler makes one for each attempt without naming them, which costs a fifth.
    """

    id: str
    #: Counts the grants of the delivery; never used twice.
    n: int
    slot: int
    epoch: int
    #: The partition of mail.outcomes that must hear of it: the one that decided.
    part: int
    t0_ns: int
    t1_ns: int
    tenant: str
    class_: str = msgspec.field(name="class")
    from_: str = msgspec.field(name="from")
    to: str
    domain: str
    #: The site as it was when the grant was made: another one found by the sender means ``moved``.
    site: str
    #: Provider, else site, else the smart host: whose limits these are.
    limit_key: str
    size_bytes: int
    header_domain: str
    provider: str | None = None
    #: When the delivery's time is over: it is not begun after that either, and handed back; 0: not said.
    expires_ns: int = 0
    #: What the wire must keep for the pair (limit key, slot): the least time between two RCPT, and how many may come in a burst.
    spacing_ns: int = 0
    burst: int = 1
    connections: int = 1
    messages_per_connection: int = 100
    #: The same for TCP connections of the pair, as spacing_ns and burst are for RCPT.
    connect_spacing_ns: int = 0
    connect_burst: int = 1
    #: The latest of the sender's warnings (``Outcome.warned_ns``) that the scheduler had heard when it granted this.
    heard_ns: int = 0
    #: The least that TLS must be, for the provider and for the tenant.
    tls: TlsLevel = "opportunistic"
    #: What the wire must keep for the pair's connections to this site, beside those of the pair; 0: nothing of its own.
    site_connections: int = 0
    site_connect_spacing_ns: int = 0
    site_connect_burst: int = 1
    prepend: str = ""
    body: BodyRef | None = None
    eight_bit: bool = False
    smtputf8: bool = False

    @property
    def attempt(self) -> str:
        """The attempt's name in logs and events."""
        return f"{self.id}:{self.n}"


GRANT: Codec[Grant] = Codec(Grant)
