"""From a domain to the hosts that take its mail: MX look-up with dnspython, cached by TTL, wrong answers too.

RFC 5321 5.1: MX first; only where there is no MX record at all is the domain its own host; MX records that cannot be used never fall
back to it. RFC 7505: a single MX "." takes no mail. Names are absolute: no search list is ever tried. What DNS says is a stranger's
word, so it is bounded: 20 MX hosts, 5 addresses a host, and a total time for each question.

Nobody waits twice: look-ups of the same name share one question. An answer that says *nothing* (SERVFAIL, a time-out) is kept for a
few seconds only.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver

from shared.net.providers import provider_of, site_of
from shared.runtime.clock import Clock
from shared.runtime.settings import Dns, Settings

T = TypeVar("T")

MAX_HOSTS: Final = 20
MAX_ADDRESSES: Final = 5
_S: Final = 1_000_000_000
_KEEP_AT_MOST_NS: Final = 3600 * _S
_KEEP_AT_LEAST_NS: Final = 5 * _S
_KEEP_FAILURE_NS: Final = 10 * _S
_CACHE: Final = 200_000


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


@dataclass(slots=True)
class _Cache(Generic[T]):
    """Answers until they are too old, and the questions that are under way."""

    clock: Clock
    answers: dict[str, tuple[int, T]] = field(default_factory=dict)
    asking: dict[str, asyncio.Task[T]] = field(default_factory=dict)

    async def get(self, key: str, ask: Callable[[], Awaitable[tuple[T, int]]]) -> T:
        """Give the answer for ``key``; ``ask`` gives one with its life, ns."""
        kept = self.answers.get(key)
        if kept is not None and kept[0] > self.clock.mono_ns():
            return kept[1]
        task = self.asking.get(key)
        if task is None:
            task = self.asking[key] = asyncio.create_task(self._ask(key, ask))
            task.add_done_callback(lambda _: self.asking.pop(key, None))
        return await asyncio.shield(task)

    async def _ask(self, key: str, ask: Callable[[], Awaitable[tuple[T, int]]]) -> T:
        answer, life = await ask()
        now = self.clock.mono_ns()
        if len(self.answers) >= _CACHE:
            self.answers = {name: kept for name, kept in self.answers.items() if kept[0] > now}
        if len(self.answers) < _CACHE:
            self.answers[key] = now + life, answer
        return answer


class Destinations:
    """Resolve for one process."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Ask the name servers of the settings, else the machine's."""
        self._settings = settings
        self._resolver = _resolver(settings.dns)
        self._domains: _Cache[Answer] = _Cache(clock)
        self._hosts: _Cache[Addresses] = _Cache(clock)

    async def resolve(self, domain: str) -> Answer:
        """Say where the mail of ``domain`` (an A-label name) goes."""
        routed = self.routed(domain)
        return (
            routed
            if routed is not None
            else await self._domains.get(domain, lambda: self._mx(domain))
        )

    def routed(self, domain: str) -> Destination | None:
        """Give the destination that the operator's routes set, without any look-up."""
        route = self._settings.route(domain)
        if route is None:
            return None
        hosts = tuple(Host(at, name, port) for at, (name, port) in enumerate(route.to))
        return Destination(
            hosts, ",".join(f"{name}:{port}" for name, port in route.to), route.provider
        )

    async def addresses(self, host: str, family: str) -> Addresses:
        """Give the addresses of ``host`` for a source of ``family`` ("v4" or "v6"), as the resolver orders them."""
        if _is_address(host):
            return (host,)
        return await self._hosts.get(f"{family} {host}", lambda: self._addresses(host, family))

    async def _mx(self, domain: str) -> tuple[Answer, int]:
        try:
            answer = await self._resolver.resolve(_absolute(domain), "MX", search=False)
        except dns.resolver.NXDOMAIN:
            return NoDomain("there is no such domain"), _KEEP_FAILURE_NS
        except dns.resolver.NoAnswer:
            return await self._implicit(domain)
        except (dns.exception.DNSException, OSError) as error:
            return Unresolved(_why(error)), _KEEP_FAILURE_NS
        records = sorted(
            (int(r.preference), r.exchange.to_text(omit_final_dot=True).lower()) for r in answer
        )
        if records == [(records[0][0], ".")] or records == [(records[0][0], "")]:
            return NullMX(), _life(answer)
        hosts = tuple(
            Host(preference, name) for preference, name in records if name not in (".", "")
        )[:MAX_HOSTS]
        return self._found(domain, hosts), _life(answer)

    async def _implicit(self, domain: str) -> tuple[Answer, int]:
        """RFC 5321 5.1: without any MX record the domain itself is the host, if it has an address."""
        for family in ("v4", "v6"):
            found = await self.addresses(domain, family)
            if isinstance(found, Unresolved):
                return found, _KEEP_FAILURE_NS
            if found:
                return self._found(domain, (Host(0, domain),)), _KEEP_FAILURE_NS
        return NoDomain("the domain has neither MX nor address records"), _KEEP_FAILURE_NS

    def _found(self, domain: str, hosts: tuple[Host, ...]) -> Destination:
        names = [host.name for host in hosts]
        return Destination(
            hosts, site_of(names), provider_of(domain, names, self._settings.providers)
        )

    async def _addresses(self, host: str, family: str) -> tuple[Addresses, int]:
        kind = "A" if family == "v4" else "AAAA"
        try:
            answer = await self._resolver.resolve(_absolute(host), kind, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return (), _KEEP_FAILURE_NS
        except (dns.exception.DNSException, OSError) as error:
            return Unresolved(_why(error)), _KEEP_FAILURE_NS
        return tuple(r.address for r in answer)[:MAX_ADDRESSES], _life(answer)


def _resolver(settings: Dns) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=not settings.nameservers)
    if settings.nameservers:
        resolver.nameservers = list(settings.nameservers)
        resolver.port = settings.port
    resolver.lifetime = settings.timeout_ns / _S
    resolver.timeout = min(2.0, resolver.lifetime)
    # The cluster's ndots:5 would ask for five other names first, and one of them may exist.
    resolver.search = []
    return resolver


def _absolute(name: str) -> dns.name.Name:
    return dns.name.from_text(name.rstrip(".") + ".")


def _life(answer: dns.resolver.Answer) -> int:
    ttl = answer.rrset.ttl if answer.rrset is not None else 0
    return max(_KEEP_AT_LEAST_NS, min(ttl * _S, _KEEP_AT_MOST_NS))


def _why(error: BaseException) -> str:
    if isinstance(error, dns.resolver.NoNameservers):
        return "the name servers gave no usable answer (SERVFAIL)"
    if isinstance(error, dns.exception.Timeout):
        return "the name servers did not answer in time"
    return type(error).__name__


def _is_address(host: str) -> bool:
    return host.replace(".", "").isdigit() or ":" in host
