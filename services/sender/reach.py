"""From a grant to a ready connection: MX hosts in order, their addresses, the guard, TLS as required, the source's own address.

RFC 5321 5.1: lowest preference first, equal ones in random order, every address of a host. An address that failed not long ago is tried
last (``failures``). Where the name servers now give another MX set than the grant names, nothing is connected to: the grant goes back as
``moved``, and the scheduler decides again under the right limits. A source that cannot be used is never replaced by another.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from structlog.typing import FilteringBoundLogger

from services.sender.failures import Failures
from services.sender.smtp import classify
from services.sender.smtp.connect import (
    ConnectFailed,
    Credentials,
    Endpoint,
    Origin,
    Tls,
    TlsFailed,
    connect,
)
from services.sender.smtp.connection import Connection
from services.sender.smtp.reply import Reply
from services.sender.smtp.report import Report
from services.sender.smtp.timeouts import Timeouts
from services.sender.sources.echo import Observer
from services.sender.sources.outlet import Outlet
from services.sender.sources.secret import secret
from services.sender.tlspolicy import Required, TlsPolicy
from shared.net import machine
from shared.net.destinations import (
    DOUBTED_NS,
    Answer,
    Destination,
    Destinations,
    Host,
    NoDomain,
    NullMX,
    Unresolved,
)
from shared.net.guard import Guard
from shared.records.grant import Grant
from shared.records.tlslevel import TlsLevel, strictest
from shared.runtime.clock import Clock
from shared.runtime.settings import Settings, Source

#: RFC 5321 5.1 asks for at least two addresses to be tried; more than this many keep a grant from its lease.
_TRIES: Final = 4
#: So many hosts are looked up beside each other, and addresses are enough: one after the other, dead name servers cost more than a lease.
_AT_ONCE: Final = 2 * _TRIES
_UNMET_NS: Final = 60_000_000_000
_REMEMBERED: Final = 10_000


#: Waits for the turn of one TCP connection; False: it will not come in time.
Knock = Callable[[], Awaitable[bool]]


class TurnMissed(Exception):
    """The turn for a connection did not come in time."""


class Moved(Exception):
    """The domain's mail goes to other hosts than the grant names."""

    def __init__(self, site: str | None) -> None:
        """``site``: what was found; None: nothing."""
        super().__init__(site)
        self.site = site


@dataclass
class Unreachable(Exception):
    """No host could be connected to; what the last one tried said."""

    why: str
    stage: str = "connect"
    category: str = "connection"
    host: str = ""
    address: str = ""
    source_ip: str = ""
    reply: Reply | None = None
    #: Whose trouble it is: nobody's mail gets there, or only that of a sending domain that wants more than the others, or that of one
    #: domain which others share a limit key with.
    scope: Literal["pair", "domain", "recipient"] = "pair"
    #: Milliseconds spent in each stage.
    ms: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """Say why."""
        return self.why


@dataclass(slots=True)
class Common:
    """What all sources of a process share."""

    settings: Settings
    destinations: Destinations
    guard: Guard
    clock: Clock
    rng: random.Random
    log: FilteringBoundLogger
    #: Who sees a source's address; None: nobody was named.
    observer: Observer | None = None
    tls: TlsPolicy = field(default_factory=TlsPolicy)
    failures: Failures = field(default_factory=Failures)
    #: (site, level) -> until when it is not tried, and what it said: of TLS that only some sending domains want there.
    unmet: dict[tuple[str, TlsLevel], tuple[int, Unreachable]] = field(default_factory=dict)

    def renew(self, settings: Settings) -> None:
        """Go on under other settings."""
        self.settings = settings
        self.guard = guard_of(settings)
        self.destinations.renew(settings)


def guard_of(settings: Settings) -> Guard:
    """Make the guard that keeps mail from this machine, and from the sources' own addresses."""
    own = [source.address for source in settings.sources.values() if source.address]
    return Guard.of(settings.net, own, machine.has)


class Reach:
    """Connect from one source."""

    def __init__(self, source: Source, outlet: Outlet, common: Common) -> None:
        """``outlet`` opens the connections of ``source``; neither is ever replaced by another."""
        self._source, self._outlet, self._common = source, outlet, common
        sender = common.settings.sender
        self._timeouts = Timeouts(
            connect_ns=sender.connect_timeout_ns,
            banner_ns=sender.banner_timeout_ns,
            ehlo_ns=sender.ehlo_timeout_ns,
            starttls_ns=sender.starttls_timeout_ns,
            auth_ns=sender.auth_timeout_ns,
            mail_ns=sender.mail_timeout_ns,
            rcpt_ns=sender.rcpt_timeout_ns,
            data_ns=sender.data_timeout_ns,
            block_ns=sender.block_timeout_ns,
            dot_ns=sender.dot_timeout_ns,
        )

    @property
    def usable(self) -> bool:
        """Say whether mail may leave from the source."""
        return self._outlet.trouble is None

    async def connect(self, grant: Grant, knock: Knock) -> Connection:
        """Give a ready connection for ``grant``, asking ``knock`` before each try.

        Raises Moved, Unreachable, SourceUnavailable, TurnMissed.
        """
        required = self._required(grant)
        last = Unreachable(
            "the hosts have no address that this source can reach", stage="dns", category="dns"
        )
        tries = 0
        endpoints, failures = await self._endpoints(grant), self._common.failures
        self._spare(grant, required)
        for host, address in endpoints:
            refusal = self._common.guard.refusal(address)
            if refusal is not None:
                last = Unreachable(refusal, category="forbidden", host=host.name, address=address)
                continue
            tries += 1
            if tries > _TRIES:
                break
            try:
                opened = await self._open(Endpoint(host.name, address, host.port), required, knock)
            except TurnMissed:
                if tries > 1 and self._have_failed(endpoints):
                    # Every one of them has had its time, if not in this grant's: it is no want of time that keeps the mail here.
                    break
                raise
            except ConnectFailed as error:
                failed = self._unreachable(error, required)
                if failed.scope == "pair":
                    slow = isinstance(error.__cause__, TimeoutError)
                    failures.note(address, self._common.clock.mono_ns(), slow=slow)
                # A host that would serve others says more than one that serves nobody.
                last = failed if last.scope == "pair" else last
            else:
                failures.forget(address)
                return opened
        if last.scope == "domain":
            self._unmet(grant, required, last)
        raise last

    def _spare(self, grant: Grant, required: Required) -> None:
        """Leave hosts alone that could not give a moment ago what only this domain wants: no pause of the pair keeps its mail away."""
        until_ns, known = self._common.unmet.get((grant.site, required.level), (0, None))
        if known is not None and self._common.clock.mono_ns() < until_ns:
            raise replace(known, source_ip=self._source.address, ms={})

    def _unmet(self, grant: Grant, required: Required, why: Unreachable) -> None:
        unmet = self._common.unmet
        if len(unmet) >= _REMEMBERED:
            unmet.clear()
        unmet[grant.site, required.level] = (self._common.clock.mono_ns() + _UNMET_NS, why)

    def serves(self, connection: Connection, grant: Grant) -> bool:
        """Say whether a connection that stands is secure enough for ``grant``."""
        required = self._required(grant).level
        return strictest((connection.peer.level, required)) == connection.peer.level

    def learn(self, connection: Connection, report: Report) -> None:
        """Take what the peer made of a message: one that wants TLS after all is asked for it the next time."""
        verdict = classify.of_result(report.result)
        if verdict is not None and verdict.category == "tls" and connection.peer.fallen_back:
            self._common.tls.asked_for(connection.peer.host)

    def _required(self, grant: Grant) -> Required:
        provider = self._common.settings.providers.get(grant.provider or "")
        return self._common.tls.required(grant, self._source, provider)

    def _have_failed(self, endpoints: Sequence[tuple[Host, str]]) -> bool:
        """Say whether every address that may be connected to has failed not long ago."""
        now, guard = self._common.clock.mono_ns(), self._common.guard
        return all(
            self._common.failures.failed(address, now) or guard.refusal(address) is not None
            for _, address in endpoints
        )

    def _unreachable(self, error: ConnectFailed, required: Required) -> Unreachable:
        if error.reply is not None:
            category = classify.of_reply(error.stage, error.reply).category
        else:
            category = classify.of_loss(error.stage).category
        return Unreachable(
            error.why,
            error.stage,
            category,
            error.endpoint.host,
            error.endpoint.address,
            self._source.address,
            error.reply,
            required.blame if isinstance(error, TlsFailed) else "pair",
            error.ms,
        )

    # -- where to

    async def _endpoints(self, grant: Grant) -> list[tuple[Host, str]]:
        hosts = await self._hosts(grant)
        found: list[tuple[Host, str]] = []
        unknown: Unresolved | None = None
        for at in range(0, len(hosts), _AT_ONCE):
            if len(found) >= _AT_ONCE:
                break
            some, known, family = (
                hosts[at : at + _AT_ONCE],
                self._common.destinations,
                self._source.family,
            )
            looked_up = await asyncio.gather(*(known.addresses(host.name, family) for host in some))
            for host, addresses in zip(some, looked_up, strict=True):
                if isinstance(addresses, Unresolved):
                    unknown = addresses
                else:
                    found += [(host, address) for address in addresses]
        if unknown is not None and not found:
            raise Unreachable(unknown.reason, stage="dns", category="dns")
        now = self._common.clock.mono_ns()
        # Stable: what failed not long ago comes last, and the order of preference holds among the rest.
        return sorted(found, key=lambda each: self._common.failures.failed(each[1], now))

    async def _hosts(self, grant: Grant) -> list[Host]:
        if self._source.kind == "smarthost":
            return [Host(0, self._source.host, self._source.port)]
        match await self._answer(grant):
            case Destination(hosts=hosts, site=site):
                if site != grant.site:
                    raise Moved(site)
                by_chance = [(host.preference, self._common.rng.random(), host) for host in hosts]
                return [host for _, _, host in sorted(by_chance, key=lambda each: each[:2])]
            case NoDomain() | NullMX():
                raise Moved(None)
            case Unresolved(reason=reason):
                raise Unreachable(reason, stage="dns", category="dns")

    async def _answer(self, grant: Grant) -> Answer:
        """Look up where the grant's mail goes; what contradicts it is asked for anew, as it may be older than what the grant is made of."""
        destinations = self._common.destinations
        answer = await destinations.resolve(grant.domain)
        if isinstance(answer, Unresolved):
            return answer
        if isinstance(answer, Destination) and answer.site == grant.site:
            return answer
        return await destinations.resolve(grant.domain, within_ns=DOUBTED_NS)

    # -- how

    async def _open(self, endpoint: Endpoint, required: Required, knock: Knock) -> Connection:
        policy, clock = self._common.tls, self._common.clock
        tls = policy.first(endpoint, required.level, self._source, clock.now_ns())
        tried = False
        while True:
            try:
                connection = await self._try(endpoint, tls, knock)
            except ConnectFailed as error:
                other = policy.another(tls, error)
                if other is None:
                    raise
                tls, tried = other, True
                continue
            if tried and tls.mode == "none":
                policy.fell_back(endpoint.host, clock.now_ns())
                self._common.log.info("tls_fallback", mx=endpoint.host, reason=tls.fallen_back)
            return connection

    async def _try(self, endpoint: Endpoint, tls: Tls, knock: Knock) -> Connection:
        credentials = await self._credentials()
        if not await knock():
            raise TurnMissed
        origin = Origin(self._source.ehlo or "localhost", self._outlet.dial, credentials)
        return await connect(
            endpoint, origin, tls, timeouts=self._timeouts, clock=self._common.clock
        )

    async def _credentials(self) -> Credentials | None:
        """Give a smart host's; raises Unreachable where they cannot be read, as if it had refused them."""
        source = self._source
        # The password of a proxied source is its proxy's.
        if not source.username or source.password_file is None:
            return None
        try:
            return Credentials(source.username, await secret(source.password_file))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "expected text"
            raise Unreachable(
                f"sources.{source.name}.password_file: {why}",
                stage="auth",
                category="credentials",
                host=source.host,
                source_ip=source.address,
            ) from error
