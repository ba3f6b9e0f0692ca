"""Who plays which provider: the shipped models, and what a traffic file changes of them.

[models.gmail]
like = "gmail"                 a shipped model; without it the one of the same name, else "plain"
connections = 20               of one source
messages_per_connection = 20
connect = "150ms", answer = "400ms"
source_rate = "36000/h"        what one source may send before it is warned
domain_rate = "200000/h"       the same of a sending domain
stop = "10m"                   how long whoever was warned must stop
greylist = "5m"
unknown = 5, full = 2          of a thousand recipients
down = [["10h", "14h"]]        nobody answers
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from services.scheduler.simulation.models import MODELS, Model, Quota
from shared.runtime import values
from shared.runtime.settings import Rate, Settings
from shared.runtime.table import Table, suggestion

_PLAIN: Final = "plain"


def some_of(kind: str, known: Mapping[str, object]) -> Callable[[Any], tuple[str, ...]]:
    """Read a list of names that must be known."""

    def read(value: Any) -> tuple[str, ...]:
        names = values.texts(value)
        if not names:
            raise ValueError(f"expected at least one {kind}")
        for name in names:
            if name not in known:
                raise ValueError(f"no such {kind}: {name}; {suggestion(name, known, 'there are')}")
        return names

    return read


def models(top: Table, destinations: Iterable[str], settings: Settings) -> dict[str, Model]:
    """Read ``[models]`` and give every destination its model."""
    said = dict(top.tables("models"))
    found = {}
    for name in sorted({*destinations, *said}):
        if name not in settings.providers and "." not in name:
            where = said[name].path if name in said else "streams"
            top.problems.say(
                where, f"{name} is neither a provider of the configuration nor a domain"
            )
        found[name] = _model(name, said[name]) if name in said else _shipped(name)
    return found


def _shipped(name: str) -> Model:
    return MODELS.get(name, MODELS[_PLAIN])


def _model(name: str, table: Table) -> Model:
    like = table.get("like", values.one_of(*MODELS), "")
    base = MODELS[like] if like else _shipped(name)
    model = replace(
        base,
        connect_ns=table.get("connect", values.duration, base.connect_ns),
        answer_ns=table.get("answer", values.duration, base.answer_ns),
        connections=table.get("connections", values.number(1, 10_000), base.connections),
        messages_per_connection=table.get(
            "messages_per_connection", values.number(0, 1_000_000), base.messages_per_connection
        ),
        quotas=_quotas(table, base),
        greylist_ns=table.get("greylist", values.duration, base.greylist_ns),
        unknown_permille=table.get("unknown", values.number(0, 1000), base.unknown_permille),
        full_permille=table.get("full", values.number(0, 1000), base.full_permille),
        down=table.get("down", _spans, base.down),
    )
    table.done()
    return model


def _quotas(table: Table, base: Model) -> tuple[Quota, ...]:
    stop = table.get("stop", _stop, None)
    quotas = []
    for quota in base.quotas:
        rate = table.get(f"{quota.scope}_rate", values.rate, Rate(quota.count, quota.period_ns))
        quotas.append(
            replace(
                quota,
                count=rate.count,
                period_ns=rate.period_ns,
                stop_ns=quota.stop_ns if stop is None else stop,
            )
        )
    return tuple(quotas)


def _spans(value: Any) -> tuple[tuple[int, int], ...]:
    if not isinstance(value, list):
        raise ValueError('expected a list of ["from", "until"]')
    spans = []
    for span in value:
        if not isinstance(span, list) or len(span) != 2:  # noqa: PLR2004 - from and until
            raise ValueError('expected ["from", "until"], such as ["10h", "14h"]')
        since, until = (values.duration(each) for each in span)
        if until <= since:
            raise ValueError("expected until after from")
        spans.append((since, until))
    return tuple(spans)


def _stop(value: Any) -> int | None:
    return values.duration(value)
