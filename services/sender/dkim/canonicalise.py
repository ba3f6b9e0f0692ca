"""Canonicalisation of RFC 6376 3.4 over bytes, relaxed and simple. Pure.

The message has CRLF line ends only: ingest sees to that, and a bare CR or LF never comes here.
"""

import re
from typing import Final

_TRAILING: Final = re.compile(rb"[ \t]+(?=\r\n)")
_RUNS: Final = re.compile(rb"[ \t]+")


def relaxed_body(body: bytes) -> bytes:
    """Canonicalise a body, relaxed (3.4.4): no white space at line ends, runs become one space, no empty lines at the end."""
    if b"\t" in body or b"  " in body or b" \r\n" in body or body.endswith(b" "):
        body = _RUNS.sub(b" ", _TRAILING.sub(b"", body))
        if body.endswith(b" "):
            body = body[:-1]  # White space at the end of a last line that has no CRLF.
    return _end(body) if body else b""


def simple_body(body: bytes) -> bytes:
    """Canonicalise a body, simple (3.4.3): no empty lines at the end, and one CRLF even for an empty body."""
    return _end(body) or b"\r\n"


def _end(body: bytes) -> bytes:
    if body.endswith(b"\r\n") and not body.endswith(b"\r\n\r\n") and body != b"\r\n":
        return body
    at = len(body)
    while body.endswith(b"\r\n", 0, at):
        at -= 2
    return body[:at] + b"\r\n" if at else b""


def relaxed_header(name: bytes, value: bytes) -> bytes:
    """Canonicalise one header field, relaxed (3.4.2): unfolded, one space for each run, without its CRLF."""
    unfolded = value.replace(b"\r\n", b"")
    return name.strip().lower() + b":" + _RUNS.sub(b" ", unfolded).strip(b" ")


def fields(head: bytes) -> list[tuple[bytes, bytes]]:
    """Part a header into (name, value with its folds), in order; ``head`` is without the empty line."""
    found: list[tuple[bytes, bytes]] = []
    for line in head.split(b"\r\n"):
        if line[:1] in (b" ", b"\t") and found:
            name, value = found[-1]
            found[-1] = name, value + b"\r\n" + line
        elif line:
            name, _, value = line.partition(b":")
            found.append((name, value))
    return found


def part(message: bytes) -> tuple[bytes, bytes]:
    """Part a message into header and body."""
    if message.startswith(b"\r\n"):
        return b"", message[2:]
    head, _, body = message.partition(b"\r\n\r\n")
    return head, body
