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
)
from tests.support.messages import bodies, heads, on_the_wire, values

# RFC 6376 3.4.5
_EXAMPLE = b"A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n\r\n\r\n"


def test_the_example_of_the_rfc_comes_out_as_the_rfc_has_it() -> None:
    end, start = division(_EXAMPLE)
    assert relaxed_fields(_EXAMPLE[:end]) == [(b"a", b"X"), (b"b", b"Y Z")]
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
    lines = re.split(rb"\r\n(?![ \t])", head)
    parted = [(line.partition(b":")[0], line.partition(b":")[2] + b"\r\n") for line in lines]
    expected = Relaxed.canonicalize_headers(parted)
    assert [(name, value + b"\r\n") for name, value in relaxed_fields(head)] == expected


@given(values())
@settings(deadline=None)
def test_one_value_is_what_it_is_within_a_header(value: bytes) -> None:
    assert relaxed_fields(b"X:" + value) == [(b"x", relaxed_value(value))]


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
    assert body_hash(body) == b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


@given(
    st.sampled_from([b"a  b \t\r\n", b" \r\n", b"word\t\tword\r\n", b"no end of line  "]), bodies()
)
@settings(max_examples=12, deadline=None)
def test_a_large_body_in_pieces_is_the_same_as_in_one(line: bytes, tail: bytes) -> None:
    body = line * (700_000 // len(line)) + tail
    assert relaxed_body(body) == Relaxed.canonicalize_body(on_the_wire(body))
    assert len(b64decode(body_hash(body))) == 32


def test_a_hundred_thousand_folds_take_no_time_to_speak_of() -> None:
    head = b"References: <a@b>" + b"\r\n <a@b>" * 100_000
    assert len(relaxed_fields(head)) == 1
