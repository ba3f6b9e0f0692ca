"""URLs of the configuration: proxies, and where an address is observed. Pure.

As in ``values``, each reader raises ValueError with what it expected and what it got.
"""

from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from shared.runtime.settings import Proxy
from shared.runtime.values import host_port, shown, text, texts
from shared.runtime.workings import Echo

#: RFC 1929 2: one octet says how long a user's name is.
_USER_MAX_BYTES: Final = 255
_ECHO_PORTS: Final = {"smtp": 25, "http": 80, "https": 443}


def _split(value: Any, *schemes: str) -> SplitResult:
    expected = " or ".join(f"{scheme}://…" for scheme in schemes)
    try:
        found = urlsplit(text(value))
        host = found.hostname
    except ValueError:
        raise ValueError(f"expected {expected}, got {shown(value)}") from None
    if found.scheme not in schemes or not host:
        raise ValueError(f"expected {expected}, got {shown(value)}")
    return found


def proxy(value: Any) -> Proxy:
    """Read ``socks5://user@host:port`` or ``proxy-v2://host:port``."""
    found = _split(value, "socks5", "proxy-v2")
    if found.password is not None:
        # A URL ends up in logs and summaries, so this one is not shown.
        raise ValueError("a password belongs into the source's password_file")
    user, at, where = found.netloc.rpartition("@")
    user = unquote(user)
    if found.scheme == "proxy-v2" and at:
        raise ValueError(f"the PROXY protocol knows no user, got {shown(value)}")
    if at and not 0 < len(user.encode()) <= _USER_MAX_BYTES:
        raise ValueError(f"expected a user of 1 to {_USER_MAX_BYTES} octets, got {shown(value)}")
    if found.path or found.query or found.fragment:
        raise ValueError(f"expected nothing behind the port, got {shown(value)}")
    return Proxy("socks5" if found.scheme == "socks5" else "proxy-v2", *host_port(where), user)


def proxies(value: Any) -> tuple[Proxy, ...]:
    """Read a list of proxies, none of them twice; at least one."""
    found = tuple(proxy(item) for item in texts(value))
    if not found:
        raise ValueError('expected at least one proxy such as "socks5://10.0.0.5:1080", got []')
    if len(set(found)) < len(found):
        raise ValueError("a proxy is named twice")
    return found


def echo(value: Any) -> Echo:
    """Read ``smtp://host:port``, ``http://host/path`` or ``https://host/path``; the port may be missing."""
    found = _split(value, *_ECHO_PORTS)
    if "@" in found.netloc or found.fragment or (found.scheme == "smtp" and found.path):
        raise ValueError(f"expected smtp://host:port or http://host/path, got {shown(value)}")
    where = found.netloc.removesuffix(":")
    if found.port is None:
        where += f":{_ECHO_PORTS[found.scheme]}"
    scheme: Any = found.scheme
    path = (found.path or "/") + (f"?{found.query}" if found.query else "")
    return Echo(scheme, *host_port(where), path)
