"""What must fit together: names that must exist, slots and addresses that must differ, times that must leave room for each other.

Only what is sound by itself is compared: a source whose slot could not be read is not also said to share slot 0 with another.
"""

import ipaddress
from typing import Final

from shared.records.lanemap import group_of
from shared.runtime.defaults import PROVIDERS as SHIPPED
from shared.runtime.files import shown
from shared.runtime.limitrules import divided, limit_rows, slot_groups
from shared.runtime.settings import (
    Backoff,
    DkimKey,
    Pool,
    Provider,
    Settings,
    Source,
    Spill,
    Tenant,
)
from shared.runtime.table import Problems, exists, suggestion
from shared.runtime.workings import Ingest, Net, Timing

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: mail.dispatch keeps a grant for so long (``shared.records.topics``): one that nobody can read any more would hold its credit.
_LEASE_MAX_NS: Final = 3600 * 1_000_000_000
_LEASE_SAID: Final = "at most 1h: mail.dispatch keeps a grant no longer"
_DAY_NS: Final = 24 * 3600 * 1_000_000_000
#: RFC 5321 4.5.4.1: the give-up time is generally at least 4-5 days; nobody waits longer for mail.
_EXPIRES_MAX_NS: Final = 5 * _DAY_NS
#: RFC 5321 4.5.3.1.7: a message of 64K octets must be accepted.
_MESSAGE_LEAST: Final = 64 << 10
#: RFC 8314 3.3.
_IMPLICIT_TLS_PORT: Final = 465


def relate(settings: Settings, problems: Problems) -> None:
    """Add every relation that does not hold."""
    _kafka(settings, problems)
    _sources(settings, problems)
    _pools(settings, problems)
    for name, tenant in settings.tenants.items():
        _tenant(f"tenants.{shown(name)}", tenant, settings, problems)
    _classes(settings, problems)
    _providers(settings, problems)
    limit_rows(settings, problems)
    for pattern, route in settings.routes.items():
        if route.provider is not None:
            path = f"routes.{shown(pattern)}.provider"
            exists(path, "provider", route.provider, settings.providers, problems)
    for lane, partition in settings.lanes.items():
        _lane(f"lanes.{shown(lane)}", lane, partition, settings, problems)
    _timing(settings.timing, problems)
    _net(settings.net, problems)
    _backoff(settings.backoff, problems)
    _ingest(settings.ingest, problems)


def _kafka(settings: Settings, problems: Problems) -> None:
    kafka = settings.kafka
    known = problems.sound("kafka.min_insync", "kafka.replication")
    if known and kafka.min_insync > kafka.replication:
        problems.say(
            "kafka.min_insync",
            f"expected at most kafka.replication = {kafka.replication}, got {kafka.min_insync}",
        )


def _lane(path: str, lane: str, partition: int, settings: Settings, problems: Problems) -> None:
    base, numbered, group = lane.partition("@")
    kind, _, name = base.partition(":")
    groups = {group_of(each.slot) for each in settings.sources.values() if each.address} - {0}
    if numbered and (group not in map(str, groups) or kind == "smarthost"):
        known = ", ".join(f"@{each}" for each in sorted(groups)) or "none but the first, without @"
        problems.say(
            path, f"no source lies in this slot group (128 slots each); there are: {known}"
        )
    match kind:
        case "provider":
            exists(path, "provider", name, settings.providers, problems)
        case "smarthost":
            hosts = {s.name: s for s in settings.sources.values() if s.kind == "smarthost"}
            exists(path, "smart host", name, hosts, problems)
        case _:
            if kind != "site" or not name.isdecimal():
                problems.say(
                    path, "expected provider:NAME, smarthost:NAME or site:NUMBER as the lane"
                )
    most = settings.kafka.partitions
    if partition >= most and problems.sound(path, "kafka.partitions"):
        problems.say(
            path, f"expected at most {most - 1}, since kafka.partitions = {most}; got {partition}"
        )


# -- sources


def _sources(settings: Settings, problems: Problems) -> None:
    slots: dict[int, str] = {}
    addresses: dict[str, str] = {}
    ordinals: dict[tuple[int, str], str] = {}
    for name, source in settings.sources.items():
        path = f"sources.{shown(name)}"
        if source.warmup != "none":
            known = {**settings.warmups, "none": None}
            exists(f"{path}.warmup", "schedule", source.warmup, known, problems)
        if problems.sound(f"{path}.slot", f"{path}.kind"):
            _slot(f"{path}.slot", source, settings, slots, problems)
        if source.address and problems.sound(f"{path}.address"):
            if source.address in addresses:
                said = f"{source.address} is already the address of {addresses[source.address]}"
                problems.say(f"{path}.address", said)
            addresses.setdefault(source.address, name)
        _implicit_tls(path, source, problems)
        if source.kind == "direct" and problems.sound(f"{path}.ordinal", f"{path}.address"):
            here = source.ordinal, source.family
            if here in ordinals:
                said = f"sender {source.ordinal} is already that of {ordinals[here]}, and its connections have one address of a family"
                problems.say(f"{path}.ordinal", said)
            ordinals.setdefault(here, name)


def _implicit_tls(path: str, source: Source, problems: Problems) -> None:
    implicit = source.kind == "smarthost" and source.port == _IMPLICIT_TLS_PORT
    if implicit and source.tls == "opportunistic" and problems.sound(f"{path}.tls"):
        said = "port 465 speaks TLS from the first byte: expected encrypted or verified"
        problems.say(f"{path}.tls", said)


def _slot(
    path: str, source: Source, settings: Settings, slots: dict[int, str], problems: Problems
) -> None:
    count = settings.kafka.slots
    if source.slot >= count and problems.sound("kafka.slots"):
        problems.say(
            path, f"expected at most {count - 1}, since kafka.slots = {count}; got {source.slot}"
        )
    if source.slot in slots:
        problems.say(path, f"{source.slot} is already the slot of {slots[source.slot]}")
    slots.setdefault(source.slot, source.name)


def _pools(settings: Settings, problems: Problems) -> None:
    for name, pool in settings.pools.items():
        for source in pool.sources:
            path = f"pools.{shown(name)}.sources.{shown(source)}"
            exists(path, "source", source, settings.sources, problems)
            found = settings.sources.get(source)
            if found is not None and found.kind == "smarthost" and len(pool.sources) > 1:
                problems.say(
                    path,
                    "a smart host is a lane of its own: a pool that has one has no other source",
                )
        if pool.spill is not None and problems.sound(f"pools.{shown(name)}.spill"):
            _daily(f"pools.{shown(name)}.spill.daily", pool, pool.spill, settings, problems)
            _spill(f"pools.{shown(name)}.spill.to", pool, pool.spill, settings, problems)
        _one_group(name, pool, settings, problems)


def _spill(path: str, pool: Pool, spill: Spill, settings: Settings, problems: Problems) -> None:
    exists(path, "pool", spill.to, settings.pools, problems)
    other = settings.pools.get(spill.to)
    if other is None or not problems.sound(path):
        return
    users = [tenant for tenant in settings.tenants.values() if pool.name in tenant.pools.values()]
    if spill.to == pool.name:
        problems.say(path, "expected another pool")
    elif other.spill is not None:
        problems.say(path, f"{spill.to} spills over itself: mail must not go round")
    elif users and not any(tenant.may_use(spill.to) for tenant in users):
        said = f"no tenant of {pool.name} may use {spill.to}: name it in tenants.NAME.spill_to"
        problems.say(path, said)


def _daily(path: str, pool: Pool, spill: Spill, settings: Settings, problems: Problems) -> None:
    """Refuse an amount of which no slot group would have anything: nothing would ever spill, and nobody would be told."""
    groups = slot_groups(settings)
    if spill.daily < groups and settings.smarthost(pool.name) is None:
        problems.say(path, divided(groups, spill.daily))


def _one_group(name: str, pool: Pool, settings: Settings, problems: Problems) -> None:
    """Refuse what would be tied to a source in each of several slot groups: mail is spread over those by its recipient."""
    found = [settings.sources[source] for source in pool.sources if source in settings.sources]
    groups = {group_of(source.slot) for source in found}
    if pool.sticky in ("tenant", "domain") and len(groups) > 1:
        problems.say(
            f"pools.{shown(name)}.sticky",
            f'"{pool.sticky}" ties mail to one source, and those of this pool lie in slot groups '
            f'{", ".join(map(str, sorted(groups)))} (128 slots each): take sources of one, or "recipient"',
        )


# -- tenants and classes


def _tenant(path: str, tenant: Tenant, settings: Settings, problems: Problems) -> None:
    for class_, pool in tenant.pools.items():
        exists(f"{path}.pools.{class_}", "pool", pool, settings.pools, problems)
    for pool in tenant.spill_to:
        exists(f"{path}.spill_to", "pool", pool, settings.pools, problems)
    rows: dict[str, list[tuple[str, DkimKey]]] = {}
    for number, key in enumerate(tenant.dkim):
        row = f"{path}.dkim[{number}]"
        fits = any(d == key.domain or d.endswith(f".{key.domain}") for d in tenant.domains)
        if not fits and problems.sound(f"{row}.domain", f"{path}.domains"):
            said = f"{key.domain} is none of the tenant's domains, nor above one of them"
            problems.say(f"{row}.domain", said)
        if problems.sound(row):
            rows.setdefault(key.domain, []).append((row, key))
    for same in rows.values():
        _selectors(same, problems)
        if not tenant.unsigned:
            _gaps(same, problems)


def _selectors(rows: list[tuple[str, DkimKey]], problems: Problems) -> None:
    selectors: dict[str, str] = {}
    for path, key in rows:
        if key.until_ns is not None and key.until_ns <= key.from_ns:
            problems.say(f"{path}.until", "expected a moment after from")
        # One name in DNS has one public key: what the other row signs, nobody could verify.
        if key.selector in selectors:
            said = f"{key.selector} is already the selector of {selectors[key.selector]}"
            problems.say(f"{path}.selector", said)
        selectors.setdefault(key.selector, path)


def _gaps(rows: list[tuple[str, DkimKey]], problems: Problems) -> None:
    """Refuse a time between two keys of a domain in which none of them signs: mail would wait for its end."""
    ordered = sorted(rows, key=lambda row: row[1].from_ns)
    until: int | None = ordered[0][1].from_ns
    for path, key in ordered:
        if until is not None and key.from_ns > until:
            problems.say(f"{path}.from", f"nothing signs for {key.domain} just before it")
        until = None if until is None or key.until_ns is None else max(until, key.until_ns)


def _classes(settings: Settings, problems: Problems) -> None:
    for name, policy in settings.classes.items():
        path = f"classes.{name}.expires"
        if not problems.sound(path):
            continue
        if policy.expires_ns > _EXPIRES_MAX_NS:
            problems.say(path, "expected at most 5d")
        elif policy.expires_ns > settings.ingest.max_lifetime_ns:
            problems.say(path, "expected at most ingest.max_lifetime: bodies are kept no longer")


# -- destinations


def _providers(settings: Settings, problems: Problems) -> None:
    """Refuse a provider that no mail is of, or not all that its row says: a misspelt one's limits would hold for nobody."""
    routed = {route.provider for route in settings.routes.values()}
    earlier: list[Provider] = []
    for name, provider in settings.providers.items():
        path = f"providers.{shown(name)}"
        others = [each for each in settings.providers if each != name]
        if not provider.mx and not provider.domains and name not in routed | SHIPPED.keys():
            hint = suggestion(name, others, "there are")
            said = f"no mail is of it: expected mx, domains, or a route with it; {hint}"
            if problems.sound(path):
                problems.say(path, said)
        for before in earlier:
            _beside(path, provider, before, problems)
        earlier.append(provider)


def _beside(path: str, provider: Provider, before: Provider, problems: Problems) -> None:
    """Refuse what the provider before has already: of two that fit, the first is it."""
    for domain in sorted({*provider.domains} & {*before.domains}):
        problems.say(f"{path}.domains", f"{domain} is already a domain of {before.name}")
    for suffix in provider.mx:
        if suffix in before.mx or any(
            each.startswith(".") and suffix.endswith(each) for each in before.mx
        ):
            said = f"{suffix} is already {before.name}'s, by {', '.join(before.mx)}"
            problems.say(f"{path}.mx", said)


# -- times and bounds


def _timing(timing: Timing, problems: Problems) -> None:
    rules = (
        ("wait", "fresh skew", timing.wait_ns >= timing.fresh_ns + timing.skew_ns, "fresh + skew"),
        ("silence", "fresh", timing.silence_ns > timing.fresh_ns, "more than fresh"),
        ("fresh", "heartbeat", timing.fresh_ns >= 3 * timing.heartbeat_ns, "3 x heartbeat"),
        ("lease", "fresh", timing.lease_ns > timing.fresh_ns, "more than fresh"),
        ("lease", "total_window", timing.lease_ns >= timing.total_window_ns, "total_window"),
        ("lease", "", timing.lease_ns <= _LEASE_MAX_NS, _LEASE_SAID),
        ("attempt_max", "lease", timing.attempt_max_ns >= timing.lease_ns, "lease"),
        (
            "pair_pause_max",
            "pair_pause_first",
            timing.pair_pause_max_ns >= timing.pair_pause_first_ns,
            "pair_pause_first",
        ),
    )
    for key, others, holds, least in rules:
        known = problems.sound(*(f"timing.{name}" for name in (key, *others.split())))
        if known and not holds:
            word = "" if least.startswith(("more", "at most")) else "at least "
            problems.say(f"timing.{key}", f"expected {word}{least}")


def _net(net: Net, problems: Problems) -> None:
    denied = [ipaddress.ip_network(each) for each in net.deny]
    for number, each in enumerate(net.allow):
        network = ipaddress.ip_network(each)
        for other in denied:
            # Compared as they are: one of IPv4 lies in none of IPv6.
            if network.version == other.version and _lies_in(network, other):
                problems.say(
                    f"net.allow[{number}]", f"{each} lies in {other} of net.deny, which wins"
                )


def _lies_in(network: Network, other: Network) -> bool:
    return network[0] in other and network[-1] in other


def _backoff(backoff: Backoff, problems: Problems) -> None:
    for least, most in (
        ("hold", "hold_max"),
        ("suspend_first", "suspend_max"),
        ("memory", "forget"),
    ):
        low, high = (getattr(backoff, f"{name}_ns") for name in (least, most))
        if problems.sound(f"backoff.{least}", f"backoff.{most}") and high < low:
            problems.say(f"backoff.{most}", f"expected at least {least}")


def _ingest(ingest: Ingest, problems: Problems) -> None:
    if not problems.sound("ingest"):
        return
    if ingest.max_message < _MESSAGE_LEAST:
        problems.say("ingest.max_message", "expected at least 64KiB, which any message may have")
    most = Ingest().max_message
    if ingest.max_message > most:
        problems.say(
            "ingest.max_message",
            f"expected at most {most >> 20}MiB: a record with it must fit into a topic's max.message.bytes",
        )
    if ingest.inline_max > ingest.max_message:
        problems.say("ingest.inline_max", "expected at most ingest.max_message")
