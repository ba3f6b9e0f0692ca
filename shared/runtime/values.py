"""Single values of the configuration: each reader gives the value, or raises ValueError with what it expected and what it got. Pure."""

import datetime as dt
import ipaddress
import re
from collections.abc import Callable
from typing import Any, Final

from shared.runtime import quantities
from shared.runtime.settings import ByteRate, Canonicalization, Rate

_PORT_MAX: Final = 65535
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: RFC 1035 2.3.4: a label has at most 63 octets, a name 253 characters as it is written.
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_DOMAIN: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
#: Names of ours become parts of record keys, metric labels and paths: "/" separates there, and a dot would look like a site.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
#: What Kafka allows in a topic's name.
_PREFIX: Final = re.compile(r"[A-Za-z0-9._-]{0,100}")


def shown(value: object) -> str:
    """Show a value as it stands in TOML, as far as it matters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return f'"{value}"' if isinstance(value, str) else repr(value)


def table(value: Any) -> dict[str, Any]:
    """Read a table."""
    if not isinstance(value, dict):
        raise ValueError(f"expected a table, got {shown(value)}")
    return value


def tables(value: Any) -> list[dict[str, Any]]:
    """Read a list of tables."""
    if not isinstance(value, list):
        raise ValueError(f"expected a list of tables, got {shown(value)}")
    return [table(item) for item in value]


def text(value: Any) -> str:
    """Read a string that says something."""
    if not isinstance(value, str) or not value.isprintable() or not value.strip():
        raise ValueError(f"expected a string, got {shown(value)}")
    return value


def texts(value: Any) -> tuple[str, ...]:
    """Read a list of strings."""
    if not isinstance(value, list):
        raise ValueError(f"expected a list of strings, got {shown(value)}")
    return tuple(text(item) for item in value)


def flag(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {shown(value)}")
    return value


def number(low: int, high: int) -> Callable[[Any], int]:
    """Read a whole number from ``low`` to ``high``."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"expected a number from {low} to {high}, got {shown(value)}")
        return value

    return read


def share(value: Any) -> float:
    """Read a number from 0 to below 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"expected a share from 0 to below 1, got {shown(value)}")
    return float(value)


def part(value: Any) -> float:
    """Read a number above 0 and below 1."""
    found = share(value)
    if found == 0:
        raise ValueError(f"expected a share above 0 and below 1, got {shown(value)}")
    return found


def half(value: Any) -> float:
    """Read a number from a thousandth to a half."""
    found = share(value)
    if not 0.001 <= found <= 0.5:  # noqa: PLR2004 - said in the message
        raise ValueError(f"expected a share from 0.001 to 0.5, got {shown(value)}")
    return found


def part_or_all(value: Any) -> float:
    """Read a part of a whole: above 0, at most 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError(f"expected a part above 0 and at most 1, got {shown(value)}")
    return float(value)


def one_of(*words: str) -> Callable[[Any], Any]:
    """Read one of these words."""

    def read(value: Any) -> Any:
        if value not in words:
            raise ValueError(f"expected one of {', '.join(words)}, got {shown(value)}")
        return value

    return read


#: How one logs in to Kafka.
mechanism = one_of("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")


# -- quantities


def duration(value: Any) -> int:
    """Read a time that may be nothing, in ns."""
    return quantities.duration_ns(value if isinstance(value, str) else shown(value))


def some_time(value: Any) -> int:
    """Read a time that is more than nothing, in ns."""
    found = duration(value)
    if found == 0:
        raise ValueError(f"expected more than no time, got {shown(value)}")
    return found


def moment(value: Any) -> int:
    """Read a moment, in ns since the epoch; a day alone is its beginning in UTC."""
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    if not isinstance(value, dt.datetime) or value.tzinfo is None:
        raise ValueError(
            f"expected a day or a moment with its offset, such as 2027-01-31T12:00:00Z, got {shown(value)}"
        )
    # Whole microseconds: a float of seconds would be off by some.
    return (value - _EPOCH) // dt.timedelta(microseconds=1) * 1000


def durations(value: Any) -> tuple[int, ...]:
    """Read a list of times, in ns; at least one."""
    if not isinstance(value, list) or not value:
        raise ValueError(f'expected a list of durations such as ["5m", "1h"], got {shown(value)}')
    return tuple(some_time(item) for item in value)


def canonicalization(value: Any) -> Canonicalization:
    """Read how header and body are canonicalised: two words with a slash."""
    # RFC 6376 3.5 lets c= leave out the body's, and then it is simple; nobody remembers that, so both are asked for.
    match str(value).split("/"):
        case [("relaxed" | "simple") as header, ("relaxed" | "simple") as body]:
            return Canonicalization(header, body)
        case _:
            raise ValueError(
                f"expected relaxed/relaxed, relaxed/simple, simple/relaxed or simple/simple, got {shown(value)}"
            )


def rate(value: Any) -> Rate:
    """Read a rate."""
    return quantities.rate(value if isinstance(value, str) else shown(value))


def byte_rate(value: Any) -> ByteRate:
    """Read a rate of bytes."""
    return quantities.byte_rate(value if isinstance(value, str) else shown(value))


def size(value: Any) -> int:
    """Read a size in bytes."""
    return quantities.size_bytes(value if isinstance(value, str) else shown(value))


def cap(value: Any) -> int | None:
    """Read how often at most; "always" is no cap."""
    if value == "always":
        return None
    try:
        return number(0, 1000)(value)
    except ValueError as error:
        raise ValueError(f'{error}, nor "always"') from None


# -- names and addresses


def name(value: Any) -> str:
    """Read a name that we may use in keys and labels."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(
            f"expected a name of letters, digits, - and _ (at most 64), got {shown(value)}"
        )
    return value


def prefix(value: Any) -> str:
    """Read what all topics' names begin with."""
    if not isinstance(value, str) or not _PREFIX.fullmatch(value):
        raise ValueError(f"expected letters, digits, dots, - and _, got {shown(value)}")
    return value


def domain(value: Any) -> str:
    """Read a domain in its ASCII form, in lower case and without a final dot."""
    found = text(value).lower().rstrip(".")
    if not _DOMAIN.fullmatch(found):
        hint = "" if found.isascii() else " (a name in another script is written in its xn-- form)"
        raise ValueError(f"expected a domain{hint}, got {shown(value)}")
    return found


def domains(value: Any) -> tuple[str, ...]:
    """Read a list of domains."""
    return tuple(domain(item) for item in texts(value))


def mx_suffixes(value: Any) -> tuple[str, ...]:
    """Read what MX hosts end with (".google.com"), or whole hosts."""
    found = tuple(item.lower().rstrip(".") for item in texts(value))
    for item in found:
        if not _DOMAIN.fullmatch(item.removeprefix(".")):
            raise ValueError(f'expected host suffixes such as ".google.com", got {shown(item)}')
    return found


def pattern(value: str) -> str:
    """Read whom a route is for: a domain, "*." and a domain, or "*"."""
    found = value.lower().rstrip(".")
    if found != "*" and not _DOMAIN.fullmatch(found.removeprefix("*.")):
        raise ValueError(f'expected a domain, "*.domain" or "*", got {shown(value)}')
    return found


def ehlo(value: Any) -> str:
    """Read what a client calls itself: a fully qualified domain, or an address literal (RFC 5321 4.1.4)."""
    found = text(value)
    if found.startswith("[") and found.endswith("]"):
        address(found[1:-1].removeprefix("IPv6:"))
        return found
    if "." not in domain(found):
        raise ValueError(
            f"expected a fully qualified name such as m1.example.com, got {shown(value)}"
        )
    return found


def address(value: Any) -> str:
    """Read an IP address that a host can have."""
    try:
        found = ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError(f"expected an IP address, got {shown(value)}") from None
    if found.is_multicast or found.is_unspecified or str(found) == "255.255.255.255":
        raise ValueError(f"expected one host's address, got {shown(value)}")
    if isinstance(found, ipaddress.IPv6Address) and (found.ipv4_mapped or found.scope_id):
        raise ValueError(f"expected a plain address, got {shown(value)}")
    return str(found)


def addresses(value: Any) -> tuple[str, ...]:
    """Read a list of IP addresses."""
    return tuple(address(item) for item in texts(value))


def networks(value: Any) -> tuple[str, ...]:
    """Read a list of networks."""
    found = []
    for item in texts(value):
        try:
            found.append(str(ipaddress.ip_network(item)))
        except ValueError as error:
            raise ValueError(f'expected networks such as "10.0.0.0/8": {error}') from None
    return tuple(found)


def host(value: Any) -> str:
    """Read a host: a name or an address."""
    try:
        return address(value)
    except ValueError:
        pass
    try:
        return domain(value)
    except ValueError:
        raise ValueError(f"expected a host's name or address, got {shown(value)}") from None


def listen(value: Any) -> str:
    """Read where to listen: a name or an address, also one that means every address."""
    return str(value) if value in ("0.0.0.0", "::") else host(value)  # noqa: S104 - what an operator may want


def host_port(value: Any) -> tuple[str, int]:
    """Read ``host:port``; an IPv6 address stands in brackets."""
    where, colon, port = str(value).rpartition(":")
    right = colon and port.isascii() and port.isdigit() and 0 < int(port) <= _PORT_MAX
    # Without brackets the last group of an IPv6 address would be taken for the port.
    right = right and (":" not in where or (where.startswith("[") and where.endswith("]")))
    if not isinstance(value, str) or not right:
        raise ValueError(f"expected host:port such as 127.0.0.1:2525, got {shown(value)}")
    return host(where.removeprefix("[").removesuffix("]")), int(port)


def targets(value: Any) -> tuple[tuple[str, int], ...]:
    """Read one ``host:port``, or a list of them."""
    found = [value] if isinstance(value, str) else texts(value)
    if not found:
        raise ValueError("expected at least one host:port, got []")
    return tuple(host_port(item) for item in found)


def bootstrap(value: Any) -> str:
    """Read where Kafka is: ``host:port``, or several with commas."""
    for part in text(value).split(","):
        host_port(part.strip())
    return ",".join(part.strip() for part in text(value).split(","))


#: A TCP port; 0 where the machine may choose.
port = number(1, _PORT_MAX)
any_port = number(0, _PORT_MAX)
#: Which of several senders.
ordinal = number(0, 9999)
