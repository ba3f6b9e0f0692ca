"""Says which limits hold where, and which layer each of their fields comes from. Pure.

    default -> provider, site or smart host -> its pool -> its source -> site of the provider -> tenant -> sending domain -> directive

Each field is taken alone, from the last layer that says it. The first four and the directive say what one (limit key, source) pair does,
and a later one replaces an earlier. A site of a provider, a tenant and a sending domain are parts of a pair's mail: their rows count by
themselves, beside the pair's, so they can only lower. A source that is in several pools keeps the strictest of their rows: its address
has one reputation, whoever sends from it.

``start_rate`` is for destinations that nobody knows: a site that is no provider's and no route's, in whose row nobody has said a rate.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Final, Literal

from shared.runtime.settings import Limit, LimitRow, Rate, Settings

Layer = Literal[
    "default",
    "provider",
    "smarthost",
    "pool",
    "source",
    "site",
    "tenant",
    "domain",
    "directive",
]
FIELDS: Final = tuple(each.name for each in fields(LimitRow))
NOTHING: Final = LimitRow()


@dataclass(frozen=True, slots=True)
class Said:
    """One value, and the row that says it."""

    value: int | Rate
    layer: Layer
    #: As it is written in [limits]; of a directive its id.
    row: str


@dataclass(frozen=True, slots=True)
class Order:
    """What a standing directive says of limits; ``id`` is the directive's."""

    id: str
    row: LimitRow


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a pair's mail: what comes from a tenant or a sending domain, or goes to one site of a provider."""

    site: str = ""
    tenant: str = ""
    domain: str = ""


WHOLE: Final = Part()


@dataclass(slots=True)
class Layers:
    """What holds, field by field."""

    said: dict[str, Said] = field(default_factory=dict)

    def limit(self) -> Limit:
        """Give the values alone."""
        values = {name: said.value for name, said in self.said.items()}
        return Limit(**values)  # type: ignore[arg-type]

    def lay(self, layer: Layer, name: str, row: LimitRow) -> None:
        """Let ``row`` replace what it says."""
        for which, value in _of(row):
            self.said[which] = Said(value, layer, name)

    def lower(self, layer: Layer, name: str, row: LimitRow) -> None:
        """Let ``row`` replace what it says where it is stricter."""
        for which, value in _of(row):
            before = self.said.get(which)
            if before is None or stricter(value, before.value):
                self.said[which] = Said(value, layer, name)


def resolve(
    settings: Settings,
    key: str,
    source: str = "",
    part: Part = WHOLE,
    order: Order | None = None,
) -> Layers:
    """Say what holds for a limit key from one source (empty: from one that no row names), or for a part of that mail."""
    found, rows = Layers(), settings.limits
    found.lay("default", "default", rows.get("default", NOTHING))
    found.lay(_layer(settings, key), key, rows.get(key, NOTHING))
    pools = Layers()
    for pool in settings.pools.values():
        if source in pool.sources:
            name = f"{key}/pool:{pool.name}"
            pools.lower("pool", name, rows.get(name, NOTHING))
    found.said |= pools.said
    found.lay("source", f"{key}/{source}", rows.get(f"{key}/{source}", NOTHING))
    if not unknown(settings, key):
        found.said.pop("start_rate", None)
    for layer, name in narrower(settings, key, part):
        found.lower(layer, name, rows.get(name, NOTHING))
    if order is not None:
        found.lay("directive", order.id, order.row)
    return found


def narrower(settings: Settings, key: str, part: Part) -> Iterator[tuple[Layer, str]]:
    """Name the rows that may say something of a part of a key's mail."""
    if part.site and part.site != key and key in settings.providers:
        yield "site", part.site
    if part.tenant:
        yield "tenant", f"tenant:{part.tenant}"
        yield "tenant", f"{key}/tenant:{part.tenant}"
    if part.domain:
        yield "domain", f"{key}/domain:{part.domain}"


def unknown(settings: Settings, key: str) -> bool:
    """Say whether nobody has said anything of ``key``: it is no provider, no smart host and no route, and has no rate of its own."""
    row = settings.limits.get(key, NOTHING)
    if _layer(settings, key) != "site" or (row.rate is not None and row.start_rate is None):
        return False
    return all(key != route.site for route in settings.routes.values())


def stricter(one: int | Rate, other: int | Rate) -> bool:
    """Say whether ``one`` allows less than ``other``, in the long run."""
    if isinstance(one, Rate) and isinstance(other, Rate):
        return one.count * other.period_ns < other.count * one.period_ns
    if isinstance(one, int) and isinstance(other, int):
        return one < other
    raise TypeError(f"a number and a rate cannot be compared: {one}, {other}")


def _layer(settings: Settings, key: str) -> Layer:
    if key.startswith("smarthost:"):
        return "smarthost"
    return "provider" if key in settings.providers else "site"


def _of(row: LimitRow) -> Iterator[tuple[str, int | Rate]]:
    for name in FIELDS:
        value = getattr(row, name)
        if value is not None:
            yield name, value


def shipped(rows: Mapping[str, LimitRow], name: str, which: str, value: int | Rate) -> bool:
    """Say whether a value is the one that ``rows``, those that are shipped, have: else an operator has said it."""
    return name in rows and getattr(rows[name], which) == value
