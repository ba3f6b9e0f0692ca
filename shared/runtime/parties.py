"""Reads who sends and to whom: sources, pools, tenants, classes, providers, limits, routes.

What is shipped (``shared.runtime.defaults``) is the ground that a configuration lays its fields on, each alone. Whether what these sections
name exists is for ``shared.runtime.relations``, which sees all of them. Files that hold secrets are only named here: a service that needs
none of them does not have them either.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from shared.runtime import defaults, rows, urls, values, windows
from shared.runtime.settings import (
    MOST_SLOTS,
    RELAXED,
    ClassPolicy,
    DkimKey,
    LimitRow,
    Pool,
    Provider,
    Proxy,
    Route,
    Source,
    Spill,
    Stream,
    Tenant,
    UnknownPolicy,
)
from shared.runtime.table import Table
from shared.runtime.warmups import LEAST_A_DAY, MOST_DAYS, SHIPPED, Warmup, geometric
from shared.runtime.windows import Window

T = TypeVar("T")
#: Of a tenant, or of a stream: a turn is as long, and everybody waits for all turns.
_WEIGHT: Final = values.number(1, 100)
_MOST_A_DAY: Final = 100_000_000
#: A day has at most 1.4 times the best before it, whatever a schedule says.
_GROWTH: Final = 1.4


def _named(top: Table, key: str, read: Callable[[str, Table], T]) -> dict[str, T]:
    """Read the tables inside ``key``; their names are names of ours."""
    found = {}
    for name, table in top.tables(key):
        try:
            values.name(name)
        except ValueError as error:
            top.problems.say(table.path, str(error))
        found[name] = read(name, table)
        table.done()
    return found


# -- sources and pools


def sources(top: Table, base: Path) -> dict[str, Source]:
    """Read the sources; paths are relative to ``base``."""
    return _named(top, "sources", lambda name, table: _source(name, table, base))


def _source(name: str, table: Table, base: Path) -> Source:
    kind: Any = table.need("kind", values.one_of("bind", "proxy", "direct", "smarthost"), "")
    slot = table.need("slot", values.number(0, MOST_SLOTS - 1), 0)
    warmup = table.need("warmup", _warmup, "none")
    if kind in ("bind", "proxy", "direct"):
        source = Source(
            name,
            slot,
            kind,
            warmup,
            ehlo=table.need("ehlo", values.ehlo, ""),
            address=table.need("address", values.address, ""),
        )
        return _placed(table, base, source)
    if kind == "smarthost":
        return _smarthost(table, base, Source(name, slot, kind, warmup))
    # Its kind is not known, so neither is what else it may say.
    table.asked += table.raw
    return Source(name, slot, "bind", warmup)


def _placed(table: Table, base: Path, source: Source) -> Source:
    """Read what an address of one's own needs beside itself."""
    if source.kind == "direct":
        return replace(source, ordinal=table.need("ordinal", values.ordinal, 0))
    if source.kind == "bind":
        return source
    password = table.get("password_file", values.text, "")
    via: tuple[Proxy, ...] = table.need("via", urls.proxies, ())
    if via and any(proxy.username for proxy in via) != bool(password):
        table.say("password_file", "belongs to the users in via: both or neither")
    return replace(source, via=via, password_file=base / password if password else None)


def _smarthost(table: Table, base: Path, source: Source) -> Source:
    username = table.get("username", values.text, "")
    password = table.get("password_file", values.text, "")
    if username and "password_file" not in table.raw:
        table.say("password_file", "is required where there is a username")
    if password and "username" not in table.raw:
        table.say("username", "is required where there is a password_file")
    return Source(
        source.name,
        source.slot,
        source.kind,
        source.warmup,
        ehlo=table.get("ehlo", values.ehlo, ""),
        host=table.need("host", values.host, ""),
        port=table.get("port", values.port, source.port),
        username=username,
        password_file=base / password if password else None,
        tls=table.get("tls", rows.TLS, source.tls),
    )


def _warmup(value: Any) -> str:
    # A source without the key, or with a slip in it, must not send as if it were warm.
    return values.name(value)


def warmups(top: Table) -> dict[str, Warmup]:
    """Read the warm-up schedules, beside those that are shipped."""

    def read(name: str, table: Table) -> Warmup:
        if name == "none":
            top.problems.say(table.path, "this name means that nothing is warmed up")
        base = SHIPPED.get(name, Warmup(name, ()))
        read = table.get if base.days else table.need
        days: tuple[int, ...] = read("days", _days, base.days)
        return Warmup(
            name=name,
            days=days,
            hours=table.get("hours", values.number(0, 24), base.hours),
            first=table.get("first", values.texts, base.first),
        )

    return {**SHIPPED, **_named(top, "warmups", read)}


def _days(value: Any) -> tuple[int, ...]:
    """Read a list of budgets, or ``{ from = 100, growth = 1.3, to = 50000 }``."""
    if isinstance(value, dict):
        return _growing(value)
    read = values.number(LEAST_A_DAY, _MOST_A_DAY)
    if not isinstance(value, list) or not value:
        raise ValueError(f"expected budgets such as [300, 390, 510], got {values.shown(value)}")
    if len(value) > MOST_DAYS:
        raise ValueError(f"expected at most {MOST_DAYS} days, got {len(value)}")
    days = tuple(read(item) for item in value)
    if list(days) != sorted(days):
        raise ValueError("expected no day with less than the one before")
    return days


def _growing(value: dict[str, Any]) -> tuple[int, ...]:
    if set(value) != {"from", "growth", "to"}:
        raise ValueError("expected { from = 100, growth = 1.3, to = 50000 }")
    growth = value["growth"]
    if isinstance(growth, bool) or not isinstance(growth, int | float) or not 1 < growth <= _GROWTH:
        raise ValueError(
            f"expected a growth above 1 and at most {_GROWTH}, got {values.shown(growth)}"
        )
    first = values.number(LEAST_A_DAY, _MOST_A_DAY)(value["from"])
    return geometric(first, growth, values.number(first, _MOST_A_DAY)(value["to"]))


def pools(top: Table) -> dict[str, Pool]:
    """Read the pools."""
    return _named(top, "pools", _pool)


def _pool(name: str, table: Table) -> Pool:
    given = "sources" in table.raw
    raw: dict[str, Any] = table.need("sources", values.table, dict[str, Any]())
    inner = Table(table.at("sources"), raw, table.problems)
    weights = {source: inner.get(source, values.number(1, 1000), 1) for source in inner.raw}
    if given and not weights and table.problems.sound(inner.path):
        table.say("sources", "expected at least one source, such as { ip-1 = 1 }")
    sticky: Any = table.get(
        "sticky", values.one_of("none", "tenant", "domain", "recipient"), "none"
    )
    return Pool(name, weights, sticky, _spill(table.table("spill")))


def _spill(table: Table) -> Spill | None:
    if not table.raw:
        return None
    found = Spill(
        to=table.need("to", values.text, ""),
        after_ns=table.need("after", values.some_time, 0),
        daily=table.need("daily", values.number(1, 100_000_000), 0),
        share=table.get("share", values.part_or_all, 1.0),
    )
    table.done()
    return found


# -- tenants and classes


def tenants(top: Table, base: Path) -> dict[str, Tenant]:
    """Read the tenants; paths are relative to ``base``."""
    return _named(top, "tenants", lambda name, table: _tenant(name, table, base))


def _tenant(name: str, table: Table, base: Path) -> Tenant:
    given: tuple[str, ...] = table.need("domains", values.domains, ())
    if "domains" in table.raw and not given and table.problems.sound(table.at("domains")):
        table.say("domains", "expected at least one domain")
    chosen = {}
    if "pools" in table.raw:
        inner = table.table("pools")
        chosen = {class_: inner.need(class_, values.text, "") for class_ in defaults.CLASSES}
        inner.done()
    else:
        table.need("pools", values.table, dict[str, Any]())
    return Tenant(
        name=name,
        domains=given,
        pools=chosen,
        dkim=tuple(_dkim(row, base) for row in table.rows("dkim")),
        unsigned=table.get("unsigned", values.flag, False),
        tls=table.get("tls", rows.TLS, "opportunistic"),
        weight=table.get("weight", _WEIGHT, 1),
        streams={stream: _stream(row) for stream, row in table.tables("streams")},
        windows=_windows(table.table("windows")),
        spill_to=table.get("spill_to", values.texts, ()),
    )


def _windows(table: Table) -> dict[str, Window]:
    found = {class_: table.get(class_, windows.window, None) for class_ in defaults.CLASSES}
    table.done()
    return {class_: window for class_, window in found.items() if window is not None}


def _stream(table: Table) -> Stream:
    found = Stream(
        weight=table.get("weight", _WEIGHT, 1),
        window=table.get("window", windows.window, None),
    )
    table.done()
    return found


def _dkim(table: Table, base: Path) -> DkimKey:
    found = DkimKey(
        domain=table.need("domain", values.domain, ""),
        selector=table.need("selector", values.domain, ""),
        key_file=base / table.need("key_file", values.text, ""),
        canonicalization=table.get("canonicalization", values.canonicalization, RELAXED),
        from_ns=table.get("from", values.moment, 0),
        until_ns=table.get("until", values.moment, None),
    )
    table.done()
    return found


def classes(top: Table) -> dict[str, ClassPolicy]:
    """Read the policies of the classes; there are these two, and no more."""
    outer = top.table("classes")
    found = {name: _class(outer.table(name), base) for name, base in defaults.CLASSES.items()}
    outer.done()
    return found


def _class(table: Table, base: ClassPolicy) -> ClassPolicy:
    unknown = table.table("unknown")
    policy = UnknownPolicy(
        policy=unknown.get(
            "policy", values.one_of("retry", "hold", "assume_sent"), base.unknown.policy
        ),
        retry=unknown.get("retry", values.cap, base.unknown.retry),
        delay_ns=unknown.get("delay", values.duration, base.unknown.delay_ns),
    )
    unknown.done()
    for key in ("retry", "delay"):
        if key in unknown.raw and policy.policy != "retry":
            unknown.say(key, f'it belongs to policy = "retry", and this is "{policy.policy}"')
    found = ClassPolicy(
        name=base.name,
        retry=table.get("retry", values.durations, base.retry),
        expires_ns=table.get("expires", values.some_time, base.expires_ns),
        unknown=policy,
        jitter=table.get("jitter", values.share, base.jitter),
        urgent_ns=table.get("urgent", values.duration, base.urgent_ns),
        window=table.get("window", windows.window, base.window),
    )
    table.done()
    return found


# -- destinations


def providers(top: Table) -> dict[str, Provider]:
    """Read the providers, on the ground of those that are shipped."""

    def read(name: str, table: Table) -> Provider:
        base = defaults.PROVIDERS.get(name, Provider(name))
        if name in ("default", "other"):
            top.problems.say(table.path, "this name means every destination without a provider")
        return rows.provider_row(table, base)

    return {**defaults.PROVIDERS, **_named(top, "providers", read)}


def limits(top: Table) -> dict[str, LimitRow]:
    """Read the limits, on the ground of those that are shipped."""
    found = dict(defaults.LIMITS)
    for name, table in top.tables("limits"):
        found[name] = rows.limit_row(table, found.get(name, LimitRow()))
        table.done()
    return found


def routes(top: Table) -> dict[str, Route]:
    """Read the routes."""
    found: dict[str, Route] = {}
    for written, table in top.tables("routes"):
        try:
            pattern = values.pattern(written)
        except ValueError as error:
            top.problems.say(table.path, str(error))
            pattern = written
        if pattern in found:
            top.problems.say(table.path, f"said twice: it is {pattern} once more")
        found[pattern] = Route(
            pattern=pattern,
            to=table.need("to", values.targets, ()),
            provider=table.get("provider", values.text, None),
        )
        table.done()
    return found
