"""What is sent, to whom, and when: a TOML file that becomes a stream of deliveries, the same for the same seed.

[[streams]]
tenants = ["acme", "globex"]            each sends the same part of it
class = "bulk"
messages = 400_000
destinations = { gmail = 40, yahoo = 15, "example.org" = 5 }     providers, or domains with hosts of their own; weights
from = "9h", until = "10h"              evenly in between (after the start, which is midnight UTC); or
hours = [1, 1, 1, 2, …]                 24 weights, once for each day
size = "40KiB"

[models.gmail]                          who plays what: a provider or a domain; see ``playing``
like = "gmail"
"""

import datetime as dt
import random
from bisect import bisect
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from heapq import merge
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from services.scheduler.simulation.models import Model
from services.scheduler.simulation.playing import models, some_of
from shared.records.delivery import Delivery
from shared.runtime import files, values
from shared.runtime.loading import SettingsError
from shared.runtime.settings import Settings
from shared.runtime.table import Problems, Table

_S: Final = 1_000_000_000
_H: Final = 3600 * _S
_HOURS: Final = 24
_SIZE: Final = 20_000
_FLAT: Final = (1,) * _HOURS


@dataclass(frozen=True, slots=True)
class Stream:
    """One kind of mail."""

    name: str
    tenants: tuple[str, ...]
    class_: str
    messages: int
    destinations: tuple[str, ...]
    weights: tuple[int, ...]
    #: Between these times after the start; within them by the hours' weights.
    from_ns: int
    until_ns: int
    hours: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Everything that is sent."""

    start_ns: int
    hours: int
    streams: tuple[Stream, ...]
    #: Provider or domain -> who plays it.
    models: Mapping[str, Model]

    @property
    def messages(self) -> int:
        """Count them."""
        return sum(stream.messages for stream in self.streams)

    @property
    def end_ns(self) -> int:
        """Say when the simulation ends."""
        return self.start_ns + self.hours * _H


def load(path: Path, settings: Settings) -> Traffic:
    """Read and check a traffic file against the configuration; raises SettingsError with everything that is wrong."""
    merged = files.read(path)
    problems = Problems()
    traffic = _traffic(Table("", merged.raw, problems), settings)
    lines = merged.problems + (problems.lines() if merged.raw else [])
    if lines:
        raise SettingsError(lines)
    return traffic


def _traffic(top: Table, settings: Settings) -> Traffic:
    start = top.get("start", values.moment, _DEFAULT_START_NS)
    hours = top.get("hours", values.number(1, 24 * 60), _HOURS)
    rows = [_stream(table, settings, hours) for table in top.rows("streams")]
    if not rows:
        top.say("streams", "expected at least one [[streams]]")
    names = {name for row in rows for name in row.destinations}
    found = models(top, names, settings)
    top.done()
    return Traffic(start, hours, tuple(rows), found)


_DEFAULT_START_NS: Final = int(dt.datetime(2027, 3, 1, tzinfo=dt.UTC).timestamp()) * _S


def _stream(table: Table, settings: Settings, hours: int) -> Stream:
    tenants: tuple[str, ...] = table.need("tenants", some_of("tenant", settings.tenants), ())
    weights: dict[str, int] = table.need("destinations", _weights, dict[str, int]())
    from_ns = table.get("from", values.duration, 0)
    until_ns = table.get("until", values.some_time, hours * _H)
    if until_ns <= from_ns:
        table.say("until", "expected a time after from")
    stream = Stream(
        name=table.get("name", values.name, table.path.translate(_PLAIN)),
        tenants=tenants,
        class_=table.need("class", values.one_of(*settings.classes), "bulk"),
        messages=table.need("messages", values.number(1, 1_000_000_000), 1),
        destinations=tuple(weights),
        weights=tuple(weights.values()),
        from_ns=from_ns,
        until_ns=until_ns,
        hours=table.get("hours", _by_hour, _FLAT),
        size_bytes=table.get("size", values.size, _SIZE),
    )
    table.done()
    return stream


_PLAIN: Final = str.maketrans({"[": "-", "]": None, ".": "-"})


def _weights(value: Any) -> dict[str, int]:
    found = {
        name: values.number(1, 1_000_000)(weight) for name, weight in values.table(value).items()
    }
    if not found:
        raise ValueError("expected at least one destination with its weight")
    return found


def _by_hour(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != _HOURS:
        raise ValueError("expected 24 weights, one for each hour")
    found = tuple(values.number(0, 1_000_000)(each) for each in value)
    if not any(found):
        raise ValueError("expected a weight above 0")
    return found


# -- what arrives


def arrivals(
    traffic: Traffic, settings: Settings, seed: int, without: Collection[str] = ()
) -> Iterator[tuple[int, Delivery]]:
    """Give every delivery with the time at which it arrives, in order; what goes to ``without`` is left out, and the rest is the same."""
    streams = [
        _arriving(stream, traffic, settings, random.Random(f"{seed}/{stream.name}"))  # noqa: S311 - the same for the same seed
        for stream in traffic.streams
    ]
    kept = {name for stream in traffic.streams for name in stream.destinations}.difference(without)
    domains = {_place(name, settings)[2] for name in kept}
    merged = merge(*streams, key=lambda each: each[0])
    return (each for each in merged if each[1].domain in domains) if without else merged


def _arriving(
    stream: Stream, traffic: Traffic, settings: Settings, rng: random.Random
) -> Iterator[tuple[int, Delivery]]:
    choose = list(accumulate(stream.weights))
    total = choose[-1]
    life_ns = settings.classes[stream.class_].expires_ns
    senders = [
        (
            tenant,
            f"bounce@{settings.tenants[tenant].domains[0]}",
            settings.tenants[tenant].pools[stream.class_],
        )
        for tenant in stream.tenants
    ]
    places = [_place(name, settings) for name in stream.destinations]
    for number, at_ns in enumerate(_times(stream, traffic, rng)):
        tenant, sender, pool = senders[number % len(senders)]
        provider, site, domain = places[bisect(choose, rng.random() * total)]
        id_ = f"{stream.name}-{number}"
        yield (
            at_ns,
            Delivery(
                id=id_,
                submission=id_,
                tenant=tenant,
                class_=stream.class_,
                from_=sender,
                return_path=sender,
                to=f"{id_}@{domain}",
                domain=domain,
                provider=provider,
                site=site,
                pool=pool,
                map=1,
                accepted_ns=at_ns,
                not_before_ns=at_ns,
                expires_ns=at_ns + life_ns,
                size_bytes=stream.size_bytes,
                header_domain=sender.partition("@")[2],
                stream=stream.name,
            ),
        )


def _place(name: str, settings: Settings) -> tuple[str | None, str, str]:
    """Give provider, site and domain of a destination."""
    row = settings.providers.get(name)
    if row is None:
        return None, f"mx.{name}", name
    # By its MX, or its domain, the scheduler knows it again.
    suffix = row.mx[0] if row.mx else f".{name}.example"
    site = f"mx{suffix}" if suffix.startswith(".") else suffix
    return name, site, row.domains[0] if row.domains else f"{name}.example"


def limit_key(name: str, settings: Settings) -> str:
    """Name whose limits hold for a destination (no smart host)."""
    provider, site, _ = _place(name, settings)
    return provider or site


def _times(stream: Stream, traffic: Traffic, rng: random.Random) -> Iterator[int]:
    """Give the times: the n-th message anywhere in the n-th part of what the hours weigh, so that they come in order."""
    pieces = list(_pieces(stream))
    total = sum(weight * (until - since) for since, until, weight in pieces)
    piece = iter(pieces)
    since, until, weight = next(piece)
    passed, part = 0, weight * (until - since)
    for number in range(stream.messages):
        place = (number + rng.random()) * total / stream.messages
        while place > passed + part and (following := next(piece, None)) is not None:
            passed += part
            since, until, weight = following
            part = weight * (until - since)
        yield traffic.start_ns + since + int((place - passed) / max(weight, 1))


def _pieces(stream: Stream) -> Iterator[tuple[int, int, int]]:
    """Give (since, until, weight) of every hour, or part of one, in which the stream sends."""
    at = stream.from_ns
    while at < stream.until_ns:
        hour = at // _H
        until = min(stream.until_ns, (hour + 1) * _H)
        weight = stream.hours[hour % _HOURS]
        if weight:
            yield at, until, weight
        at = until
