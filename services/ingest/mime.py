"""mime: the parts of a message, found in one pass without recursion, and their lines made to fit. Pure, on bytes.

The walk follows the delimiters of the open multiparts through the text, each line that begins with ``--`` once; nesting is a list, so a
message nested a thousand deep costs no more than the hundred levels after which it is refused.

What needs it is encoded anew, part by part; every other byte stays. Nothing inside multipart/signed or multipart/encrypted is touched:
a line that is too long there is a problem, 8-bit bytes make the message one for 8BITMIME.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from services.ingest.headers import fields_of, mend
from services.ingest.headertext import MAX_LINE
from services.ingest.problem import Problem

MAX_DEPTH: Final = 100
MAX_PARTS: Final = 1000
_MAX_PART_HEADER: Final = 64 << 10
# Only text that is one long list of "--" lines comes near it; each costs half a microsecond.
_MAX_DELIMITERS: Final = 1_000_000
_DELIMITER: Final = re.compile(rb"\r\n--([^\r\n]*)(?=\r\n|\Z)")
_VALUE: Final = rb"[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)\r\n"
_TYPE: Final = re.compile(rb"(?im)^content-type" + _VALUE)
_ENCODING: Final = re.compile(rb"(?im)^content-transfer-encoding" + _VALUE)
_MIME_VERSION: Final = re.compile(rb"(?im)^mime-version" + _VALUE)
_KIND: Final = re.compile(rb"\s*([A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+)")
_BOUNDARY: Final = re.compile(
    rb';\s*boundary\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"()]+))', re.IGNORECASE | re.DOTALL
)
_IDENTITY: Final = (b"", b"7bit", b"8bit", b"binary")
_HIGH: Final = bytes(range(128, 256))


@dataclass(slots=True)
class Part:
    """One part: its header is [head, head_end), its body [body, end)."""

    head: int
    head_end: int
    body: int
    end: int
    kind: bytes
    encoding: bytes
    #: A multipart or an attached message: its body is other parts.
    container: bool
    sealed: bool


@dataclass(frozen=True, slots=True)
class Filler:
    """A preamble or an epilogue: text that no reader shows."""

    start: int
    end: int
    sealed: bool


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A message that fits; ``eight_bit``: 8-bit bytes had to stay; ``utf8``: in a header."""

    data: bytes
    eight_bit: bool = False
    utf8: bool = False


@dataclass(frozen=True, slots=True)
class _Open:
    boundary: bytes | None
    sealed: bool
    digest: bool


def longest_line(data: bytes) -> int:
    """Measure the longest line, without its CRLF."""
    return max(map(len, data.split(b"\r\n")))


def suspicious(data: bytes) -> bool:
    """Say, cheaply, whether the message could pass the bounds: every level needs its type's name, every part its delimiter."""
    if data.count(b"\n--") > MAX_PARTS:
        return True
    if data.count(b"/") <= MAX_DEPTH:
        return False
    lower = data.lower()
    return lower.count(b"multipart/") + lower.count(b"message/") > MAX_DEPTH


class Walk:
    """Find the parts of a whole message; its header must end with an empty line."""

    def __init__(self, data: bytes) -> None:
        """``run`` walks."""
        self.data = data
        self.parts: list[Part] = []
        self.fillers: list[Filler] = []
        self._stack: list[_Open] = []
        self._levels: dict[bytes, int] = {}
        self._leaf: Part | None = None
        self._filler: int | None = None

    def run(self) -> Problem | None:
        """Fill ``parts`` and ``fillers``; a message that passes the bounds is a problem."""
        head_end = self.data.find(b"\r\n\r\n") + 2
        if problem := self._begin(0, head_end, head_end + 2):
            return problem
        for seen, match in enumerate(_DELIMITER.finditer(self.data, head_end)):
            if not self._levels:
                break
            if seen > _MAX_DELIMITERS:
                return Problem("message", "has more than a million lines that begin with --")
            if problem := self._delimiter(match):
                return problem
        self._close(len(self.data))
        return None

    def _delimiter(self, match: re.Match[bytes]) -> Problem | None:
        line = match[1].rstrip(b" \t")
        level = self._levels.get(line)
        closing = False
        if level is None and line.endswith(b"--"):
            level, closing = self._levels.get(line[:-2]), True
        if level is None:
            return None
        self._close(match.start())
        keep = level if closing else level + 1
        for left in self._stack[keep:]:
            if left.boundary is not None:
                del self._levels[left.boundary]
        del self._stack[keep:]
        if closing:
            self._filler = match.end()
            return None
        start = match.end() + 2
        extent = self._header(start)
        return extent if isinstance(extent, Problem) else self._begin(start, *extent)

    def _close(self, at: int) -> None:
        if self._leaf is not None:
            self._leaf.end = max(self._leaf.body, at)
        if self._filler is not None and at > self._filler:
            self.fillers.append(Filler(self._filler, at, self._sealed))
        self._leaf = self._filler = None

    @property
    def _sealed(self) -> bool:
        return bool(self._stack) and self._stack[-1].sealed

    def _header(self, at: int) -> tuple[int, int] | Problem:
        """Find where a part's header ends and its body begins."""
        data, limit = self.data, at + _MAX_PART_HEADER
        # From the CRLF before it: an empty line at once is an empty header.
        blank = data.find(b"\r\n\r\n", at - 2, limit)
        stop = len(data) if blank < 0 else blank
        for match in _DELIMITER.finditer(data, at - 2, min(stop, limit)):
            line = match[1].rstrip(b" \t")
            if line in self._levels or (line.endswith(b"--") and line[:-2] in self._levels):
                return match.start() + 2, match.start() + 2
        if blank >= 0:
            return blank + 2, blank + 4
        if len(data) <= limit:
            return len(data), len(data)
        return Problem("message", f"a MIME part has a header over {_MAX_PART_HEADER >> 10} KiB")

    def _begin(self, head: int, head_end: int, body: int) -> Problem | None:
        while True:
            if len(self.parts) >= MAX_PARTS:
                return Problem("message", f"has more than {MAX_PARTS} MIME parts")
            header = self.data[head:head_end]
            digest = bool(self._stack) and self._stack[-1].digest
            kind, boundary = _content_type(header, b"message/rfc822" if digest else b"text/plain")
            encoding = _encoding(header)
            multipart = boundary is not None
            message = kind in (b"message/rfc822", b"message/global") and encoding in _IDENTITY
            part = Part(
                head, head_end, body, body, kind, encoding, multipart or message, self._sealed
            )
            self.parts.append(part)
            if not part.container:
                self._leaf = part
                return None
            if len(self._stack) >= MAX_DEPTH:
                return Problem("message", f"MIME parts are nested more than {MAX_DEPTH} deep")
            sealed = self._sealed or kind in (b"multipart/signed", b"multipart/encrypted")
            self._stack.append(_Open(boundary, sealed, kind == b"multipart/digest"))
            if boundary is not None:
                if boundary in self._levels:
                    return Problem("message", "a multipart has the boundary of one that it lies in")
                self._levels[boundary] = len(self._stack) - 1
                self._filler = body
                return None
            extent = self._header(body)
            if isinstance(extent, Problem):
                return extent
            head, (head_end, body) = body, extent


def _content_type(header: bytes, default: bytes) -> tuple[bytes, bytes | None]:
    found = _TYPE.search(header)
    if found is None:
        return default, None
    kind = _KIND.match(found[1])
    if kind is None:
        return b"text/plain", None
    name = kind[1].lower()
    if not name.startswith(b"multipart/"):
        return name, None
    boundary = _BOUNDARY.search(found[1])
    if boundary is None:
        return name, None
    text = boundary[2] if boundary[1] is None else re.sub(rb"\\(.)", rb"\1", boundary[1])
    return name, text.replace(b"\r\n", b"").rstrip(b" \t") or None


def _encoding(header: bytes) -> bytes:
    found = _ENCODING.search(header)
    return b"" if found is None else found[1].strip().lower()


def rewrite(data: bytes) -> Rewritten | Problem:
    """Make every part fit: 7-bit, lines of at most 998 bytes. The top header must fit already."""
    walk = Walk(data)
    if problem := walk.run():
        return problem
    editing = _Editing(data)
    for part in walk.parts:
        if problem := editing.part(part, root=part.head == 0):
            return problem
    for filler in walk.fillers:
        if problem := editing.filler(filler):
            return problem
    if not editing.eight_bit:
        editing.relabel(walk.parts)
    return editing.done()


class _Editing:
    """Collect replacements of stretches of the message."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._edits: list[tuple[int, int, bytes]] = []
        self.eight_bit = False
        self._utf8 = False

    def done(self) -> Rewritten:
        """Put the replacements in."""
        out: list[bytes] = []
        at = 0
        for start, end, new in sorted(self._edits, key=lambda edit: edit[:2]):
            out += (self._data[at:start], new)
            at = end
        out.append(self._data[at:])
        return Rewritten(b"".join(out), self.eight_bit, self._utf8)

    def filler(self, filler: Filler) -> Problem | None:
        """Leave out a preamble or epilogue that does not fit."""
        text = self._data[filler.start : filler.end]
        if fits(text):
            return None
        if filler.sealed:
            return self._keep(text)
        end = b"\r\n" if filler.end == len(self._data) else b""
        self._edits.append((filler.start, filler.end, end))
        return None

    def part(self, part: Part, *, root: bool) -> Problem | None:
        """Mend one part's header and, where it is no container, its body."""
        header = self._data[part.head : part.head_end]
        body = b"" if part.container else self._data[part.body : part.end]
        if part.sealed:
            return self._keep(header) or self._keep(body)
        if not fits(body):
            anew = _encode(part, body)
            if isinstance(anew, Problem):
                return anew
            encoding, new = anew
            if part.end == len(self._data) and not new.endswith(b"\r\n"):
                new += b"\r\n"
            self._edits.append((part.body, part.end, new))
            header = _labelled(header, encoding, body, root=root)
        if not root and not fits(header):
            mended = self._header(header)
            if isinstance(mended, Problem):
                return mended
            header = mended
        if header != self._data[part.head : part.head_end]:
            self._edits.append((part.head, part.head_end, header))
        return None

    def _keep(self, text: bytes) -> Problem | None:
        if longest_line(text) > MAX_LINE:
            return Problem("message", f"a line over {MAX_LINE} bytes in a signed or encrypted part")
        self.eight_bit |= not text.isascii()
        return None

    def _header(self, header: bytes) -> bytes | Problem:
        fields = fields_of(header)
        if isinstance(fields, Problem):
            return Problem("message", f"in a MIME part, {fields.rule}")
        lines = []
        for field in fields:
            mended = mend(field)
            if isinstance(mended, Problem):
                return mended
            self._utf8 |= mended.utf8
            lines.append(mended.raw)
        return b"".join(lines)

    def relabel(self, parts: list[Part]) -> None:
        """Say 7bit of the containers that said 8bit or binary."""
        for part in parts:
            if part.container and not part.sealed and part.encoding in (b"8bit", b"binary"):
                found = _ENCODING.search(self._data[part.head : part.head_end])
                if found is not None and not any(part.head == start for start, _, _ in self._edits):
                    start, end = part.head + found.start(), part.head + found.end()
                    self._edits.append((start, end, b"Content-Transfer-Encoding: 7bit\r\n"))


def _encode(part: Part, body: bytes) -> tuple[bytes, bytes] | Problem:
    """Encode a body anew; gives the encoding's name and the new body."""
    if part.kind.startswith((b"message/", b"multipart/")):
        # RFC 2045 6.4: these may not be encoded.
        return Problem(
            "message",
            f"a {part.kind.decode()} part has 8-bit bytes or lines over {MAX_LINE} bytes, and must not be encoded",
        )
    if part.encoding in _IDENTITY:
        return encoded(body, text=part.kind.startswith(b"text/"))
    try:
        if part.encoding == b"base64":
            return b"base64", _base64(binascii.a2b_base64(body))
        if part.encoding == b"quoted-printable":
            return b"base64", _base64(binascii.a2b_qp(body))
    except binascii.Error as error:
        return Problem("message", f"a part's {part.encoding.decode()} cannot be decoded: {error}")
    return Problem("message", "a part has a Content-Transfer-Encoding that RFC 2045 does not know")


def encoded(raw: bytes, *, text: bool) -> tuple[bytes, bytes]:
    """Encode bytes for 7-bit mail; text (lines with CRLF) stays legible where most of it is ASCII."""
    high = len(raw) - len(raw.translate(None, _HIGH))
    if text and high * 6 < len(raw):
        return b"quoted-printable", _quoted_printable(raw)
    return b"base64", _base64(raw)


def fits(text: bytes) -> bool:
    """Say whether bytes may go out as they are: 7-bit, with lines of at most 998 bytes."""
    return text.isascii() and longest_line(text) <= MAX_LINE


def _base64(raw: bytes) -> bytes:
    return base64.encodebytes(raw).replace(b"\n", b"\r\n").removesuffix(b"\r\n")


def _quoted_printable(raw: bytes) -> bytes:
    encoded = binascii.b2a_qp(raw, istext=True)
    # binascii writes its soft breaks as the text's first line ends; a text of one line has none.
    return encoded if b"\r\n" in raw else encoded.replace(b"\n", b"\r\n")


def _labelled(header: bytes, encoding: bytes, body: bytes, *, root: bool) -> bytes:
    line = b"Content-Transfer-Encoding: " + encoding + b"\r\n"
    header, changed = _ENCODING.subn(lambda _: line, header, count=1)
    if not changed:
        header += line
    if root and _TYPE.search(header) is None:
        header += b"Content-Type: text/plain; charset=" + _charset(body) + b"\r\n"
    if root and _MIME_VERSION.search(header) is None:
        header += b"MIME-Version: 1.0\r\n"
    return header


def _charset(body: bytes) -> bytes:
    if body.isascii():
        return b"us-ascii"
    try:
        body.decode()
    except UnicodeDecodeError:
        # RFC 1428: 8-bit text of which nobody said what it is.
        return b"unknown-8bit"
    return b"utf-8"
