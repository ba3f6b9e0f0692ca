"""RFC 3339 times out of nanoseconds; the wire's records for people carry these, internal ones carry nanoseconds."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(ns: int) -> str:
    """Write ``ns`` since the epoch as ``2026-11-24T15:04:05.123Z``, to the millisecond."""
    return _written(ns // 1_000_000)


@lru_cache(maxsize=64)
def _written(ms: int) -> str:
    # All that is said in a round is said of the same moment.
    moment = _EPOCH + timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
