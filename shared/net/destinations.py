"""From a domain to the hosts that take its mail: MX look-up with dnspython, cached by TTL, wrong answers too.

RFC 5321 5.1: MX first; only where there is no MX record at all is the domain its own host; MX records that cannot be used never fall
back to it. RFC 7505: a single MX "." takes no mail. Names are absolute: no search list is ever tried. What DNS says is a stranger's
word, so it is bounded: 20 MX hosts, 5 addresses a host, 16 CNAMEs (dnspython's own bound), and a total time for each question.

Nobody waits twice: look-ups of the same name share one question. "There is no such domain" is kept for less than the minute after
which the scheduler asks for a second opinion, whatever the zone's SOA says, so that the second answer is a new one. An answer that says
*nothing* (SERVFAIL, a time-out) is kept for a few seconds only. Processes that disagree about a domain compare answers that are as new
(``DOUBTED_NS``): what one of them keeps by its TTL would keep the mail from both for as long.
"""

import asyncio
import ipaddress
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final, TypeVar

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.resolver

from shared.net.cache import Cache
from shared.runtime.clock import Clock
from shared.runtime.providers import provider_of, site_of
from shared.runtime.settings import Settings
from shared.runtime.workings import Dns

T = TypeVar("T")

MAX_HOSTS: Final = 20
MAX_ADDRESSES: Final = 5
_S: Final = 1_000_000_000
#: No answer that is older counts against another process's.
DOUBTED_NS: Final = 10 * _S
_KEEP_AT_MOST_NS: Final = 3600 * _S
_KEEP_AT_LEAST_NS: Final = 5 * _S
_KEEP_NOTHING_AT_MOST_NS: Final = 30 * _S
_KEEP_FAILURE_NS: Final = 10 * _S
_CACHE: Final = 200_000
#: One name server that is dead does not use up the time of the next one.
_TRY_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Host:
    """One host that takes mail: lowest preference first."""

    preference: int
    name: str
    port: int = 25


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a domain's mail goes."""

    hosts: tuple[Host, ...]
    site: str
    provider: str | None

    @property
    def limit_key(self) -> str:
        """Name what limits count by: the provider where there is one, else the site."""
        return self.provider or self.site


@dataclass(frozen=True, slots=True)
class NoDomain:
    """The name servers say that there is no such domain, or nothing in it that takes mail (5.1.2)."""

    reason: str


@dataclass(frozen=True, slots=True)
class NullMX:
    """The domain says that it takes no mail (RFC 7505; 5.1.10)."""


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Nobody could say (4.4.3)."""

    reason: str


Answer = Destination | NoDomain | NullMX | Unresolved
Addresses = tuple[str, ...] | Unresolved


@dataclass(frozen=True, slots=True)
class _Nothing:
    """There is no such record; ``exists``: the name that was found without one, None if there is no such name."""

    exists: str | None
    life_ns: int


class Destinations:
    """Resolve for one process."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Ask the name servers of the settings, else the machine's."""
        self._clock = clock
        self.renew(settings)

    def renew(self, settings: Settings) -> None:
        """Go on under other settings: what was known before may be another provider's now, or another name server's word."""
        self._settings = settings
        self._resolver = _resolver(settings.dns)
        self._domains: Cache[Answer] = Cache(self._clock, _CACHE)
        self._hosts: Cache[Addresses] = Cache(self._clock, _CACHE)

    def __repr__(self) -> str:
        """Show what is known."""
        return f"<Destinations [domains {self._domains!r}, hosts {self._hosts!r}]>"

    async def resolve(self, domain: str, *, within_ns: int | None = None) -> Answer:
        """Say where the mail of ``domain`` (an A-label name) goes; ``within_ns``: an older answer will not do, whatever its TTL."""
        routed = self.routed(domain)
        if routed is not None:
            return routed
        return await self._domains.get(domain, lambda: self._mx(domain), within_ns=within_ns)

    def routed(self, domain: str) -> Destination | None:
        """Give the destination that the operator's routes set, without any look-up."""
        route = self._settings.route(domain)
        if route is None:
            return None
        hosts = tuple(Host(at, name, port) for at, (name, port) in enumerate(route.to))
        return Destination(hosts, route.site, route.provider)

    async def addresses(self, host: str, family: str) -> Addresses:
        """Give the addresses of ``host`` for a source of ``family`` ("v4" or "v6"), as the resolver orders them."""
        literal = _literal(host)
        if literal is not None:
            return (host,) if family == f"v{literal.version}" else ()
        return await self._hosts.get(f"{family} {host}", lambda: self._addresses(host, family))

    # -- MX

    async def _mx(self, domain: str) -> tuple[Answer, int]:
        """Ask within the total time: the address look-ups that may follow count, too."""
        unresolved = Unresolved("the name servers did not answer in time"), _KEEP_FAILURE_NS
        return await self._within(self._ask_mx(domain), unresolved)

    async def _ask_mx(self, domain: str) -> tuple[Answer, int]:
        match await self._ask(domain, "MX"):
            case Unresolved() as unresolved:
                return unresolved, _KEEP_FAILURE_NS
            case _Nothing(exists=name, life_ns=life):
                if name is None:
                    return NoDomain("there is no such domain"), life
                return await self._implicit(name)
            case dns.resolver.Answer() as found:
                return self._explicit(domain, found)

    def _explicit(self, domain: str, found: dns.resolver.Answer) -> tuple[Answer, int]:
        hosts, null = _usable(found)
        if null:
            return NullMX(), _life_ns(found)
        if not hosts:
            nothing = NoDomain("none of the domain's MX records names a host")
            return nothing, min(_life_ns(found), _KEEP_NOTHING_AT_MOST_NS)
        return self._found(domain, hosts), _life_ns(found)

    async def _implicit(self, domain: str) -> tuple[Answer, int]:
        """RFC 5321 5.1: without any MX record the domain itself is the host, if it has an address."""
        for family in ("v4", "v6"):
            found = await self.addresses(domain, family)
            if isinstance(found, Unresolved):
                return found, _KEEP_FAILURE_NS
            if found:
                return self._found(domain, (Host(0, domain),)), _KEEP_NOTHING_AT_MOST_NS
        nothing = NoDomain("the domain has neither MX nor address records")
        return nothing, _KEEP_FAILURE_NS

    def _found(self, domain: str, hosts: tuple[Host, ...]) -> Destination:
        names = [host.name for host in hosts]
        provider = provider_of(domain, names, self._settings.providers)
        return Destination(hosts, site_of(names), provider)

    # -- addresses

    async def _addresses(self, host: str, family: str) -> tuple[Addresses, int]:
        unresolved = Unresolved("the name servers did not answer in time"), _KEEP_FAILURE_NS
        return await self._within(self._ask_addresses(host, family), unresolved)

    async def _ask_addresses(self, host: str, family: str) -> tuple[Addresses, int]:
        match await self._ask(host, "A" if family == "v4" else "AAAA"):
            case Unresolved() as unresolved:
                return unresolved, _KEEP_FAILURE_NS
            case _Nothing(life_ns=life):
                return (), life
            case dns.resolver.Answer() as found:
                return tuple(each.address for each in found)[:MAX_ADDRESSES], _life_ns(found)

    # -- one question

    async def _ask(self, name: str, kind: str) -> dns.resolver.Answer | _Nothing | Unresolved:
        try:
            absolute = dns.name.from_text(name.rstrip(".") + ".")
        except (dns.exception.DNSException, UnicodeError):
            # No zone can hold such a name, so nobody needs to be asked.
            return _Nothing(None, _KEEP_NOTHING_AT_MOST_NS)
        try:
            answer = await self._resolver.resolve(
                absolute, kind, search=False, raise_on_no_answer=False
            )
        except dns.resolver.NXDOMAIN as error:
            return _Nothing(None, _life_of_nxdomain_ns(error, absolute))
        except (dns.exception.DNSException, OSError) as error:
            return Unresolved(_why(error))
        if answer.rrset is None:
            # The name where a chain of CNAMEs ends counts as the name that was asked for (RFC 5321 5.1).
            return _Nothing(
                _text(answer.canonical_name), _brief_ns(answer.chaining_result.minimum_ttl)
            )
        return answer

    async def _within(self, asking: Awaitable[T], otherwise: T) -> T:
        try:
            async with asyncio.timeout(self._settings.dns.timeout_ns / _S):
                return await asking
        except TimeoutError:
            return otherwise


def _resolver(settings: Dns) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=not settings.nameservers)
    if settings.nameservers:
        resolver.nameservers = list(settings.nameservers)
        resolver.port = settings.port
    resolver.lifetime = settings.timeout_ns / _S
    resolver.timeout = min(_TRY_S, resolver.lifetime)
    # The cluster's ndots:5 would ask for five other names first, and one of them may exist.
    resolver.search = []
    return resolver


def _usable(answer: dns.resolver.Answer) -> tuple[tuple[Host, ...], bool]:
    """Give the hosts that the records name, each once, and whether the answer is the null MX."""
    records = sorted((int(each.preference), _text(each.exchange)) for each in answer)
    if len(records) == 1 and not records[0][1]:
        return (), True
    best: dict[str, int] = {}
    for preference, name in records:
        # An address is no host name (RFC 1035 3.3.9); "." beside other records says nothing (RFC 7505 3).
        if name and _literal(name) is None:
            best.setdefault(name, preference)
    return tuple(Host(preference, name) for name, preference in best.items())[:MAX_HOSTS], False


def _text(name: dns.name.Name) -> str:
    """Write a name as everything here does: lower case, no final dot; the root is empty."""
    return name.to_text(omit_final_dot=True).lower().rstrip(".")


def _life_ns(answer: dns.resolver.Answer) -> int:
    ttl = answer.chaining_result.minimum_ttl
    return max(_KEEP_AT_LEAST_NS, min(ttl * _S, _KEEP_AT_MOST_NS))


def _brief_ns(ttl: int) -> int:
    return max(_KEEP_AT_LEAST_NS, min(ttl * _S, _KEEP_NOTHING_AT_MOST_NS))


def _life_of_nxdomain_ns(error: dns.resolver.NXDOMAIN, name: dns.name.Name) -> int:
    """RFC 2308: the SOA in the answer says how long the name may be taken for missing."""
    response: dns.message.QueryMessage = error.response(name)  # type: ignore[no-untyped-call]
    return _brief_ns(response.resolve_chaining().minimum_ttl)


def _why(error: BaseException) -> str:
    if isinstance(error, dns.resolver.NoNameservers):
        # Each of them failed, refused, sent rubbish, or an endless chain of CNAMEs.
        return "the name servers gave no usable answer (SERVFAIL)"
    if isinstance(error, dns.exception.Timeout):
        return "the name servers did not answer in time"
    return type(error).__name__


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
