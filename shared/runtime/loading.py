"""Reads the configuration: a TOML file, or a directory of them, checked as a whole.

All problems come at once, each with its path, what was expected and what was found; an unknown key is an error, since a misspelt limit
that is silently ignored sends too fast. What differs for each pod comes from the environment (``POSTYARD_…``); secrets are paths.
"""

import difflib
import ipaddress
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from shared.runtime import defaults, quantities
from shared.runtime.settings import (
    SLOTS_PER_GROUP,
    ClassPolicy,
    DkimKey,
    Dns,
    Http,
    Ingest,
    Kafka,
    LimitRow,
    Log,
    Net,
    Pool,
    Provider,
    Route,
    Scheduler,
    Sender,
    Settings,
    Source,
    Tenant,
    Timing,
    UnknownPolicy,
)

T = TypeVar("T")
_DAY_NS: Final = 24 * 3600 * 1_000_000_000
_MAX_EXPIRES_NS: Final = 5 * _DAY_NS
_PORT_MAX: Final = 65535


class SettingsError(Exception):
    """The configuration cannot be used; ``problems`` lists every reason, each with its path."""

    def __init__(self, problems: Sequence[str]) -> None:
        """Keep all of them."""
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def load(path: Path, env: Mapping[str, str]) -> Settings:
    """Read and check the configuration at ``path``; raises SettingsError."""
    problems: list[str] = []
    raw = _read(path, problems)
    table = _Table("", raw, problems)
    settings = _settings(table, env, path.parent if path.is_file() else path)
    if not problems:
        problems += _relations(settings)
    if problems:
        raise SettingsError(problems)
    return settings


def _read(path: Path, problems: list[str]) -> dict[str, Any]:
    files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
    if not files:
        problems.append(f"{path}: no *.toml file in this directory")
    merged: dict[str, Any] = {}
    for file in files:
        try:
            _merge(merged, tomllib.loads(file.read_text()), file.name, "", problems)
        except OSError as error:
            problems.append(f"{file}: cannot be read: {error.strerror}")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            problems.append(f"{file}: not TOML: {error}")
    return merged


def _merge(
    into: dict[str, Any], more: dict[str, Any], file: str, path: str, problems: list[str]
) -> None:
    for key, value in more.items():
        here = f"{path}.{key}" if path else key
        if key not in into:
            into[key] = value
        elif isinstance(into[key], dict) and isinstance(value, dict):
            _merge(into[key], value, file, here, problems)
        else:
            problems.append(f"{here}: said twice, the second time in {file}")


@dataclass(slots=True)
class _Table:
    """One TOML table, read key by key; what was not asked for is an unknown key."""

    path: str
    raw: Mapping[str, Any]
    problems: list[str]
    asked: list[str] = field(default_factory=list)

    def at(self, key: str) -> str:
        quoted = f'"{key}"' if not key.replace("-", "").replace("_", "").isalnum() else key
        return f"{self.path}.{quoted}" if self.path else quoted

    def say(self, key: str, what: str) -> None:
        self.problems.append(f"{self.at(key)}: {what}")

    def get(self, key: str, read: Callable[[Any], T], default: T) -> T:
        """Read a key, or give ``default``; ``read`` raises ValueError with what it expected."""
        self.asked.append(key)
        if key not in self.raw:
            return default
        try:
            return read(self.raw[key])
        except ValueError as error:
            self.say(key, str(error))
            return default

    def need(self, key: str, read: Callable[[Any], T], default: T) -> T:
        """Read a key that must be there."""
        if key not in self.raw:
            self.asked.append(key)
            self.say(key, "is required")
            return default
        return self.get(key, read, default)

    def table(self, key: str) -> "_Table":
        """Give a table inside this one; empty where there is none."""
        found: dict[str, Any] = self.get(key, _dict, dict[str, Any]())
        return _Table(self.at(key), found, self.problems)

    def tables(self, key: str) -> "list[tuple[str, _Table]]":
        """Give the named tables inside ``key``."""
        outer = self.table(key)
        return [(name, outer.table(name)) for name in outer.raw]

    def done(self) -> None:
        """Complain of what nobody asked for."""
        for key in self.raw:
            if key not in self.asked:
                near = difflib.get_close_matches(key, self.asked, 1)
                hint = (
                    f"; did you mean {near[0]}?"
                    if near
                    else f"; known here: {', '.join(sorted(self.asked))}"
                )
                self.say(key, f"unknown key{hint}")


# -- readers of single values


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected a table, got {_shown(value)}")
    return value


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a string, got {_shown(value)}")
    return value


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {_shown(value)}")
    return value


def _int(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"expected a number from {low} to {high}, got {_shown(value)}")
        return value

    return read


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"expected a share from 0 to 1, got {_shown(value)}")
    return float(value)


def _strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"expected a list of strings, got {_shown(value)}")
    return tuple(value)


def _duration(value: Any) -> int:
    return (
        quantities.duration_ns(value)
        if isinstance(value, str)
        else quantities.duration_ns(_shown(value))
    )


def _durations(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f'expected a list of durations such as ["5m", "1h"], got {_shown(value)}')
    return tuple(_duration(item) for item in value)


def _rate(value: Any) -> Any:
    return quantities.rate(value if isinstance(value, str) else _shown(value))


def _size(value: Any) -> int:
    return quantities.size_bytes(value if isinstance(value, str) else _shown(value))


def _one_of(*words: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if value not in words:
            raise ValueError(f"expected one of {', '.join(words)}, got {_shown(value)}")
        return value

    return read


def _address(value: Any) -> str:
    try:
        return str(ipaddress.ip_address(_str(value)))
    except ValueError:
        raise ValueError(f"expected an IP address, got {_shown(value)}") from None


def _network(value: Any) -> tuple[str, ...]:
    found = []
    for item in _strings(value):
        try:
            found.append(str(ipaddress.ip_network(item)))
        except ValueError:
            raise ValueError(f'expected networks such as "10.0.0.0/8", got "{item}"') from None
    return tuple(found)


def _host_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) <= _PORT_MAX:
        raise ValueError(f'expected host:port such as "127.0.0.1:2525", got "{text}"')
    return host.strip("[]"), int(port)


def _targets(value: Any) -> tuple[tuple[str, int], ...]:
    return tuple(
        _host_port(item) for item in ((value,) if isinstance(value, str) else _strings(value))
    )


# -- sections


def _settings(top: _Table, env: Mapping[str, str], base: Path) -> Settings:
    settings = Settings(
        kafka=_kafka(top.table("kafka"), env),
        sources={name: _source(name, table, base) for name, table in top.tables("sources")},
        pools={name: _pool(name, table) for name, table in top.tables("pools")},
        tenants={name: _tenant(name, table, base) for name, table in top.tables("tenants")},
        classes=_classes(top),
        providers=_providers(top),
        limits=_limits(top),
        routes=_routes(top.table("routes")),
        timing=_durations_of(top.table("timing"), Timing()),
        dns=_dns(top.table("dns")),
        net=_net(top.table("net")),
        http=_http(top.table("http"), env),
        ingest=_ingest(top.table("ingest")),
        scheduler=_scheduler(top.table("scheduler")),
        sender=_sender(top.table("sender")),
        log=_log(top.table("log")),
    )
    top.done()
    return settings


def _kafka(table: _Table, env: Mapping[str, str]) -> Kafka:
    base = Kafka()
    found = Kafka(
        bootstrap=env.get("POSTYARD_KAFKA_BOOTSTRAP")
        or table.get("bootstrap", _str, base.bootstrap),
        prefix=table.get("prefix", _str, base.prefix),
        partitions=table.get("partitions", _int(1, 1024), base.partitions),
        slots=table.get("slots", _int(1, 1 << 16), base.slots),
        replication=table.get("replication", _int(1, 9), base.replication),
        min_insync=table.get("min_insync", _int(1, 9), base.min_insync),
    )
    table.asked.append("bootstrap")
    if found.slots > SLOTS_PER_GROUP:
        table.say(
            "slots",
            f"a slot group has at most {SLOTS_PER_GROUP} slots, and there is one group; got {found.slots}",
        )
    if found.min_insync > found.replication:
        table.say("min_insync", f"cannot be more than replication = {found.replication}")
    table.done()
    return found


def _source(name: str, table: _Table, base: Path) -> Source:
    kind: Literal["bind", "smarthost"] = table.need("kind", _one_of("bind", "smarthost"), "bind")
    password = table.get("password_file", _str, "")
    found = Source(
        name=name,
        slot=table.need("slot", _int(0, SLOTS_PER_GROUP - 1), 0),
        kind=kind,
        # Schedules come with the warm-up policy; until then a source must say that it needs none.
        warmup=table.need("warmup", _one_of("none"), "none"),
        ehlo=table.need("ehlo", _str, "") if kind == "bind" else table.get("ehlo", _str, ""),
        address=table.need("address", _address, "") if kind == "bind" else "",
        host=table.need("host", _str, "") if kind == "smarthost" else "",
        port=table.get("port", _int(1, _PORT_MAX), 587),
        username=table.get("username", _str, ""),
        password_file=base / password if password else None,
        tls=table.get("tls", _one_of("opportunistic", "encrypted", "verified"), "encrypted"),
    )
    if found.username and found.password_file is None:
        table.say("password_file", "is required where there is a username")
    if found.password_file is not None and not found.password_file.is_file():
        table.say("password_file", f"no such file: {found.password_file}")
    table.done()
    return found


def _pool(name: str, table: _Table) -> Pool:
    sources = table.need("sources", _dict, dict[str, Any]())
    weights = {}
    inner = _Table(table.at("sources"), sources, table.problems)
    for source in sources:
        weights[source] = inner.get(source, _int(1, 1000), 1)
    if "sources" in table.raw and not sources:
        table.say("sources", "a pool needs at least one source")
    table.done()
    return Pool(name, weights)


def _tenant(name: str, table: _Table, base: Path) -> Tenant:
    pools = table.table("pools")
    keys = table.get("dkim", _dkim_tables, list[dict[str, Any]]())
    domains: tuple[str, ...] = table.need("domains", _strings, ())
    found = Tenant(
        name=name,
        domains=tuple(domain.lower().rstrip(".") for domain in domains),
        pools={class_: pools.need(class_, _str, "") for class_ in defaults.CLASSES},
        dkim=tuple(
            _dkim(_Table(f"{table.at('dkim')}[{at}]", key, table.problems), base)
            for at, key in enumerate(keys)
        ),
        unsigned=table.get("unsigned", _bool, False),
    )
    pools.done()
    for key in found.dkim:
        if not any(
            key.domain == domain or domain.endswith("." + key.domain) for domain in found.domains
        ):
            table.say("dkim", f"{key.domain} is not one of the tenant's domains, nor above one")
    table.done()
    return found


def _dkim_tables(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list of tables, got {_shown(value)}")
    return [_dict(item) for item in value]


def _dkim(table: _Table, base: Path) -> DkimKey:
    found = DkimKey(
        domain=table.need("domain", _str, "").lower(),
        selector=table.need("selector", _str, ""),
        key_file=base / table.need("key_file", _str, ""),
    )
    if not found.key_file.is_file():
        table.say("key_file", f"no such file: {found.key_file}")
    table.done()
    return found


def _classes(top: _Table) -> dict[str, ClassPolicy]:
    outer = top.table("classes")
    found = {}
    for name, base in defaults.CLASSES.items():
        table = outer.table(name)
        unknown = table.table("unknown")
        cap = unknown.get("retry", _cap, base.unknown.retry)
        policy = UnknownPolicy(
            policy=unknown.get(
                "policy", _one_of("retry", "hold", "assume_sent"), base.unknown.policy
            ),
            retry=cap,
            delay_ns=unknown.get("delay", _duration, base.unknown.delay_ns),
        )
        unknown.done()
        found[name] = ClassPolicy(
            name=name,
            retry=table.get("retry", _durations, base.retry),
            expires_ns=table.get("expires", _duration, base.expires_ns),
            unknown=policy,
            jitter=table.get("jitter", _share, base.jitter),
        )
        if found[name].expires_ns > _MAX_EXPIRES_NS:
            table.say("expires", "at most 5d after not_before")
        table.done()
    outer.done()
    return found


def _cap(value: Any) -> int | None:
    return None if value == "always" else _int(0, 1000)(value)


def _providers(top: _Table) -> dict[str, Provider]:
    found = dict(defaults.PROVIDERS)
    for name, table in top.tables("providers"):
        base = found.get(name, Provider(name))
        found[name] = Provider(
            name=name,
            mx=tuple(suffix.lower() for suffix in table.get("mx", _strings, base.mx)),
            domains=tuple(
                domain.lower() for domain in table.get("domains", _strings, base.domains)
            ),
            tls=table.get("tls", _one_of("opportunistic", "encrypted", "verified"), base.tls),
            families=table.get("families", _strings, base.families),
        )
        if not found[name].families or set(found[name].families) - {"v4", "v6"}:
            table.say("families", 'expected "v4", "v6" or both')
        table.done()
    return found


def _limits(top: _Table) -> dict[str, LimitRow]:
    found = dict(defaults.LIMITS)
    for name, table in top.tables("limits"):
        base = found.get(name, LimitRow())
        found[name] = LimitRow(
            connections=table.get("connections", _int(1, 10_000), base.connections),
            messages_per_connection=table.get(
                "messages_per_connection", _int(1, 1 << 30), base.messages_per_connection
            ),
            rate=table.get("rate", _rate, base.rate),
            total_rate=table.get("total_rate", _rate, base.total_rate),
            total_connections=table.get(
                "total_connections", _int(1, 100_000), base.total_connections
            ),
        )
        if "/" in name and (found[name].total_rate or found[name].total_connections):
            table.say(
                "total_rate",
                "a total counts over all sources: it belongs to the provider, not to one source of it",
            )
        table.done()
    return found


def _routes(table: _Table) -> dict[str, Route]:
    found = {}
    for pattern in table.raw:
        inner = table.table(pattern)
        found[pattern.lower()] = Route(
            pattern=pattern.lower(),
            to=inner.need("to", _targets, ()),
            provider=inner.get("provider", _str, ""),
        )
        if not found[pattern.lower()].provider:
            found[pattern.lower()] = replace(found[pattern.lower()], provider=None)
        inner.done()
    return found


def _durations_of(table: _Table, base: Timing) -> Timing:
    values = {}
    for name in Timing.__slots__:
        key = name.removesuffix("_ns")
        values[name] = table.get(key, _duration, getattr(base, name))
    table.done()
    return Timing(**values)


def _dns(table: _Table) -> Dns:
    base = Dns()
    found = Dns(
        nameservers=table.get("nameservers", _strings, base.nameservers),
        port=table.get("port", _int(1, _PORT_MAX), base.port),
        timeout_ns=table.get("timeout", _duration, base.timeout_ns),
    )
    table.done()
    return found


def _net(table: _Table) -> Net:
    found = Net(allow=table.get("allow", _network, ()))
    table.done()
    return found


def _http(table: _Table, env: Mapping[str, str]) -> Http:
    base = Http()
    port = table.get("port", _int(0, _PORT_MAX), base.port)
    ours = env.get("POSTYARD_HTTP_PORT")
    if ours:
        try:
            port = _int(0, _PORT_MAX)(int(ours))
        except ValueError:
            table.problems.append(f'POSTYARD_HTTP_PORT: expected a port, got "{ours}"')
    found = Http(host=table.get("host", _str, base.host), port=port)
    table.done()
    return found


def _ingest(table: _Table) -> Ingest:
    base = Ingest()
    found = Ingest(
        inline_max=table.get("inline_max", _size, base.inline_max),
        max_message=table.get("max_message", _size, base.max_message),
        max_lifetime_ns=table.get("max_lifetime", _duration, base.max_lifetime_ns),
        max_recipients=table.get("max_recipients", _int(1, 100_000), base.max_recipients),
    )
    if found.max_message > base.max_message:
        table.say(
            "max_message",
            "at most 25MiB: a record with it must fit into the topics' max.message.bytes",
        )
    table.done()
    return found


def _scheduler(table: _Table) -> Scheduler:
    base = Scheduler()
    found = Scheduler(
        max_waiting=table.get("max_waiting", _int(10, 10_000_000), base.max_waiting),
        body_cache_bytes=table.get("body_cache", _size, base.body_cache_bytes),
        straggler_span=table.get("straggler_span", _int(10, 1 << 40), base.straggler_span),
    )
    table.done()
    return found


def _sender(table: _Table) -> Sender:
    base = Sender()
    found = Sender(
        signers=table.get("signers", _int(1, 64), base.signers),
        body_cache_bytes=table.get("body_cache", _size, base.body_cache_bytes),
        idle_ns=table.get("idle", _duration, base.idle_ns),
        connect_timeout_ns=table.get("connect_timeout", _duration, base.connect_timeout_ns),
        dot_timeout_ns=table.get("dot_timeout", _duration, base.dot_timeout_ns),
        command_timeout_ns=table.get("command_timeout", _duration, base.command_timeout_ns),
        grace_ns=table.get("grace", _duration, base.grace_ns),
    )
    table.done()
    return found


def _log(table: _Table) -> Log:
    found = Log(
        level=table.get("level", _one_of("debug", "info", "warning", "error"), "info"),
        recipients=table.get("recipients", _bool, False),
    )
    table.done()
    return found


# -- what must fit together


def _relations(settings: Settings) -> list[str]:
    return [
        *_source_relations(settings),
        *_pool_relations(settings),
        *_limit_relations(settings),
        *_timing_relations(settings.timing),
    ]


def _source_relations(settings: Settings) -> list[str]:
    problems, slots, addresses = [], dict[int, str](), dict[str, str]()
    for name, source in settings.sources.items():
        if source.slot >= settings.kafka.slots:
            problems.append(
                f"sources.{name}.slot: kafka.slots is {settings.kafka.slots}, so the highest slot is {settings.kafka.slots - 1}"
            )
        if source.slot in slots:
            problems.append(
                f"sources.{name}.slot: {source.slot} is already the slot of {slots[source.slot]}"
            )
        slots[source.slot] = name
        if source.address and source.address in addresses:
            problems.append(
                f"sources.{name}.address: {source.address} is already that of {addresses[source.address]}"
            )
        if source.address:
            addresses[source.address] = name
    return problems


def _pool_relations(settings: Settings) -> list[str]:
    problems = []
    for name, pool in settings.pools.items():
        for source in pool.sources:
            if source not in settings.sources:
                problems.append(f"pools.{name}.sources.{source}: no such source")
            elif settings.sources[source].kind == "smarthost" and len(pool.sources) > 1:
                problems.append(
                    f"pools.{name}.sources.{source}: a smart host is a lane of its own, so its pool has no other source"
                )
    for name, tenant in settings.tenants.items():
        problems += [
            f"tenants.{name}.pools.{class_}: no such pool: {pool}"
            for class_, pool in tenant.pools.items()
            if pool not in settings.pools
        ]
    for pattern, route in settings.routes.items():
        if route.provider is not None and route.provider not in settings.providers:
            problems.append(f'routes."{pattern}".provider: no such provider: {route.provider}')
    return problems


def _limit_relations(settings: Settings) -> list[str]:
    problems = []
    addresses = sum(1 for source in settings.sources.values() if source.kind == "bind")
    for name, row in settings.limits.items():
        _, slash, source = name.partition("/")
        if slash and source not in settings.sources:
            problems.append(f'limits."{name}": no such source: {source}')
        if row.total_connections is not None and row.total_connections < addresses:
            problems.append(
                f"limits.{name}.total_connections: every one of the {addresses} sources needs at least one"
            )
    return problems


def _timing_relations(timing: Timing) -> list[str]:
    rules = (
        (
            timing.wait_ns >= timing.fresh_ns + timing.skew_ns,
            "wait",
            "must be at least fresh + skew",
        ),
        (timing.silence_ns > timing.fresh_ns, "silence", "must be more than fresh"),
        (timing.fresh_ns >= 3 * timing.heartbeat_ns, "fresh", "must be at least three heartbeats"),
        (timing.lease_ns > timing.fresh_ns, "lease", "must be more than fresh"),
        (
            timing.pair_pause_max_ns >= timing.pair_pause_first_ns,
            "pair_pause_max",
            "must be at least pair_pause_first",
        ),
        (timing.attempt_max_ns >= timing.lease_ns, "attempt_max", "must be at least lease"),
    )
    return [f"timing.{name}: {what}" for holds, name, what in rules if not holds]
