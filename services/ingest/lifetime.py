"""lifetime: from when and until when a submission may be sent. Pure; nanoseconds since the epoch.

All of it counts from when Kafka took the record: a password for once does not live longer because ingest stood still, and a record that is
read once more long after has nothing left to live. Nothing lives longer than ``max_lifetime`` from then on, since its body is kept for that
long only, and nothing is tried for longer than five days after its first moment: RFC 5321 4.5.4.1 gives up after four to five.
"""

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

from services.ingest.problem import Problem
from shared.runtime.quantities import duration_ns

_S: Final = 1_000_000_000
_LONGEST_TRY_NS: Final = 5 * 86400 * _S
# RFC 3339 5.6. datetime.fromisoformat alone takes far more than this.
_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EXPECTED: Final = 'expected a time such as "2026-11-24T15:04:05Z" (RFC 3339)'


class Lifetime(NamedTuple):
    """Not before, and not at or after."""

    not_before_ns: int
    expires_ns: int


def read_time(text: str) -> int | None:
    """Read RFC 3339; None: it is none."""
    match = _RFC3339.fullmatch(text) if text.isascii() else None
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError:
        return None
    since = moment - _EPOCH
    return (since.days * 86400 + since.seconds) * _S + int((fraction or "0").ljust(9, "0"))


def lifetime(  # noqa: PLR0911 - one for each rule
    not_before: str | None,
    expires: str | None,
    *,
    came_ns: int,
    default_ns: int,
    max_lifetime_ns: int,
) -> Lifetime | Problem:
    """Decide the lifetime of what came at ``came_ns``; ``default_ns`` is the class's."""
    end = came_ns + max_lifetime_ns
    asked = came_ns if not_before is None else read_time(not_before)
    if asked is None:
        return Problem("not_before", _EXPECTED)
    if asked >= end:
        return Problem("not_before", f"lies beyond the longest lifetime ({_days(max_lifetime_ns)})")
    begin = max(asked, came_ns)
    if expires is None:
        return Lifetime(begin, min(begin + min(default_ns, _LONGEST_TRY_NS), end))
    until = _until(expires, begin)
    if isinstance(until, Problem):
        return until
    if until <= begin:
        return Problem("expires", "lies not after not_before (or when it came)")
    if until > end:
        return Problem("expires", f"lies beyond the longest lifetime ({_days(max_lifetime_ns)})")
    if until - begin > _LONGEST_TRY_NS:
        return Problem("expires", "lies more than 5 days after not_before (or when it came)")
    return Lifetime(begin, until)


def _until(expires: str, begin: int) -> int | Problem:
    found = read_time(expires)
    if found is not None:
        return found
    try:
        return begin + duration_ns(expires)
    except ValueError:
        return Problem("expires", f'{_EXPECTED}, or a duration such as "6h"')


def _days(ns: int) -> str:
    return f"{ns / (86400 * _S):g} days"
