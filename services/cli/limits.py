"""`postyard limits show`: which limits hold for mail to a destination, and which layer each value comes from.

Nothing is asked of Kafka, but for the orders of operators with ``--orders``: this is what the configuration says. What a destination's
answers have made of it since (back-off) is asked of the schedulers with ``--learnt``.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from msgspec import to_builtins

from services.cli import learnt
from services.cli.selecting import known
from services.cli.session import config_option, read_control, settings_of, talk
from shared.records.answers import Learnt
from shared.records.control import Directive
from shared.runtime import defaults
from shared.runtime.clock import SystemClock
from shared.runtime.layers import FIELDS, Part, Said, narrower, resolve, shipped, unknown
from shared.runtime.overruling import overruled, tenants
from shared.runtime.quantities import rate_text
from shared.runtime.settings import LimitRow, Rate, Settings
from shared.runtime.table import suggestion

#: What counts over all sources together; everything else counts for each.
_OVER_ALL: Final = ("total_rate", "total_connections")


@click.group()
def limits() -> None:
    """Show the limits that hold, and where each comes from."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One line of the answer."""

    field: str
    value: int | Rate | None
    layer: str
    row: str
    #: Whose mail, where it is not everybody's.
    of: str = ""
    #: Where a shipped figure is from.
    source: str = ""
    shipped: bool = False

    @property
    def text(self) -> str:
        """The value as it is written in the configuration."""
        if self.value is None:
            return "none"
        return rate_text(self.value) if isinstance(self.value, Rate) else str(self.value)

    @property
    def origin(self) -> str:
        """Where it comes from, for people."""
        if self.value is None:
            return ""
        if self.layer == "directive":
            return f"directive: {self.row}"
        where = f"[limits.{self.row}]" if self.row.isidentifier() else f'[limits."{self.row}"]'
        said = f"{self.layer}: {'shipped' if self.shipped else where}"
        return f"{said}, {self.source}" if self.source else said


@limits.command()
@click.argument("key", metavar="DESTINATION")
@click.option("--source", default="", metavar="NAME", help="From this source.")
@click.option("--pool", default="", metavar="NAME", help="From each source of this pool.")
@click.option("--site", default="", metavar="MX,…", help="To this site of the provider.")
@click.option("--tenant", default="", metavar="NAME", help="This tenant's mail.")
@click.option("--domain", default="", metavar="NAME", help="Mail of this sending domain.")
@click.option(
    "--orders",
    is_flag=True,
    help="With what operators have ordered (limit, slow), out of mail.control.",
)
@click.option(
    "--learnt",
    "taught",
    is_flag=True,
    help="With what the destination's warnings have left of it, as the schedulers know.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, one object for each value.")
@config_option
def show(
    path: Path,
    key: str,
    source: str,
    pool: str,
    site: str,
    tenant: str,
    domain: str,
    *,
    orders: bool,
    taught: bool,
    as_json: bool,
) -> None:
    """Print each limit of mail to DESTINATION with the layer that it comes from.

    DESTINATION is a provider, smarthost:NAME, or a site: its MX hosts, sorted, with commas. A limit holds for each source, a
    total over all of them. What a tenant, a sending domain or a site of the provider adds is printed behind it, since it
    counts by itself.

    Example: postyard limits show gmail --source ip-1 --learnt
    """
    settings = settings_of(path)
    _known(settings, key, source, pool, tenant)
    part = Part(site, tenant, domain)
    sources = [source] if source or not pool else list(settings.pools[pool].sources)
    ordered = _ordered(settings) if orders else []
    said = learnt.learnt(settings, key) if taught else None
    about = (
        [] if said is None else [row for row in learnt.rows(said) if _about(row, sources, domain)]
    )
    if as_json:
        found = [
            {"source": name or None, **_record(line)}
            for name in sources
            for line in answer(settings, key, name, part, ordered)
        ]
        found += [{"source": row.source or None, "learnt": to_builtins(row)} for row in about]
        click.echo(json.dumps(found, indent=2))
    else:
        for name in sources:
            if len(sources) > 1:
                click.echo(f"{name}:")
            for text in table(list(answer(settings, key, name, part, ordered))):
                click.echo(text)
        if said is not None:
            click.echo("learnt:" if about else "learnt: nothing that is less than this")
            for row in about:
                click.echo(f"  {learnt.told(row)}")
    if said is not None:
        said.warn()
        if said.missing:
            raise SystemExit(1)


def _about(row: Learnt, sources: Sequence[str], domain: str) -> bool:
    """Say whether what was learnt is of what is shown: one that names no source is shown all."""
    if row.domain:
        return domain in ("", row.domain)
    return not any(sources) or row.source in sources


def _ordered(settings: Settings) -> list[Directive]:
    """Read what operators have ordered of limits."""
    view = talk(settings, lambda cluster: read_control(cluster, settings))
    standing = view.standing(SystemClock().now_ns())
    return [order for order in standing if order.action in ("limit", "slow")]


def answer(
    settings: Settings, key: str, source: str, part: Part, orders: Sequence[Directive] = ()
) -> Iterator[Shown]:
    """Say what holds for a pair, then what counts by itself for a part of its mail."""
    above, ordered = overruled(orders, key, source), tenants(settings, orders)
    layers = resolve(settings, key, source, order=above.order)
    found, slowed = layers.said, above.slowed(layers.limit())
    for field in FIELDS:
        if field != "start_rate" or unknown(settings, key):
            said = found.get(field)
            left = getattr(slowed, field)
            if said is not None and left != said.value:
                why = f"slow to {above.percent}% of {said.layer} {said.row}"
                said = Said(left, "directive", why)
            yield _shown(field, said)
    for layer, name in narrower(settings, key, part):
        row = settings.limits.get(name, LimitRow())
        if name in ordered:
            rate, ids = ordered[name]
            yield _shown("total_rate", Said(rate, "directive", ids), f"{layer} {part.tenant}")
            continue
        whose = {"site": part.site, "tenant": part.tenant, "domain": part.domain}[layer]
        for field in FIELDS:
            if getattr(row, field) is not None:
                yield _shown(field, Said(getattr(row, field), layer, name), f"{layer} {whose}")


def _shown(field: str, said: Said | None, of: str = "") -> Shown:
    if said is None:
        return Shown(field, None, "", "", of)
    ours = shipped(defaults.LIMITS, said.row, field, said.value)
    source = defaults.SOURCES.get(said.row, {}).get(field, "") if ours else ""
    return Shown(field, said.value, said.layer, said.row, of, source, ours)


def table(lines: list[Shown]) -> list[str]:
    """Lay the answer out in columns."""
    names = [f"{line.field} ({_scope(line)})" for line in lines]
    width = max(map(len, names))
    value = max(len(line.text) for line in lines)
    return [
        f"{name:<{width}}  {line.text:<{value}}  {line.origin}".rstrip()
        for name, line in zip(names, lines, strict=True)
    ]


def _scope(line: Shown) -> str:
    counts = "all sources" if line.field in _OVER_ALL else "each source"
    return f"{line.of}, {counts}" if line.of else counts


def _record(line: Shown) -> dict[str, object]:
    value = line.text if isinstance(line.value, Rate) else line.value
    return {
        "field": line.field,
        "value": value,
        "layer": line.layer or None,
        "row": line.row or None,
        "of": line.of or None,
        "shipped": line.shipped,
        "figure_from": line.source or None,
    }


def _known(settings: Settings, key: str, source: str, pool: str, tenant: str) -> None:
    """Refuse a name that the configuration does not have: it would be answered with the default's."""
    smarthosts = {f"smarthost:{s.name}": s for s in settings.sources.values() if s.host}
    destinations = {**settings.providers, **smarthosts}
    if key not in destinations and "." not in key and "," not in key:
        raise click.BadParameter(
            f"no such destination: {key}; {suggestion(key, destinations, 'there are')}; a site is written as its MX hosts with commas",
            param_hint="DESTINATION",
        )
    for kind, name, names in (
        ("source", source, settings.sources),
        ("pool", pool, settings.pools),
        ("tenant", tenant, settings.tenants),
    ):
        known(kind, name or None, names)
    if source and pool and source not in settings.pools[pool].sources:
        raise click.BadParameter(f"{source} is not in the pool {pool}", param_hint="--source")
