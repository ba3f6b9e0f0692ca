"""The levels of TLS, what each of them checks, and the hosts where it did not work.

Which level holds for a connection is the sender's ``tlspolicy``; this is what it decides with.
"""

import contextlib
import ssl
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from shared.records.tlslevel import TlsLevel

#: A host whose TLS was broken is tried in the clear for so long, where that is allowed (KumoMTA and others remember three days).
REMEMBER_NS: Final = 3 * 24 * 3600 * 1_000_000_000
_REMEMBERED: Final = 100_000
#: Neither ``start_tls`` nor ``create_connection`` takes a session; both call ``wrap_bio`` in the context of the task that calls them.
_offered: ContextVar[ssl.SSLSession | None] = ContextVar("offered", default=None)


class ResumingContext(ssl.SSLContext):
    """A client's context that offers a session where ``offering`` says so."""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - the base's signature
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Begin TLS over two buffers, as event loops do."""
        session = session or _offered.get()
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


@contextlib.contextmanager
def offering(session: ssl.SSLSession | None) -> Iterator[None]:
    """Offer ``session`` to the host with which TLS begins in this block; it must be of the same context, or TLS raises ValueError."""
    token = _offered.set(session)
    try:
        yield
    finally:
        _offered.reset(token)


def context(level: TlsLevel) -> ResumingContext:
    """Make the context of a level: verified checks chain and name; the others encrypt towards whoever answers."""
    made = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if level == "verified":
        # As strict about chains as the default of the Python that runs (RFC 5280 to the letter since 3.13).
        made.verify_flags |= ssl.create_default_context().verify_flags
        made.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return made
    # Nothing is checked, so nothing of the system's certificates is loaded.
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

    def forget(self, host: str) -> None:
        """Let ``host`` have its chance again."""
        self._until.pop(host, None)

    def is_broken(self, host: str, now_ns: int) -> bool:
        """Say whether ``host`` is tried without TLS for now."""
        return self._until.get(host, 0) > now_ns
