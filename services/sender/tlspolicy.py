"""What TLS must be towards one host, decided here and nowhere else; pure but for the contexts, of which a process has one a level.

    required(grant, source) -> first(host) -> a connection -> failed? -> another(host): without a ticket, in the clear, or not at all

Whoever has a say gives a level, and the strictest holds: the provider's row (or the smart host's own setting), and the grant, in
which the scheduler has put what the tenant wants. DANE and MTA-STS will be two more of them. A required level never downgrades.

Opportunistic verifies nothing, since without a requirement a certificate proves nothing (RFC 7435). Where such a handshake fails, the
mail goes in the clear, on a new connection. A host is remembered as broken only once that worked, so a network that fails in the middle
of a handshake costs nobody the encryption; and it is forgotten when the host asks for TLS after all.

Whose fault a failure is: below the destination's own level it is the pair's, as any failed connection. A level that only the sending
domain wants is that domain's to bear: the pair works for everybody else and must not be paused over it.
"""

import ssl
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Literal

from services.sender.smtp.connect import ConnectFailed, Endpoint, Tls, TlsFailed
from services.sender.tickets import Tickets, Way
from shared.net.tls import BrokenTls, context
from shared.records.grant import Grant
from shared.records.tlslevel import TlsLevel, strictest
from shared.runtime.settings import Provider, Source

_IMPLICIT_TLS_PORT: Final = 465
_BROKEN: Final = "TLS was broken here not long ago"


@dataclass(frozen=True, slots=True)
class Required:
    """The least that TLS must be; ``of_destination`` is what everybody's mail needs there."""

    level: TlsLevel
    of_destination: TlsLevel

    @property
    def blame(self) -> Literal["pair", "domain"]:
        """Say whose trouble it is where TLS cannot be had."""
        return "pair" if self.level == self.of_destination else "domain"


@dataclass(slots=True)
class TlsPolicy:
    """Decide for one process."""

    broken: BrokenTls = field(default_factory=BrokenTls)
    contexts: dict[TlsLevel, ssl.SSLContext] = field(default_factory=dict)
    tickets: Tickets = field(default_factory=Tickets)

    def required(self, grant: Grant, source: Source, provider: Provider | None) -> Required:
        """Gather what everybody requires; ``provider`` is the row of the grant's."""
        destination: TlsLevel = provider.tls if provider is not None else "opportunistic"
        if source.kind == "smarthost":
            # Its operator has said what this hop must be; the provider behind it is another hop's.
            destination = source.tls
        return Required(strictest((destination, grant.tls)), destination)

    def first(self, endpoint: Endpoint, level: TlsLevel, source: Source, now_ns: int) -> Tls:
        """Say how to begin with a host."""
        if source.kind == "smarthost" and endpoint.port == _IMPLICIT_TLS_PORT:
            # There is no other way to speak to it, whatever was asked for.
            made = Tls("required", self._context(level), implicit=True)
        elif level == "opportunistic":
            if self.broken.is_broken(endpoint.host, now_ns):
                return Tls("none", fallen_back=_BROKEN)
            made = Tls("opportunistic", self._context(level))
        else:
            made = Tls("required", self._context(level))
        way = Way(
            source.name,
            endpoint.host,
            endpoint.address,
            endpoint.port,
            level,
            made.server_name or endpoint.host,
        )
        ticket = self.tickets.offer(way, now_ns)
        return replace(made, ticket=ticket, keep=partial(self.tickets.keep, way))

    def another(self, tried: Tls, failure: ConnectFailed) -> Tls | None:
        """Say how to try the same host again, on a new connection; None: not at all."""
        if tried.ticket is not None and failure.resuming and failure.reply is None:
            # What a host makes of its own ticket says nothing about its TLS.
            self.tickets.forget(tried.ticket)
            return replace(tried, ticket=None)
        if not isinstance(failure, TlsFailed) or tried.mode != "opportunistic":
            return None
        return Tls("none", fallen_back=failure.why)

    def fell_back(self, host: str, now_ns: int) -> None:
        """Remember that ``host`` answers in the clear, and not over TLS."""
        self.broken.remember(host, now_ns)

    def asked_for(self, host: str) -> None:
        """Forget that TLS was broken: the host takes nothing without it."""
        self.broken.forget(host)

    def _context(self, level: TlsLevel) -> ssl.SSLContext:
        if level not in self.contexts:
            self.contexts[level] = context(level)
        return self.contexts[level]
