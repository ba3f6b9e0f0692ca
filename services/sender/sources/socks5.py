"""SOCKS version 5, the client's words (RFC 1928), with a user's name and password (RFC 1929). Pure: what to say, and what was answered.

It is our own because two things matter here that client libraries hide: nothing but the password is offered where there is a user (a proxy
that lets anybody in could take the connection for nobody's, and send it from its default address), and the address that the proxy says
it is bound to is looked at.
"""

import errno
import ipaddress
import os
from dataclasses import dataclass
from typing import Final

_VERSION: Final = 5
_LOGIN_VERSION: Final = 1
_CONNECT: Final = 1
_OPEN_TO_ALL, _PASSWORD, _NONE_FITS = 0x00, 0x02, 0xFF
_V4, _NAME, _V6 = 1, 3, 4
#: RFC 1928 6: what a reply code says of the destination, and what of the proxy's own opinion.
_THEIRS: Final = {
    3: errno.ENETUNREACH,
    4: errno.EHOSTUNREACH,
    5: errno.ECONNREFUSED,
    6: errno.ETIMEDOUT,
}
_REFUSALS: Final = {
    1: "general failure",
    2: "not allowed by its rules",
    7: "it does not know CONNECT",
    8: "it does not know this kind of address",
}

_LONGEST: Final = 255
#: So many bytes answer a greeting and a login; of a reply, so many say how it ended and how many follow.
ANSWER_BYTES: Final = 2
HEAD_BYTES: Final = 5


class Shut(Exception):
    """The proxy lets nobody in, or not us, or it is none."""


@dataclass(frozen=True, slots=True)
class Connected:
    """It is connected; so many bytes of the reply follow, and right behind them what it passes on."""

    following: int


@dataclass(frozen=True, slots=True)
class Unreached:
    """The destination could not be connected to."""

    error: OSError


@dataclass(frozen=True, slots=True)
class Refused:
    """The proxy would not."""

    why: str


def greeting(*, login: bool) -> bytes:
    """Offer one way of being let in."""
    return bytes([_VERSION, 1, _PASSWORD if login else _OPEN_TO_ALL])


def take_greeting(answer: bytes, *, login: bool) -> None:
    """Read which way the proxy has chosen; raises Shut."""
    version, method = answer
    if version != _VERSION:
        raise Shut("it does not speak SOCKS5")
    if method == _NONE_FITS:
        raise Shut("it takes no password" if login else "it wants to know who we are")
    if method != (_PASSWORD if login else _OPEN_TO_ALL):
        raise Shut("it chose what was not offered")


def login(username: str, password: str) -> bytes:
    """Say who we are."""
    parts = [username.encode(), password.encode()]
    if not all(0 < len(part) <= _LONGEST for part in parts):
        raise Shut(f"a user and a password have 1 to {_LONGEST} octets")
    return bytes([_LOGIN_VERSION]) + b"".join(bytes([len(part)]) + part for part in parts)


def take_login(answer: bytes) -> None:
    """Read whether that was enough; raises Shut."""
    if answer[1]:
        raise Shut("it refuses the user or the password")


def request(address: str, port: int) -> bytes:
    """Ask for a connection to an IP address: names are resolved here, where the address is checked."""
    ip = ipaddress.ip_address(address)
    kind = _V4 if isinstance(ip, ipaddress.IPv4Address) else _V6
    return bytes([_VERSION, _CONNECT, 0, kind]) + ip.packed + port.to_bytes(2, "big")


def take_head(head: bytes) -> Connected | Unreached | Refused:
    """Read the first ``HEAD_BYTES`` of a reply; raises Shut."""
    version, code, _, kind, first = head
    # What follows the head: the rest of the address, and a port of two bytes.
    rest = {_V4: 3 + 2, _V6: 15 + 2, _NAME: first + 2}.get(kind)
    if version != _VERSION or (code == 0 and rest is None):
        raise Shut("its reply cannot be read")
    if code in _THEIRS:
        number = _THEIRS[code]
        return Unreached(OSError(number, f"the proxy says: {os.strerror(number).lower()}"))
    if code:
        return Refused(_REFUSALS.get(code, f"reply code {code}"))
    return Connected(rest or 0)


def bound_address(reply: bytes) -> str | None:
    """Give the address that the proxy says it sends from; None: it does not say."""
    if reply[3] == _NAME:
        return None
    found = ipaddress.ip_address(reply[4:-2])
    # Many proxies answer 0.0.0.0, whatever they use.
    return None if found.is_unspecified else str(found)
