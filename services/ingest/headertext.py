"""headertext: text as it may stand in a header: encoded words (RFC 2047), parameters (RFC 2231), folding. Pure.

Written here rather than taken from the ``email`` package, which breaks values at every character that ``str.splitlines`` breaks at, and
which decodes what looks like an encoded word before it writes it: a value with ``=?utf-8?q?=0A?=`` in it must never become a line break.
"""

import base64
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

#: RFC 5322 2.1.1: at most 998 without CRLF, and 78 as a courtesy.
MAX_LINE: Final = 998
_WIDTH: Final = 78
# RFC 2047 2: an encoded word is at most 75 characters long, of which "=?utf-8?B?" and "?=" take 12.
_PAYLOAD: Final = 75 - 12
_PIECE: Final = re.compile(rb"[ \t]*[^ \t]+(?:[ \t]+\Z)?")
# RFC 2047 5 (3): what may stand for itself in a word that is part of a phrase.
_ITSELF: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!*+-/")
_PHRASE: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_PRINTABLE: Final = re.compile(r"[\x20-\x7e\t]*")
_HARMLESS: Final = re.compile(r"[ !#-\[\]-~]{1,70}")
_LONGEST_TOKEN: Final = 900


def fold(line: bytes, width: int = _WIDTH) -> bytes:
    """Break a header line (no CRLF at its end) before blanks that it has, as near to ``width`` as they allow."""
    if len(line) <= width:
        return line
    lines: list[bytes] = []
    current = b""
    for piece in _PIECE.findall(line.replace(b"\r\n", b"")):
        # Not between the name and the first word, unless nothing else helps.
        first = not lines and current.endswith(b":") and len(current) + len(piece) <= MAX_LINE
        if current and len(current) + len(piece) > width and not first:
            lines.append(current)
            current = piece
        else:
            current += piece
    return b"\r\n".join([*lines, current])


def foldable(text: str) -> bool:
    """Say whether ASCII text has blanks often enough, and never too many of them together."""
    return all(len(piece) <= _LONGEST_TOKEN for piece in _PIECE.findall(text.encode("ascii")))


def encoded_words(text: str) -> str:
    """Write ``text`` as encoded words with a blank between, cut between characters."""
    raws = [character.encode() for character in text]
    # Three bytes are four characters of base64.
    b64 = _words(raws, "B", lambda raw: base64.b64encode(raw).decode(), len, _PAYLOAD // 4 * 3)
    quoted = _words(raws, "Q", _quoted, lambda raw: len(_quoted(raw)), _PAYLOAD)
    return min(b64, quoted, key=len)


def _words(
    raws: list[bytes],
    kind: str,
    encode: Callable[[bytes], str],
    size: Callable[[bytes], int],
    most: int,
) -> str:
    words: list[str] = []
    chunk: list[bytes] = []
    left = most
    for raw in [*raws, None]:
        need = most + 1 if raw is None else size(raw)
        if need > left:
            words.append(f"=?utf-8?{kind}?{encode(b''.join(chunk))}?=")
            chunk, left = [], most
        if raw is not None:
            chunk.append(raw)
            left -= need
    return " ".join(words)


def _quoted(raw: bytes) -> str:
    return "".join(
        chr(byte) if byte in _ITSELF else "_" if byte == ord(" ") else f"={byte:02X}"
        for byte in raw
    )


def unstructured(name: str, text: str) -> bytes:
    """Write a header whose text is shown as it is: also where it looks like an encoded word. No CRLF at its end."""
    plain = _PRINTABLE.fullmatch(text) is not None and "=?" not in text
    if not plain or not foldable(text):
        text = encoded_words(text)
    return fold(f"{name}: {text}".encode("ascii"))


def phrase(name: str) -> str:
    """Write a display name: bare where RFC 5322 allows it, else quoted, else as encoded words."""
    if "=?" not in name:
        if _PHRASE.fullmatch(name):
            return name
        if _PRINTABLE.fullmatch(name) and len(name) <= _WIDTH:
            return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return encoded_words(name)


def plain_parameter(name: str, value: str) -> str:
    """Write a MIME parameter: quoted where it is harmless ASCII, else in RFC 2231's form."""
    if _HARMLESS.fullmatch(value) and "=?" not in value:
        return f'{name}="{value}"'
    return parameter(name, value)


def parameter(name: str, value: str) -> str:
    """Write a MIME parameter with a value that no quotes could hold."""
    return f"{name}*=utf-8''{quote(value, safe='')}"
