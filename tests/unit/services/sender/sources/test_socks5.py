"""The bytes of RFC 1928 and RFC 1929, as the RFCs draw them."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sender.sources.socks5 import (
    HEAD_BYTES,
    Connected,
    Refused,
    Shut,
    Unreached,
    bound_address,
    greeting,
    login,
    request,
    take_greeting,
    take_head,
    take_login,
)


def test_nothing_but_the_password_is_offered_where_there_is_a_user() -> None:
    assert greeting(login=True) == b"\x05\x01\x02"
    assert greeting(login=False) == b"\x05\x01\x00"


@pytest.mark.parametrize(
    ("answer", "login", "why"),
    [
        (b"\x04\x00", False, "does not speak SOCKS5"),
        (b"HT", False, "does not speak SOCKS5"),
        (b"\x05\xff", False, "wants to know who we are"),
        (b"\x05\xff", True, "takes no password"),
        (b"\x05\x00", True, "chose what was not offered"),
    ],
)
def test_a_proxy_that_does_not_let_us_in_as_who_we_are_is_shut(
    answer: bytes, login: bool, why: str
) -> None:
    with pytest.raises(Shut, match=why):
        take_greeting(answer, login=login)


def test_a_login_has_the_lengths_before_the_words() -> None:
    assert login("ab", "xyz") == b"\x01\x02ab\x03xyz"
    take_login(b"\x01\x00")
    with pytest.raises(Shut, match="refuses the user"):
        take_login(b"\x01\x01")


@pytest.mark.parametrize("password", ["", "x" * 256])
def test_a_password_that_no_octet_can_count_is_never_sent(password: str) -> None:
    with pytest.raises(Shut):
        login("user", password)


def test_a_request_names_an_address_and_a_port() -> None:
    assert request("192.0.2.1", 25) == b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x19"
    assert request("2001:db8::1", 25) == (
        b"\x05\x01\x00\x04" + bytes.fromhex("20010db8000000000000000000000001") + b"\x00\x19"
    )


@pytest.mark.parametrize(
    ("reply", "bound"),
    [
        (b"\x05\x00\x00\x01\xc6\x33\x64\x07\x12\x34", "198.51.100.7"),
        (b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", None),
        (b"\x05\x00\x00\x04" + b"\x20\x01\x0d\xb8" + b"\x00" * 11 + b"\x07\x12\x34", "2001:db8::7"),
        (b"\x05\x00\x00\x03\x04mail\x12\x34", None),
    ],
)
def test_a_reply_ends_where_the_destinations_bytes_begin(reply: bytes, bound: str | None) -> None:
    answer = take_head(reply[:HEAD_BYTES])
    assert answer == Connected(len(reply) - HEAD_BYTES)
    assert bound_address(reply) == bound


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (3, errno.ENETUNREACH),
        (4, errno.EHOSTUNREACH),
        (5, errno.ECONNREFUSED),
        (6, errno.ETIMEDOUT),
    ],
)
def test_some_codes_say_that_the_destination_is_not_reached(code: int, number: int) -> None:
    answer = take_head(bytes([5, code, 0, 1, 0]))
    assert isinstance(answer, Unreached)
    assert answer.error.errno == number


@pytest.mark.parametrize("code", [1, 2, 7, 8, 99])
def test_the_others_say_what_the_proxy_would_not_do(code: int) -> None:
    assert isinstance(take_head(bytes([5, code, 0, 1, 0])), Refused)


@given(st.binary(min_size=HEAD_BYTES, max_size=HEAD_BYTES))
def test_no_head_is_taken_for_more_than_a_reply_can_be(head: bytes) -> None:
    try:
        answer = take_head(head)
    except Shut:
        return
    if isinstance(answer, Connected):
        assert head[1] == 0
        assert 0 < answer.following <= 257
