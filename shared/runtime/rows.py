"""Reads one row of [providers] and one of [limits]: the same for what is shipped and for what an operator writes.

Each field that a row does not say is its base's, so rows lie on each other field by field.
"""

from typing import Any, Final

from shared.runtime import values
from shared.runtime.settings import LimitRow, Provider
from shared.runtime.table import Table

#: From one source to one destination at once.
MOST_CONNECTIONS: Final = 10_000
#: The levels of TLS, as they are written.
TLS: Final = values.one_of("opportunistic", "encrypted", "verified")


def provider_row(table: Table, base: Provider) -> Provider:
    """Read who runs a set of MX hosts, on the ground of ``base``."""
    return Provider(
        name=base.name,
        mx=table.get("mx", values.mx_suffixes, base.mx),
        domains=table.get("domains", values.domains, base.domains),
        tls=table.get("tls", TLS, base.tls),
        families=table.get("families", _families, base.families),
    )


def _families(value: Any) -> tuple[str, ...]:
    found = values.texts(value)
    if not found or set(found) - {"v4", "v6"}:
        raise ValueError(f'expected "v4", "v6" or both, got {values.shown(value)}')
    return found


def limit_row(table: Table, base: LimitRow) -> LimitRow:
    """Read one layer's limits, on the ground of ``base``."""
    if "total_bytes" in table.raw:
        table.asked.append("total_bytes")
        table.say("total_bytes", "bytes are counted for each source by itself: expected bytes")
    per_connection = values.number(1, 1_000_000)
    return LimitRow(
        connections=table.get("connections", values.number(1, MOST_CONNECTIONS), base.connections),
        messages_per_connection=table.get(
            "messages_per_connection", per_connection, base.messages_per_connection
        ),
        rate=table.get("rate", values.rate, base.rate),
        total_rate=table.get("total_rate", values.rate, base.total_rate),
        total_connections=table.get(
            "total_connections", values.number(1, 100_000), base.total_connections
        ),
        connection_rate=table.get("connection_rate", values.rate, base.connection_rate),
        bytes=table.get("bytes", values.byte_rate, base.bytes),
        start_rate=table.get("start_rate", values.rate, base.start_rate),
    )
