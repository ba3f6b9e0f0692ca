import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sender.smtp.stuffing import BareLineEnd, Piece, Stuffer


def stuffed(*chunks: bytes) -> bytes:
    stuffer, pieces = Stuffer(), list[Piece]()
    for chunk in chunks:
        pieces += stuffer.push(chunk)
    return b"".join(pieces) + stuffer.end()


def unstuffed(data: bytes) -> bytes:
    """What a receiver makes of it (RFC 5321 4.5.2)."""
    lines = []
    for line in data.split(b"\r\n"):
        if line == b".":
            break
        lines.append(line[1:] if line.startswith(b".") else line)
    return b"".join(line + b"\r\n" for line in lines)


LINES = st.lists(
    st.sampled_from([b"", b".", b"..", b".a", b"a.", b"hello", b" .", b"x" * 50]), max_size=12
)


@given(LINES, st.booleans(), st.lists(st.integers(0, 600), max_size=10))
def test_a_receiver_gets_the_message_however_it_is_cut(
    lines: list[bytes], ended: bool, at: list[int]
) -> None:
    message = b"\r\n".join(lines) + (b"\r\n" if ended and lines else b"")
    points = [0, *sorted(point % (len(message) + 1) for point in at), len(message)]
    wire = stuffed(*(message[a:b] for a, b in itertools.pairwise(points)))
    expected = message if message.endswith(b"\r\n") or not message else message + b"\r\n"
    assert unstuffed(wire) == expected
    assert wire == stuffed(message)
    assert wire.count(b"\r\n.\r\n") == (1 if message else 0)


def test_nothing_is_copied_that_needs_no_dot() -> None:
    message = b"Subject: x\r\n\r\nhello\r\n"
    (piece,) = Stuffer().push(message)
    assert isinstance(piece, memoryview)
    assert piece.obj is message


def test_the_end_of_the_message_is_held_back() -> None:
    stuffer = Stuffer()
    assert b"".join(stuffer.push(b"a\r\n.b\r\n")) == b"a\r\n..b"
    assert stuffer.end() == b"\r\n.\r\n"


def test_an_empty_message_ends_at_once() -> None:
    assert stuffed() == b".\r\n"


@pytest.mark.parametrize(
    "chunks",
    [
        (b"a\nb\r\n",),
        (b"a\rb\r\n",),
        (b"a\r\r\n",),
        (b"a\r", b"b\r\n"),
        (b"a", b"\nb\r\n"),
        (b"a\r\n\r",),
        (b"a\n.\r\nMAIL FROM:<x@y>\r\n",),
        (b"a\r\n.\rb\r\n",),
    ],
)
def test_a_bare_line_end_never_reaches_the_wire(chunks: tuple[bytes, ...]) -> None:
    with pytest.raises(BareLineEnd):
        stuffed(*chunks)
