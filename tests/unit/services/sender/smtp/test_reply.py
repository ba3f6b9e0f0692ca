import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sender.smtp.reply import (
    MAX_LINE_BYTES,
    MAX_REPLY_BYTES,
    MAX_TEXT_BYTES,
    ProtocolError,
    Reply,
    ReplyParser,
    harmless,
)


def parse(*chunks: bytes) -> list[Reply]:
    parser, found = ReplyParser(), []
    for chunk in chunks:
        parser.feed(chunk)
        while (reply := parser.next()) is not None:
            found.append(reply)
    return found


def cut(data: bytes, at: list[int]) -> list[bytes]:
    points = [0, *sorted(point % (len(data) + 1) for point in at), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(points)]


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"250 2.1.0 Ok\r\n", Reply(250, "2.1.0", "Ok")),
        (b"250\r\n", Reply(250)),
        (b"250 \r\n", Reply(250)),
        (b"250-\r\n250 done\r\n", Reply(250, "", "done")),
        (b"354 go ahead\n", Reply(354, "", "go ahead")),
        (
            b"550-5.1.1 The account\r\n550-5.1.1 does not exist\r\n550 5.1.1 q12\r\n",
            Reply(550, "5.1.1", "The account does not exist q12"),
        ),
        (b"550 #5.1.0 Address rejected.\r\n", Reply(550, "5.1.0", "Address rejected.")),
        (b"550-hello\r\n550 5.7.1 no\r\n", Reply(550, "5.7.1", "hello no")),
        (b"452 4.2.2: full\r\n", Reply(452, "4.2.2", "full")),
        # The class of the enhanced code may differ from the basic one: both are kept.
        (b"421 5.7.32 not aligned\r\n", Reply(421, "5.7.32", "not aligned")),
        (b"250 127.0.0.1 says hello\r\n", Reply(250, "", "127.0.0.1 says hello")),
        (b"550-a\r\n551 b\r\n", Reply(551, "", "a b")),
        (b"250 caf\xc3\xa9 \xff\r\n", Reply(250, "", "caf\u00e9 \ufffd")),
    ],
)
def test_a_reply_is_read_as_its_sender_meant_it(data: bytes, reply: Reply) -> None:
    assert parse(data) == [reply]


LINE = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=40)
REPLY = st.tuples(st.integers(200, 599), st.lists(LINE, min_size=1, max_size=4))


def wire(code: int, lines: list[str]) -> bytes:
    last = len(lines) - 1
    return b"".join(
        b"%d%b%b\r\n" % (code, b" " if i == last else b"-", line.encode())
        for i, line in enumerate(lines)
    )


@given(st.lists(REPLY, max_size=5), st.lists(st.integers(0, 10_000), max_size=20))
def test_where_the_bytes_are_cut_changes_nothing(
    replies: list[tuple[int, list[str]]], at: list[int]
) -> None:
    data = b"".join(wire(*reply) for reply in replies)
    whole = parse(data)
    assert [reply.code for reply in whole] == [code for code, _ in replies]
    assert parse(*cut(data, at)) == whole
    assert parse(*(data[i : i + 1] for i in range(len(data)))) == whole


@given(st.binary(max_size=400))
def test_any_bytes_are_replies_or_a_protocol_error_and_the_text_is_harmless(data: bytes) -> None:
    parser = ReplyParser()
    parser.feed(data)
    try:
        while (reply := parser.next()) is not None:
            assert 200 <= reply.code < 600
            assert len(reply.text.encode()) <= MAX_TEXT_BYTES
            assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in reply.text)
    except ProtocolError:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n",
        b"25\r\n",
        b"+25 ok\r\n",
        b"100 continue\r\n",
        b"650 no\r\n",
        b"2500 ok\r\n",
        b"250_ok\r\n",
        b"250-yes\r\n550 no\r\n",
        b"250-yes\r\nno code\r\n",
        b"\x16\x03\x01\x02\x00\n",
    ],
)
def test_what_is_no_reply_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(data)


def test_a_line_without_end_is_refused_before_it_ends() -> None:
    with pytest.raises(ProtocolError):
        parse(b"250 " + b"x" * MAX_LINE_BYTES)


def test_a_line_may_be_as_long_as_the_bound() -> None:
    assert parse(b"250 " + b"x" * (MAX_LINE_BYTES - 5) + b"\r\n")[0].text == "x" * MAX_TEXT_BYTES


def test_a_reply_without_end_is_refused() -> None:
    with pytest.raises(ProtocolError):
        parse(*[b"250-" + b"x" * 1000 + b"\r\n"] * (MAX_REPLY_BYTES // 1000 + 1))


def test_controls_and_line_breakers_do_not_reach_a_log() -> None:
    assert harmless("a\x1b[31mb\x85c\u2028d\u202ee\x00") == "a?[31mb?c?d?e?"


def test_a_cut_text_is_still_text() -> None:
    assert harmless("\u20ac" * 1000).encode() == ("\u20ac" * (MAX_TEXT_BYTES // 3)).encode()
