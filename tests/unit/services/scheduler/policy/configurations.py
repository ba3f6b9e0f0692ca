"""Configurations and orders as an operator may write them, of all kinds at once and at random; most of them are right."""

import random
from collections.abc import Mapping, Sequence

from shared.records.control import Directive, OrderedRate
from shared.runtime import quantities
from shared.runtime.settings import Rate

S = 1_000_000_000
#: Tenant -> the domain of its mail.
TENANTS = {"a": "a.example", "b": "b.example"}
#: (provider, site): what mail goes to.
PLACES = (
    ("gmail", "mx.google.com"),
    ("corp", "mx1.corp.example"),
    ("corp", "mx2.corp.example"),
    (None, "mx.small.example"),
    (None, "mx.other.example"),
)
_PAIRS = ("rate", "connections", "messages_per_connection", "connection_rate", "bytes")
_KEYS = (*_PAIRS, "total_rate", "total_connections")
#: Row -> what it may say.
ROWS: Mapping[str, Sequence[str]] = {
    "default": (*_KEYS, "start_rate"),
    "gmail": _KEYS,
    "corp": _KEYS,
    "mx.small.example": (*_KEYS, "start_rate"),
    "smarthost:relay": _KEYS,
    "gmail/s0": _PAIRS,
    "corp/pool:main": _PAIRS,
    "mx.small.example/s0": _PAIRS,
    "mx1.corp.example": (
        "rate",
        "total_rate",
        "connections",
        "messages_per_connection",
        "connection_rate",
    ),
    "tenant:a": ("total_rate",),
    "gmail/tenant:a": ("total_rate",),
    "corp/tenant:b": ("total_rate",),
    "corp/domain:b.example": ("total_rate",),
}


def written(rng: random.Random, *, busy: bool = False) -> str:
    """Write a configuration; ``busy``: little keeps mail from meeting the few limits that it has."""
    parts = [
        "[kafka]\npartitions = 3\nslots = 256",
        *_sources(rng, busy=busy),
        *_tenants(rng, busy=busy),
    ]
    parts.append('[providers.corp]\nmx = [".corp.example"]')
    likely = 0.15 if busy else 0.4
    for row, fields in ROWS.items():
        if rng.random() < likely:
            chosen = rng.sample(fields, rng.randint(1, min(3, len(fields))))
            if busy and "total_rate" in fields:
                chosen = ["total_rate"]
            part = row == "tenant:a" or "/tenant:" in row or "/domain:" in row
            lines = [f"{name} = {_limit(name, rng, part=part, busy=busy)}" for name in chosen]
            parts.append("\n".join([f'[limits."{row}"]', *lines]))
    if rng.random() < 0.5:
        parts.append(
            f'[backoff]\ncut = {rng.choice([0.1, 0.5, 0.9])}\nprobes = {rng.randint(1, 5)}\nfloor = "{_rate(rng)}"'
        )
    if rng.random() < 0.3:
        parts.append(
            f'[scheduler]\nbulk_share = {rng.choice([0.001, 0.5])}\nrelease = "{rng.choice(["0s", "10s", "1h"])}"\nmax_waiting = 40'
        )
    return "\n\n".join(parts)


def _sources(rng: random.Random, *, busy: bool) -> list[str]:
    slots = [0, *rng.sample([1, 2, 128, 129, 255], rng.randint(0, 3))]
    parts = []
    for at, slot in enumerate(slots):
        warmup = "none" if busy else rng.choice(["none", "none", "mailtrap", "own"])
        parts.append(
            f'[sources.s{at}]\nslot = {slot}\nkind = "bind"\naddress = "192.0.2.{at + 1}"\nehlo = "m{at}.example.com"\nwarmup = "{warmup}"'
        )
    parts.append(
        '[sources.relay]\nslot = 9\nkind = "smarthost"\nhost = "smtp.relay.example"\nwarmup = "none"'
    )
    days = rng.choice(["[25]", "[25, 25, 40]", "{ from = 30, growth = 1.2, to = 900 }"])
    parts.append(f"[warmups.own]\ndays = {days}\nhours = {rng.choice([0, 1, 24])}")
    weights = ", ".join(f"s{at} = {rng.choice([1, 3, 1000])}" for at in range(len(slots)))
    spill = ""
    if rng.random() < 0.5:
        after, daily = rng.choice(["1s", "1m", "1h"]), rng.choice([2, 9, 1000])
        spill = f'\nspill = {{ to = "relay", after = "{after}", daily = {daily}, share = {rng.choice([0.01, 0.5, 1])} }}'
    sticky = rng.choice(["none", "recipient"])
    parts.append(f'[pools.main]\nsources = {{ {weights} }}\nsticky = "{sticky}"{spill}')
    parts.append("[pools.relay]\nsources = { relay = 1 }")
    return parts


def _tenants(rng: random.Random, *, busy: bool) -> list[str]:
    parts = []
    for name, domain in TENANTS.items():
        pool = rng.choice(["main", "main", "relay"])
        windows = "windows.bulk = " + _window(rng) + "\n" if not busy and rng.random() < 0.3 else ""
        parts.append(
            f'[tenants.{name}]\ndomains = ["{domain}"]\npools = {{ transactional = "main", bulk = "{pool}" }}\n'
            f'spill_to = ["relay"]\nunsigned = true\nweight = {rng.choice([1, 7, 100])}\n{windows}'
        )
    retry = rng.choice(['["1s"]', '["5m", "1h"]', '["100d"]'])
    parts.append(
        f'[classes.bulk]\nretry = {retry}\njitter = {rng.choice([0, 0.2, 0.99])}\nurgent = "{rng.choice(["0s", "1h", "90h"])}"'
    )
    return parts


def _window(rng: random.Random) -> str:
    hours = rng.choice(["09:00-18:00", "22:00-06:00", "23:00-23:30", "00:00-24:00"])
    days = rng.choice(["mon-sun", "mon,wed", "fri-tue"])
    zone = rng.choice(["UTC", "Europe/Berlin", "Asia/Kolkata"])
    return f'{{ days = "{days}", hours = "{hours}", zone = "{zone}" }}'


def _limit(name: str, rng: random.Random, *, part: bool, busy: bool) -> str:
    match name:
        case "connections" | "messages_per_connection":
            return str(rng.choice([1, 2, 50]))
        case "total_connections":
            return str(rng.choice([4, 100]))
        case "bytes":
            return f'"{rng.choice(["64KiB", "1MiB", "999GiB"])}/{rng.choice(["min", "h", "d"])}"'
        case "total_rate":
            periods = ("min", "min", "h") if part else ("s", "min", "min", "h")
            return f'"{_rate(rng, 1 if part else 3, ("min",) if busy else periods)}"'
        case _:
            return f'"{_rate(rng)}"'


def _rate(
    rng: random.Random, least: int = 1, periods: Sequence[str] = ("s", "min", "min", "h", "d")
) -> str:
    count = rng.choice([least, 5, 40, 40, 90, 999_999_999])
    burst = rng.choice(["", "", f"+{min(count, rng.choice([1, 3, count]))}"])
    return f"{count}{burst}/{rng.choice(periods)}"


def ordered(rng: random.Random) -> list[Directive]:
    """Order something of rates, or that nothing goes."""
    found = []
    for number in range(rng.choice([0, 0, 1, 3])):
        rate = _ordered(quantities.rate(_rate(rng, periods=("min", "h"))))
        terms: dict[str, object] = rng.choice(
            [
                {"action": "limit", "provider": "gmail", "rate": rate},
                {"action": "limit", "source": "s0", "rate": rate, "connections": 1},
                {"action": "limit", "tenant": "a", "total_rate": rate},
                {"action": "limit", "tenant": "b", "provider": "corp", "total_rate": rate},
                {"action": "slow", "provider": "corp", "percent": rng.choice([1, 50, 99])},
                {"action": "slow", "tenant": "a", "percent": rng.choice([1, 99])},
                {"action": "pause", "provider": "corp"},
                {"action": "pause", "tenant": "b", "provider": "gmail"},
                {"action": "pause", "source": "s0", "provider": "gmail"},
            ]
        )
        said: dict[str, object] = {
            "id": f"o{number}",
            "reason": "why",
            "author": "ada",
            "expires_ns": None,
        }
        found.append(Directive(**said | terms))  # type: ignore[arg-type]
    return found


def _ordered(rate: Rate) -> OrderedRate:
    return OrderedRate(count=rate.count, period_ns=rate.period_ns, burst=rate.burst)
