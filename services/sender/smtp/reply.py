"""Read a peer's replies: pure, bytes in (split anywhere), ``Reply`` out.

The peer is whoever a stranger's DNS names, so everything is bounded and nothing of the text drives the protocol: a line has at most
8 KiB, a reply at most 32 KiB, and what is not a reply raises ``ProtocolError``, after which the connection can only be closed. The
text is made harmless here, once, for logs, events and screens: one line, no control characters, at most 1 KiB.
"""

import functools
import re
from dataclasses import dataclass
from typing import Final

from shared.records import outcome

#: RFC 5321 4.5.3.1.5 allows 512; real replies are longer, and endless ones are an attack.
MAX_LINE_BYTES: Final = 8 * 1024
MAX_REPLY_BYTES: Final = 32 * 1024
MAX_TEXT_BYTES: Final = 1024

# RFC 2034: at the start of the text; some hosts put it on some lines only, some write "#5.1.0".
_ENHANCED = re.compile(r"#?([245]\.\d{1,3}\.\d{1,3})(?:[\s:]+|$)")
# C0, DEL, C1, and what breaks or turns round a line elsewhere (line and paragraph separators, bidirectional controls).
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CLASSES: Final = frozenset(b"2345")


class ProtocolError(Exception):
    """What the peer sent is not SMTP; ``why`` says what is wrong with it."""

    def __init__(self, why: str) -> None:
        """Keep ``why``."""
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: what the basic code says decides, what the enhanced code says explains."""

    code: int
    #: ``x.y.z``, or empty; its class may differ from the basic code's.
    enhanced: str = ""
    #: Harmless: see the module.
    text: str = ""

    @property
    def positive(self) -> bool:
        """Say whether the command was done."""
        # RFC 5321 4.2.1: an unknown code is understood by its first digit.
        return 200 <= self.code < 300  # noqa: PLR2004

    @property
    def transient(self) -> bool:
        """Say whether the peer asks to try again."""
        return 400 <= self.code < 500  # noqa: PLR2004

    @property
    def permanent(self) -> bool:
        """Say whether the peer refuses for good."""
        return self.code >= 500  # noqa: PLR2004

    def recorded(self, stage: str) -> outcome.Reply:
        """Give it the form that travels on Kafka."""
        return outcome.Reply(code=self.code, text=self.text, enhanced=self.enhanced, stage=stage)

    def __str__(self) -> str:
        """Show it on one line, as the peer might have written it."""
        return " ".join(part for part in (str(self.code), self.enhanced, self.text) if part)


def of_text(code: int, text: str) -> Reply:
    """Make a ``Reply`` of a code and its text, whose lines are parted by newlines."""
    enhanced, parts = "", []
    for line in text.split("\n"):
        part = line.strip()
        found = _ENHANCED.match(part)
        if found is not None:
            enhanced = enhanced or found[1]
            part = part[found.end() :]
        if part:
            parts.append(part)
    return Reply(code, enhanced, harmless(" ".join(parts)))


def harmless(text: str) -> str:
    """Replace what could break a log, a terminal or a table, and cut to 1 KiB."""
    if len(text) <= MAX_TEXT_BYTES // 4 and text.isprintable():
        return text
    cleaned = _UNSAFE.sub("?", text[:MAX_TEXT_BYTES])
    return cleaned.encode("utf-8", "replace")[:MAX_TEXT_BYTES].decode("utf-8", "ignore")


def _check(line: bytes) -> None:
    code, mark = line[:3], line[3:4]
    if len(code) != 3 or not code.isdigit() or code[0] not in _CLASSES:  # noqa: PLR2004
        raise ProtocolError(f"not a reply: {harmless(repr(line[:80]))}")
    if mark not in (b"", b" ", b"-"):
        raise ProtocolError(f"not a reply: {harmless(repr(line[:80]))}")


# Three of four replies of a transaction are the same bytes as those of the one before.
@functools.lru_cache(maxsize=256)
def _single(line: bytes) -> Reply:
    _check(line)
    return of_text(int(line[:3]), line[4:].decode("utf-8", "replace"))


class ReplyParser:
    """Gather bytes and give replies in order."""

    __slots__ = ("_buffer", "_lines", "_seen", "_size")

    def __init__(self) -> None:
        """Begin with nothing."""
        self._buffer = bytearray()
        #: How much of the buffer holds no line end.
        self._seen = 0
        self._lines: list[bytes] = []
        self._size = 0

    def __repr__(self) -> str:
        """Show what is held."""
        return f"<ReplyParser {len(self._buffer)} bytes, {len(self._lines)} lines held>"

    @property
    def empty(self) -> bool:
        """Say whether no byte is held that no reply has taken."""
        return not self._buffer and not self._lines

    def feed(self, data: bytes) -> None:
        """Take what came; it is bounded by the next call of ``next``."""
        self._buffer += data

    def next(self) -> Reply | None:
        """Give the next whole reply, or None where more bytes are needed."""
        while True:
            end = self._buffer.find(b"\n", self._seen)
            if (end if end >= 0 else len(self._buffer)) > MAX_LINE_BYTES:
                raise ProtocolError(f"a line of more than {MAX_LINE_BYTES} bytes")
            if end < 0:
                self._seen = len(self._buffer)
                return None
            line = bytes(self._buffer[:end]).removesuffix(b"\r")
            del self._buffer[: end + 1]
            self._seen = 0
            if not self._lines and line[3:4] != b"-":
                return _single(line)
            if self._take(line):
                return self._finish()

    def _take(self, line: bytes) -> bool:
        """Keep a line; True where it is the last of its reply."""
        _check(line)
        self._size += len(line)
        if self._size > MAX_REPLY_BYTES:
            raise ProtocolError(f"a reply of more than {MAX_REPLY_BYTES} bytes")
        if self._lines and self._lines[0][:1] != line[:1]:
            # Codes should be the same on all lines (RFC 5321 4.2.1). A mixture of yes and no is neither.
            raise ProtocolError("the lines of a reply contradict each other")
        self._lines.append(line)
        return line[3:4] != b"-"

    def _finish(self) -> Reply:
        lines, self._lines, self._size = self._lines, [], 0
        text = "\n".join(line[4:].decode("utf-8", "replace") for line in lines)
        return of_text(int(lines[-1][:3]), text)
