"""RFC 3339 times out of nanoseconds; the wire's records for people carry these, internal ones carry nanoseconds."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(ns: int) -> str:
    """Write ``ns`` since the epoch as ``2026-11-24T15:04:05.123Z``, to the millisecond."""
    moment = _EPOCH + timedelta(milliseconds=ns // 1_000_000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
