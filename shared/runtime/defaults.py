"""What Postyard ships: classes here, providers and their limits in ``providers.toml``. A configuration may change any field of them."""

import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Final

from shared.runtime import values
from shared.runtime.rows import limit_row, provider_row
from shared.runtime.settings import ClassPolicy, LimitRow, Provider, UnknownPolicy
from shared.runtime.table import Problems, Table

_MIN: Final = 60 * 1_000_000_000
_H: Final = 60 * _MIN

CLASSES: Final[Mapping[str, ClassPolicy]] = {
    "transactional": ClassPolicy(
        name="transactional",
        retry=(5 * _MIN, 10 * _MIN, 20 * _MIN, 30 * _MIN, 1 * _H, 2 * _H),
        expires_ns=24 * _H,
        unknown=UnknownPolicy(policy="retry", retry=2, delay_ns=5 * _MIN),
    ),
    "bulk": ClassPolicy(
        name="bulk",
        retry=(15 * _MIN, 30 * _MIN, 1 * _H, 2 * _H, 4 * _H),
        expires_ns=72 * _H,
        unknown=UnknownPolicy(policy="retry", retry=1, delay_ns=30 * _MIN),
        urgent_ns=1 * _H,
    ),
}


def _shipped() -> tuple[dict[str, Provider], dict[str, LimitRow], dict[str, dict[str, str]]]:
    """Read ``providers.toml``: its rows, and the source of each of their figures."""
    data = resources.files("shared.runtime").joinpath("providers.toml").read_text("utf-8")
    problems = Problems()
    top = Table("", tomllib.loads(data), problems)
    providers, limits, sources = {}, {}, {}
    for name in top.raw:
        table = top.table(name)
        if name != "default":
            providers[name] = provider_row(table, Provider(name))
        limits[name] = limit_row(table, LimitRow())
        said = table.table("source")
        sources[name] = {field: said.get(field, values.text, "") for field in said.raw}
        table.done()
    if problems.found:
        raise ValueError("\n".join(problems.lines()))
    return providers, limits, sources


_SHIPPED: Final = _shipped()
PROVIDERS: Final[Mapping[str, Provider]] = _SHIPPED[0]
#: "default" is the careful start for a destination that nobody knows; every field that must resolve is set there.
LIMITS: Final[Mapping[str, LimitRow]] = _SHIPPED[1]
#: Row -> field -> where its figure is from.
SOURCES: Final[Mapping[str, Mapping[str, str]]] = _SHIPPED[2]
