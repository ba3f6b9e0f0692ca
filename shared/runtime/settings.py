"""What an operator wrote, as frozen values: the same for every service, read once.

Who sends, from where, to whom and how fast is here; how the processes work is in ``shared.runtime.workings``; ``Settings`` has all of it.
``shared.runtime.loading`` reads and checks the files; these modules only say what there is and answer questions about it, so policy may
import them. Times are nanoseconds, sizes bytes. Every default is one that a production cluster can run with.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, NamedTuple

from shared.records.tlslevel import TlsLevel
from shared.runtime.warmups import Warmup
from shared.runtime.windows import Window
from shared.runtime.workings import (
    Dns,
    Following,
    Http,
    Ingest,
    Kafka,
    Log,
    Net,
    Scheduler,
    Sender,
    Timing,
)

_S: Final = 1_000_000_000
_MIN: Final = 60 * _S
_H: Final = 60 * _MIN
#: Each is a partition of mail.dispatch.
MOST_SLOTS: Final = 8192

#: How much of white space counts in a signature (RFC 6376 3.4).
Strictness = Literal["relaxed", "simple"]


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` in any half-open window of ``period_ns``; so many of them at once."""

    count: int
    period_ns: int
    burst: int = 1


@dataclass(frozen=True, slots=True)
class ByteRate(Rate):
    """At most ``count`` bytes in any half-open window of ``period_ns``; a message that is larger goes alone."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """One way out through another machine; its password, where it wants one, is the source's ``password_file``."""

    scheme: Literal["socks5", "proxy-v2"]
    host: str
    port: int
    username: str = ""

    def __str__(self) -> str:
        """Write it as an operator does."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{self.username}{'@' if self.username else ''}{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Source:
    """One dedicated address with its EHLO name, or one smart host with its credentials."""

    name: str
    slot: int
    kind: Literal["bind", "proxy", "direct", "smarthost"]
    #: The name of a schedule, or "none".
    warmup: str
    ehlo: str = ""
    #: bind: the local address; proxy, direct: the one that destinations see.
    address: str = ""
    #: proxy: the ways out, in order.
    via: tuple[Proxy, ...] = ()
    #: direct: the number of the sender whose connections the network gives this address.
    ordinal: int = 0
    #: smarthost: where to, and who.
    host: str = ""
    port: int = 587
    username: str = ""
    #: smarthost: of ``username``; proxy: of those in ``via``.
    password_file: Path | None = None
    tls: TlsLevel = "encrypted"

    @property
    def floating(self) -> bool:
        """Say whether any sender can serve it, and they share it out; a fixed one is served by whoever has its address."""
        return self.kind in ("proxy", "smarthost")

    @property
    def family(self) -> Literal["v4", "v6"]:
        """Name the address family that it connects over."""
        return "v6" if ":" in self.address else "v4"


@dataclass(frozen=True, slots=True)
class Spill:
    """Where mail goes that its pool does not get away."""

    #: Another pool.
    to: str
    #: How long a delivery has been ready.
    after_ns: int
    #: At most so many a day at each destination, and this share of the day's mail for it.
    daily: int
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Pool:
    """A weighted set of sources."""

    name: str
    sources: Mapping[str, int]
    #: What ties a delivery to one of the sources.
    sticky: Literal["none", "tenant", "domain", "recipient"] = "none"
    spill: Spill | None = None


class Canonicalization(NamedTuple):
    """How header and body are canonicalised: the value of ``c=``."""

    header: Strictness = "relaxed"
    body: Strictness = "relaxed"


RELAXED: Final = Canonicalization()


@dataclass(frozen=True, slots=True)
class DkimKey:
    """One key: what to sign as, where the private key lies, and from when until when it signs."""

    domain: str
    selector: str
    key_file: Path
    canonicalization: Canonicalization = RELAXED
    from_ns: int = 0
    #: None: until a newer one does.
    until_ns: int | None = None

    def valid(self, now_ns: int) -> bool:
        """Say whether it may sign now."""
        return self.from_ns <= now_ns and (self.until_ns is None or now_ns < self.until_ns)


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of a tenant's mail."""

    #: So many deliveries has one of its turns among the tenant's streams.
    weight: int = 1
    #: When it may be sent; None: as the tenant's windows say.
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who sends."""

    name: str
    domains: tuple[str, ...]
    #: class -> pool
    pools: Mapping[str, str]
    dkim: tuple[DkimKey, ...] = ()
    #: May send without a signature where no key fits the From domain.
    unsigned: bool = False
    #: The least that TLS must be for its mail, wherever it goes.
    tls: TlsLevel = "opportunistic"
    #: So many deliveries has one of its turns, where mail of others waits as well.
    weight: int = 1
    #: The streams of which something is said, by name.
    streams: Mapping[str, Stream] = field(default_factory=dict)
    #: class -> when its mail may be sent; where nothing is said, the class's window holds.
    windows: Mapping[str, Window] = field(default_factory=dict)
    #: Pools that its mail may go by when it spills over, beside its own.
    spill_to: tuple[str, ...] = ()

    def may_use(self, pool: str) -> bool:
        """Say whether its mail may go by ``pool``."""
        return pool in self.spill_to or pool in self.pools.values()


@dataclass(frozen=True, slots=True)
class UnknownPolicy:
    """What follows when nobody knows whether the receiver has the message."""

    policy: Literal["retry", "hold", "assume_sent"] = "retry"
    #: So many times; None: no cap.
    retry: int | None = 2
    delay_ns: int = 5 * _MIN


@dataclass(frozen=True, slots=True)
class ClassPolicy:
    """How a class is retried."""

    name: str
    retry: tuple[int, ...]
    expires_ns: int
    unknown: UnknownPolicy = UnknownPolicy()
    jitter: float = 0.2
    #: What expires within this goes before others.
    urgent_ns: int = 10 * _MIN
    #: When it may be sent; None: always.
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """Who runs a set of MX hosts."""

    name: str
    mx: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    tls: TlsLevel = "opportunistic"
    families: tuple[str, ...] = ("v4",)


@dataclass(frozen=True, slots=True)
class LimitRow:
    """One layer's limits; None: the layer below decides."""

    connections: int | None = None
    messages_per_connection: int | None = None
    rate: Rate | None = None
    total_rate: Rate | None = None
    total_connections: int | None = None
    connection_rate: Rate | None = None
    bytes: ByteRate | None = None
    #: What a destination that nobody knows begins with; it grows up to ``rate``.
    start_rate: Rate | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """What holds for one (limit key, source)."""

    connections: int
    messages_per_connection: int
    rate: Rate | None = None
    total_rate: Rate | None = None
    total_connections: int | None = None
    connection_rate: Rate | None = None
    bytes: ByteRate | None = None
    #: None: there is nothing to grow from, the rate holds at once.
    start_rate: Rate | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """Destinations that skip MX resolution."""

    pattern: str
    to: tuple[tuple[str, int], ...]
    provider: str | None = None

    @property
    def site(self) -> str:
        """Name the site that it leads to."""
        return ",".join(f"{name}:{port}" for name, port in self.to)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How a source answers to what a destination says of it; published figures of a provider (policy.reactions) hold before these."""

    #: Of the rate, or of the connections, that were too much: so much is left.
    cut: float = 0.5
    #: A rate is never cut below this.
    floor: Rate = Rate(1, _MIN)
    #: After a reply that says "too fast" nothing goes for so long; twice as long where it is the first answer after it.
    hold_ns: int = 1 * _MIN
    hold_max_ns: int = 2 * _H
    #: At most one step up in this time.
    step_ns: int = 1 * _MIN
    #: The level that hurt is not reached again for so long, twice as long after each cut.
    memory_ns: int = 1 * _H
    #: A pair that was warned no more for so long is as any other; and no memory is longer.
    forget_ns: int = 24 * _H
    suspend_first_ns: int = 15 * _MIN
    suspend_max_ns: int = 24 * _H
    #: So many must be taken, one at a time, before a suspended pair goes on.
    probes: int = 3
    #: What a source's health is counted from fades by half in this time.
    half_life_ns: int = 1 * _H


@dataclass(frozen=True)
class Settings:
    """Everything."""

    kafka: Kafka = field(default_factory=Kafka)
    sources: Mapping[str, Source] = field(default_factory=dict)
    warmups: Mapping[str, Warmup] = field(default_factory=dict)
    pools: Mapping[str, Pool] = field(default_factory=dict)
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    classes: Mapping[str, ClassPolicy] = field(default_factory=dict)
    providers: Mapping[str, Provider] = field(default_factory=dict)
    limits: Mapping[str, LimitRow] = field(default_factory=dict)
    routes: Mapping[str, Route] = field(default_factory=dict)
    #: Lane -> partition, for those that are not to stay where they are.
    lanes: Mapping[str, int] = field(default_factory=dict)
    timing: Timing = field(default_factory=Timing)
    backoff: Backoff = Backoff()
    dns: Dns = field(default_factory=Dns)
    net: Net = field(default_factory=Net)
    http: Http = field(default_factory=Http)
    ingest: Ingest = field(default_factory=Ingest)
    scheduler: Scheduler = field(default_factory=Scheduler)
    sender: Sender = field(default_factory=Sender)
    log: Log = field(default_factory=Log)
    configuration: Following = field(default_factory=Following)

    def route(self, domain: str) -> Route | None:
        """Find the route of a domain: its own, or the longest ``*.`` suffix."""
        labels = domain.split(".")
        names = [domain] + ["*." + ".".join(labels[at:]) for at in range(1, len(labels))] + ["*"]
        return next((self.routes[name] for name in names if name in self.routes), None)

    def source_of(self, slot: int) -> Source | None:
        """Find the source of a slot."""
        return self._by_slot.get(slot)

    def source_name(self, slot: int) -> str:
        """Name the source of a slot, or the slot where it has none any more."""
        source = self.source_of(slot)
        return source.name if source else f"slot {slot}"

    def smarthost(self, pool: str) -> str | None:
        """Name the smart host of a pool that is one; such a pool has no other source."""
        return self._smarthosts.get(pool)

    @cached_property
    def _by_slot(self) -> Mapping[int, Source]:
        return {source.slot: source for source in self.sources.values()}

    @cached_property
    def _smarthosts(self) -> Mapping[str, str]:
        return {
            pool.name: name
            for pool in self.pools.values()
            for name in pool.sources
            if name in self.sources and self.sources[name].kind == "smarthost"
        }
