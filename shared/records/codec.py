r"""How a record's value becomes bytes and back: one line of JSON, then ``\n``, then the body where there is one.

The body is never decoded here: it stays the bytes that it was, and a console consumer shows the line. Decoding is total: what cannot
be read comes back as ``Unreadable`` with a reason that names the field, so that no value can stop a partition. Unknown fields are
ignored, so that an older reader reads a newer writer's records. A record whose ``v`` is above ours means something that this reader cannot
know: it comes back as ``Newer``, so that nobody takes it for rubbish and throws it away.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Generic, TypeVar

import msgspec

VERSION: Final = 1
#: Records are read from this version on.
OLDEST: Final = 1
#: What a record means that says no version, for ever: those of mail.state leave it out.
UNSAID: Final = 1

#: A count, an offset, or a time in nanoseconds: what no clock gives and nobody counts to is refused when it is read.
Natural = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]

T = TypeVar("T")


def _version() -> int:
    # A default factory, not a default: omit_defaults leaves out plain defaults, and every record must show its version.
    return VERSION


class Record(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Carry the version; every record type derives from it.

    What is read from bytes is a tree, so the collector of cycles need not look at it (``gc=False``), of which there are most.
    """

    v: int = msgspec.field(default_factory=_version)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Say why a value could not be read; ``reason`` names the field and the rule."""

    reason: str


@dataclass(frozen=True, slots=True)
class Newer(Unreadable):
    """Say that a newer version wrote it."""


class NewerRecord(Exception):
    """A newer version's record lies where nothing may be left out: only that version goes on from here."""


class _Head(msgspec.Struct):
    v: int = UNSAID


#: What decoding raises of a line that is no JSON, or nested without end.
_NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_encode = msgspec.json.Encoder().encode


def encode(record: msgspec.Struct, body: bytes = b"") -> bytes:
    """Join the record's line and its body."""
    line = _encode(record)
    return b"%b\n%b" % (line, body) if body else line


def split(value: bytes) -> tuple[bytes, bytes]:
    """Part a value into its line and its body; the body is empty where there is no newline."""
    line, _, body = value.partition(b"\n")
    return line, body


class Codec(Generic[T]):
    """Decode the line of one record type (or of one union of tagged types)."""

    __slots__ = ("_decoder", "_line_bytes")

    def __init__(self, kind: type[T] | object, *, line_bytes: int | None = None) -> None:
        """``kind`` is a Struct type or a union of tagged Struct types; a line longer than ``line_bytes`` is not read."""
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind)
        self._line_bytes = line_bytes

    def decode(self, value: bytes | None) -> T | Unreadable:
        """Read the line of ``value``; the body is not touched."""
        if not value:
            return Unreadable("the record has no value")
        end = value.find(b"\n")
        return self.decode_line(value if end < 0 else value[:end])

    def decode_line(self, line: bytes) -> T | Unreadable:
        """Read one line of JSON."""
        if self._line_bytes is not None and len(line) > self._line_bytes:
            return Unreadable(f"a line of {len(line)} bytes; {self._line_bytes} are the most")
        try:
            record = self._decoder.decode(line)
        except msgspec.ValidationError as error:
            return self._newer(line) or Unreadable(str(error))
        except _NOT_JSON as error:
            return Unreadable(f"not JSON: {error}")
        version = getattr(record, "v", VERSION)
        if not OLDEST <= version <= VERSION:
            return self._newer(line) or Unreadable(_known(version))
        return record

    def _newer(self, line: bytes) -> Newer | None:
        """Say so where it is a newer version's, which may have other fields than ours."""
        try:
            version = _head.decode(line).v
        except _NOT_JSON:
            return None
        return Newer(_known(version)) if version > VERSION else None


_head: Final = msgspec.json.Decoder(_Head)


def _known(version: int) -> str:
    return f"v: this reader knows version {VERSION}, got {version}"
