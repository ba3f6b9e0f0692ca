r"""Give a message the form that DATA wants: pure; what needs no change is passed on as a view, not copied.

Three things happen here and nowhere else: a dot at the start of a line is doubled; the last line end is held back, so that the bytes
which complete the message, ``\r\n.\r\n``, can only come from ``end``; and a bare CR or LF stops the message, whoever let it through,
since hosts that read one as a line end can be made to see a second message in the first ("SMTP smuggling", CVE-2023-51764 and others).
"""

from typing import Final

Piece = bytes | memoryview

_END: Final = b"\r\n.\r\n"
_CRLF: Final = b"\r\n"


class BareLineEnd(Exception):
    """A CR without its LF, or an LF without its CR."""


class Stuffer:
    """Take a message in chunks, give the pieces to write."""

    __slots__ = ("_carried", "_held", "_started")

    def __init__(self) -> None:
        """Begin at the start of a line."""
        self._held = False
        self._carried = False
        self._started = False

    def push(self, chunk: bytes) -> list[Piece]:
        """Give what of the message up to here may be written, without its last line end."""
        if self._carried:
            chunk, self._carried = b"\r" + chunk, False
        elif not chunk:
            return []
        if chunk.endswith(b"\r"):
            # The CRLF may be cut in two: the next chunk decides.
            chunk, self._carried = chunk[:-1], True
        ends = chunk.count(_CRLF)
        if ends != chunk.count(b"\n") or ends != chunk.count(b"\r"):
            raise BareLineEnd
        return self._pieces(chunk) if chunk else []

    def end(self) -> bytes:
        """Give the bytes that complete the message: whoever writes them has sent it."""
        if self._carried:
            raise BareLineEnd
        return _END if self._started else _END[2:]

    def _pieces(self, chunk: bytes) -> list[Piece]:
        pieces: list[Piece] = [_CRLF] if self._held else []
        if (self._held or not self._started) and chunk.startswith(b"."):
            pieces.append(b".")
        self._started, self._held = True, chunk.endswith(_CRLF)
        view, begin = memoryview(chunk), 0
        stop = len(chunk) - 2 if self._held else len(chunk)
        while (found := chunk.find(b"\r\n.", begin, stop)) >= 0:
            pieces += (view[begin : found + 2], b".")
            begin = found + 2
        pieces.append(view[begin:stop])
        return pieces
