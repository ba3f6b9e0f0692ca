"""Durations, rates and sizes as operators write them: ``"90s"``, ``"600/min"``, ``"256KiB"``. Pure."""

import re
from typing import Final

from shared.runtime.settings import ByteRate, Rate

_S: Final = 1_000_000_000
_UNITS: Final = {
    "ms": _S // 1000,
    "s": _S,
    "m": 60 * _S,
    "min": 60 * _S,
    "h": 3600 * _S,
    "d": 86400 * _S,
}
_PERIODS: Final = {"s": _S, "min": 60 * _S, "h": 3600 * _S, "d": 86400 * _S}
_SIZES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

#: Longer is a slip, and would not fit where times are added.
_LONGEST_NS: Final = 366 * _UNITS["d"]

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|min|m|h|d)", re.ASCII)
_RATE = re.compile(r"(\d{1,9})(?:\+(\d{1,9}))?/(s|min|h|d)", re.ASCII)
_SIZE = re.compile(r"(\d{1,12})(B|KiB|MiB|GiB)", re.ASCII)
_BYTE_RATE = re.compile(r"(\d{1,12}(?:B|KiB|MiB|GiB))/(min|h|d)", re.ASCII)
#: RFC 5321 4.5.3.1.7: a message of 64K octets must be accepted; less than that for all of a period is a slip.
_LEAST_BYTES: Final = 64 << 10


def duration_ns(text: str) -> int:
    """Read ``"500ms"``, ``"5m"``, ``"1.5h"``, or several of them together (``"1h30m"``); raises ValueError."""
    total, at = 0, 0
    for part in _DURATION.finditer(text):
        if part.start() != at:
            break
        number, unit = part.groups()
        whole, _, rest = number.partition(".")
        total += int(whole) * _UNITS[unit] + int(rest.ljust(3, "0") or "0") * _UNITS[unit] // 1000
        at = part.end()
    if not text or at != len(text):
        raise ValueError(f'expected a duration such as "90s" or "5m", got "{text}"')
    if total > _LONGEST_NS:
        raise ValueError(f'expected at most 366d, got "{text}"')
    return total


def rate(text: str) -> Rate:
    """Read ``"600/min"``; ``"600+10/min"`` lets 10 come at once, and still no window has more than 600; raises ValueError."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f'expected a rate such as "600/min", got "{text}"')
    count, burst, period = int(match[1]), int(match[2] or 1), _PERIODS[match[3]]
    if count == 0:
        raise ValueError(f'a rate of zero would never send: use a pause instead, got "{text}"')
    if not 1 <= burst <= count:
        raise ValueError(f'the burst must lie between 1 and the count, got "{text}"')
    return Rate(count, period, burst)


def byte_rate(text: str) -> ByteRate:
    """Read ``"50MiB/min"``; raises ValueError."""
    match = _BYTE_RATE.fullmatch(text)
    if match is None:
        raise ValueError(f'expected bytes per min, h or d such as "50MiB/min", got "{text}"')
    count = size_bytes(match[1])
    if count < _LEAST_BYTES:
        raise ValueError(f'expected at least 64KiB, which any message may have, got "{text}"')
    return ByteRate(count, _PERIODS[match[2]])


def rate_text(rate: Rate) -> str:
    """Write a rate as an operator does: the other way round from ``rate`` and ``byte_rate``."""
    burst = "" if rate.burst == 1 else f"+{rate.burst}"
    units = {period_ns: unit for unit, period_ns in _PERIODS.items()}
    period = units.get(rate.period_ns, f"{rate.period_ns / _S:g}s")
    count = size_text(rate.count) if isinstance(rate, ByteRate) else rate.count
    return f"{count}{burst}/{period}"


def size_bytes(text: str) -> int:
    """Read ``"256KiB"``; raises ValueError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f'expected a size such as "256KiB", got "{text}"')
    return int(match[1]) * _SIZES[match[2]]


def size_text(size: int) -> str:
    """Write a size as an operator does: the other way round from ``size_bytes``."""
    unit = next(unit for unit in reversed(_SIZES) if size % _SIZES[unit] == 0)
    return f"{size // _SIZES[unit]}{unit}"
