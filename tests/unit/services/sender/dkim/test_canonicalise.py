import hashlib
import re
from base64 import b64decode

import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given, settings
from hypothesis import strategies as st

from services.sender.dkim.canonicalise import (
    body_hash,
    division,
    relaxed_body,
    relaxed_fields,
    relaxed_value,
    simple_body,
    simple_fields,
)
from tests.support.messages import bodies, heads, on_the_wire, values

# RFC 6376 3.4.5
_EXAMPLE = b"A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n\r\n\r\n"


def test_the_example_of_the_rfc_comes_out_as_the_rfc_has_it() -> None:
    end, start = division(_EXAMPLE)
    assert relaxed_fields(_EXAMPLE[:end]) == [(b"a", b"a:X"), (b"b", b"b:Y Z")]
    assert simple_fields(_EXAMPLE[:end]) == [(b"a", b"A: X"), (b"b", b"B : Y\t\r\n\tZ  ")]
    assert relaxed_body(_EXAMPLE[start:]) == b" C\r\nD E\r\n"
    assert simple_body(_EXAMPLE[start:]) == b" C \r\nD \t E\r\n"


@given(bodies())
@settings(deadline=None)
def test_a_relaxed_body_is_what_dkimpy_makes_of_it(body: bytes) -> None:
    assert relaxed_body(body) == Relaxed.canonicalize_body(on_the_wire(body))


@given(bodies())
@settings(deadline=None)
def test_a_simple_body_is_what_dkimpy_makes_of_it(body: bytes) -> None:
    assert simple_body(body) == Simple.canonicalize_body(body)


@given(bodies())
@settings(deadline=None)
def test_a_relaxed_body_stays_as_it_is(body: bytes) -> None:
    assert relaxed_body(relaxed_body(body)) == relaxed_body(body)


@given(heads())
@settings(deadline=None)
def test_relaxed_fields_are_what_dkimpy_makes_of_them(head: bytes) -> None:
    expected = Relaxed.canonicalize_headers(_parted(head))
    assert relaxed_fields(head) == [(name, (name + b":" + value)[:-2]) for name, value in expected]


@given(heads())
@settings(deadline=None)
def test_simple_fields_are_what_dkimpy_makes_of_them(head: bytes) -> None:
    expected = Simple.canonicalize_headers(_parted(head))
    assert [field for _, field in simple_fields(head)] == [
        (name + b":" + value)[:-2] for name, value in expected
    ]
    assert b"\r\n".join(field for _, field in simple_fields(head)) == head
    assert [name for name, _ in simple_fields(head)] == [name for name, _ in relaxed_fields(head)]


def _parted(head: bytes) -> list[tuple[bytes, bytes]]:
    lines = re.split(rb"\r\n(?![ \t])", head)
    return [(line.partition(b":")[0], line.partition(b":")[2] + b"\r\n") for line in lines]


@given(values())
@settings(deadline=None)
def test_one_value_is_what_it_is_within_a_header(value: bytes) -> None:
    assert relaxed_fields(b"X:" + value) == [(b"x", b"x:" + relaxed_value(value))]


@pytest.mark.parametrize(
    ("message", "head", "body"),
    [
        (b"A: b\r\n\r\nbody", b"A: b", b"body"),
        (b"A: b\r\n\r\n", b"A: b", b""),
        (b"A: b\r\n", b"A: b\r\n", b""),
        (b"A: b", b"A: b", b""),
        (b"\r\nbody\r\n\r\nmore", b"", b"body\r\n\r\nmore"),
        (b"\r\n\r\nbody", b"", b"\r\nbody"),
        (b"A: b\r\n\r\n\r\n\r\nbody", b"A: b", b"\r\n\r\nbody"),
        (b"", b"", b""),
    ],
)
def test_the_first_empty_line_divides(message: bytes, head: bytes, body: bytes) -> None:
    end, start = division(message)
    assert (message[:end], message[start:]) == (head, body)


@pytest.mark.parametrize("body", [b"", b"\r\n", b"\r\n\r\n", b" \t\r\n \r\n", b"  "])
def test_a_body_of_nothing_is_empty_relaxed(body: bytes) -> None:
    assert relaxed_body(body) == b""
    # RFC 6376 3.4.4 has the hash of an empty body.
    assert body_hash(body, "relaxed") == b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def test_a_body_of_nothing_is_one_line_end_simple() -> None:
    # RFC 6376 3.4.3 has the hash of an empty body.
    assert body_hash(b"", "simple") == b"frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="
    assert body_hash(b"\r\n\r\n", "simple") == body_hash(b"", "simple")


@pytest.mark.parametrize("size", [2047, 2048, 65_535, 65_536, 65_537, 300_000])
def test_a_hash_is_the_same_in_whatever_portions(size: int) -> None:
    body = b"x" * (size - 2) + b"\r\n"
    assert b64decode(body_hash(body, "relaxed")) == hashlib.sha256(body).digest()
    assert b64decode(body_hash(body, "simple")) == hashlib.sha256(body).digest()


@given(
    st.sampled_from([b"a  b \t\r\n", b" \r\n", b"word\t\tword\r\n", b"no end of line  "]), bodies()
)
@settings(max_examples=12, deadline=None)
def test_a_large_body_in_pieces_is_the_same_as_in_one(line: bytes, tail: bytes) -> None:
    body = line * (700_000 // len(line)) + tail
    assert relaxed_body(body) == Relaxed.canonicalize_body(on_the_wire(body))
    assert b64decode(body_hash(body, "relaxed")) == hashlib.sha256(relaxed_body(body)).digest()


def test_a_hundred_thousand_folds_take_no_time_to_speak_of() -> None:
    head = b"References: <a@b>" + b"\r\n <a@b>" * 100_000
    assert len(relaxed_fields(head)) == 1
    assert simple_fields(head) == [(b"references", head)]
