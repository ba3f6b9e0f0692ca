"""What leaves normalise is fit for the wire, whatever came in; and a clean message stays the bytes that it was."""

import email
import email.policy
import re
import time
from email.message import EmailMessage

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.ingest.normalise import Normalised
from services.ingest.problem import Problem
from tests.unit.services.ingest.making import bad, good, normal

HEAD = (
    b"Received: by acme.example; Tue, 24 Nov 2026 15:00:00 +0000\r\n"
    b"Date: Tue, 24 Nov 2026 15:00:00 +0000\r\n"
    b"Message-ID: <1@acme.example>\r\n"
    b"From: Ann <ann@acme.example>\r\n"
    b"To: bob@b.example\r\n"
    b"Subject: Hello\r\n"
)
CLEAN = HEAD + b"\r\nHello.\r\n"


def parsed(found: Normalised) -> EmailMessage:
    return email.message_from_bytes(found.data, policy=email.policy.default)


def names(found: Normalised) -> list[str]:
    return [name.lower() for name in parsed(found)]


# -- what is clean stays


def test_a_clean_message_stays_the_very_bytes() -> None:
    found = good(CLEAN)
    assert found.data is CLEAN
    assert (found.header_domain, found.eight_bit, found.smtputf8) == ("acme.example", False, False)


def test_an_html_message_with_parts_stays_the_very_bytes() -> None:
    raw = HEAD + (
        b'MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="b"\r\n\r\n'
        b"--b\r\n\r\ntext\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>html\r\n--b--\r\n"
    )
    assert good(raw).data is raw


# -- line endings


def test_lf_only_becomes_crlf() -> None:
    assert good(CLEAN.replace(b"\r\n", b"\n")).data == CLEAN


@pytest.mark.parametrize(
    "raw",
    [
        CLEAN + b"bare\nLF\r\n",
        CLEAN + b"bare\rCR\r\n",
        CLEAN.replace(b"\r\n", b"\r"),
        CLEAN.replace(b"\r\n", b"\n") + b"one\r\n",
        CLEAN + b"\r",
        CLEAN + b"\n.\n",
        CLEAN + b"\r\n.\n",
        CLEAN + b"\n\r.\r\n",
        HEAD + b"X: a\rb\r\n\r\n",
        CLEAN + b"nul \0\r\n",
        HEAD + b"X: \0\r\n\r\n",
    ],
)
def test_mixed_line_endings_and_nul_are_refused(raw: bytes) -> None:
    assert bad(raw).field == "message"


def test_a_last_line_gets_its_end() -> None:
    assert good(CLEAN[:-2]).data == CLEAN
    assert good(HEAD[:-2]).data == HEAD + b"\r\n"
    assert good(HEAD).data == HEAD + b"\r\n"


LINES = st.lists(
    st.binary(max_size=60).map(lambda b: b.replace(b"\r", b"").replace(b"\n", b"")), max_size=8
)


@given(st.binary(max_size=200))
def test_whatever_comes_in_no_bare_cr_lf_or_nul_and_no_long_line_goes_out(body: bytes) -> None:
    found = normal(HEAD + b"\r\n" + body)
    if isinstance(found, Normalised):
        assert b"\0" not in found.data
        rest = found.data.replace(b"\r\n", b"")
        assert b"\r" not in rest
        assert b"\n" not in rest
        assert max(map(len, found.data.split(b"\r\n"))) <= 998
        assert found.data.endswith(b"\r\n")
        assert found.data.isascii() or found.eight_bit


@given(LINES, st.sampled_from([b"\r\n", b"\n"]))
def test_either_line_ending_alone_gives_the_same(lines: list[bytes], end: bytes) -> None:
    assume(not any(b"\0" in line for line in lines))
    text = HEAD + b"\r\n" + b"".join(line + b"\r\n" for line in lines)
    assert good(text.replace(b"\r\n", end)).data == good(text).data


# -- idempotence, over messages with everything in them

HEADERS = st.lists(
    st.sampled_from(
        [
            b"Bcc: hidden@b.example\r\n",
            b"Resent-Bcc: hidden@b.example\r\n",
            b"Return-Path: <hidden@b.example>\r\n",
            b"X-Postyard-Debug: 1\r\n",
            b"X-Long: " + b"word " * 400 + b"\r\n",
            "Subject: Grüße\r\n".encode(),
            "To: Jörg <j@b.example>, b@b.example\r\n".encode(),
            "Cc: jörg@b.example\r\n".encode(),
            "Reply-To: =?utf-8?q?=C3=BC?= <a@bücher.example>\r\n".encode(),
            b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\n",
            b'MIME-Version: 1.0\r\nContent-Type: application/octet-stream; name="\xc3\xbc.bin"\r\n',
            b"Content-Transfer-Encoding: base64\r\n",
            b"Content-Transfer-Encoding: 8bit\r\n",
            b"Received: from a by b\r\n",
            b"Date: Tue, 24 Nov 2026 15:00:00 +0000\r\n",
            b"Date:\r\n",
            b"Message-ID: <1@x.example>\r\n",
        ]
    ),
    unique=True,
    max_size=8,
)
BODIES = st.lists(
    st.sampled_from(
        [b"plain", b"", b".", b"..", b"\xff\xfe", "größer".encode(), b"x" * 998, b"y" * 1500,
         b"From here", b"trailing \t", b"--b", b"--b--", b"=3D", b"YWJj"]
    ),
    max_size=12,
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))  # fmt: skip


@settings(max_examples=300)
@given(HEADERS, BODIES, st.booleans())
def test_doing_it_twice_changes_nothing(
    headers: list[bytes], body: bytes, message_id: bool
) -> None:
    raw = b"From: ann@acme.example\r\n" + b"".join(headers) + b"\r\n" + body
    once = normal(raw, message_id=message_id)
    assume(isinstance(once, Normalised))
    assert isinstance(once, Normalised)
    twice = good(once.data, message_id=message_id)
    assert twice.data == once.data
    assert (twice.eight_bit, twice.smtputf8) == (once.eight_bit, once.smtputf8)
    assert b"hidden@" not in once.data
    assert b"x-postyard" not in once.data.lower()
    assert max(map(len, once.data.split(b"\r\n"))) <= 998


# -- what is removed, what is added


@pytest.mark.parametrize(
    "name",
    ["Bcc", "bcc", "BCC", "Resent-Bcc", "Return-Path", "X-Postyard-Id", "x-postyard-Anything"],
)
def test_a_field_that_must_not_go_out_is_removed_also_folded_and_repeated(name: str) -> None:
    field = f"{name}: <secret@b.example>,\r\n\tsecret2@b.example\r\n".encode()
    found = good(field + HEAD + field + b"\r\nbody\r\n")
    assert found.data == HEAD + b"\r\nbody\r\n"


def test_what_is_missing_is_added_once() -> None:
    found = good(b"From: a@acme.example\r\nSubject: s\r\n\r\nb\r\n", later_ns=3600 * 10**9)
    assert found.data == (
        b"Received: by acme.example (Postyard) id token;\r\n\tTue, 24 Nov 2026 15:00:00 +0000\r\n"
        b"Date: Tue, 24 Nov 2026 16:00:00 +0000\r\n"
        b"Message-ID: <token@acme.example>\r\n"
        b"From: a@acme.example\r\nSubject: s\r\n\r\nb\r\n"
    )
    assert not found.lacks_message_id


def test_an_empty_date_or_message_id_counts_as_missing() -> None:
    found = good(b"Date:\r\nMessage-ID:  \r\nFrom: a@acme.example\r\n\r\n")
    assert names(found).count("date") == 1
    assert parsed(found)["message-id"] == "<token@acme.example>"


def test_for_bulk_the_message_id_is_left_to_each_delivery() -> None:
    found = good(b"From: a@acme.example\r\n\r\n", message_id=False)
    assert found.lacks_message_id
    assert "message-id" not in names(found)
    assert not good(CLEAN, message_id=False).lacks_message_id


# -- what is refused


@pytest.mark.parametrize(
    ("header", "field"),
    [
        (b"To: b@b.example\r\n", "header.from"),
        (b"From:\r\n", "header.from"),
        (b"From: a@acme.example\r\nFrom: a@acme.example\r\n", "header.from"),
        (b"From: a@acme.example, b@acme.example\r\n", "header.from"),
        (b"From: a@other.example\r\n", "header.from"),
        (b"From: a@sub.acme.example\r\n", "header.from"),
        (b"From: a@acme.example.evil.example\r\n", "header.from"),
        (b"From: a@acme.example <b@other.example>\r\n", "header.from"),
        (b"From: \xff <a@acme.example>\r\n", "header.from"),
        (b"From: Group: a@acme.example;\r\n", "header.from"),
        (HEAD + b"Subject: again\r\n", "header.subject"),
        (HEAD + b"subject: again\r\n", "header.subject"),
        (HEAD + b"To: again@b.example\r\n", "header.to"),
        (HEAD + b"Date: x\r\n", "header.date"),
        (HEAD + b"Message-ID: <2@x>\r\n", "header.message-id"),
        (HEAD + b"Reply-To: a@b.example\r\nReply-To: c@b.example\r\n", "header.reply-to"),
        (HEAD + b"no colon\r\n", "message"),
        (HEAD + b"Bcc : hidden@b.example\r\n", "message"),
        (HEAD + b"X:\x0bvertical\r\n", "message"),
        (HEAD + b"X: a\x1bb\r\n", "message"),
        (HEAD + b"X: a\r\n \t\r\n b\r\n", "message"),
        (b" " + HEAD, "message"),
        (b"From ann Tue Nov 24\r\n" + HEAD, "message"),
        (HEAD + b": no name\r\n", "message"),
        (HEAD + "Ü: x\r\n".encode(), "message"),
        (b"\r\n" + HEAD, "message"),
        (HEAD + b"X: " + b"x" * 1000 + b"\r\n", "header.x"),
        (HEAD + b"Y: " + b"x" * (300 << 10) + b"\r\n", "message"),
        (HEAD + b"X: y\r\n" * 1001, "message"),
        (HEAD + b"X: \xff\xfe\r\n", "header.x"),
        (HEAD.replace(b"<1@", "<ü@".encode()), "header.message-id"),
    ],
)
def test_a_header_that_breaks_a_rule_is_refused_by_name(header: bytes, field: str) -> None:
    problem = bad(header + b"\r\nbody\r\n")
    assert problem.field == field, problem
    assert not problem.too_large


def test_more_than_fifty_received_is_a_loop() -> None:
    received = b"Received: from a by b; date\r\n"
    head = HEAD.partition(b"\r\n")[2]
    good(received * 50 + head + b"\r\n")
    assert bad(received * 51 + head + b"\r\n").rule.startswith("5.4.6")


def test_too_large_is_said_before_and_after_encoding() -> None:
    assert bad(CLEAN + b"x" * 1000 + b"\r\n", max_bytes=1000).too_large
    binary = HEAD + b"Content-Type: application/octet-stream\r\n\r\n" + b"\xff" * 5000
    assert bad(binary, max_bytes=6000).too_large


# -- 8 bits, long lines


def test_text_in_8_bit_becomes_quoted_printable_and_reads_the_same() -> None:
    text = "Grüße an alle, die dies lesen.\r\n" * 20
    found = good(
        HEAD
        + b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        + b"Content-Transfer-Encoding: 8bit\r\n\r\n"
        + text.encode()
    )
    message = parsed(found)
    assert message["content-transfer-encoding"] == "quoted-printable"
    assert message.get_content() == text
    assert not found.eight_bit
    assert any("encoded anew" in warning for warning in found.warnings)


def test_text_of_mostly_8_bit_becomes_base64() -> None:
    text = "Привет, мир.\r\n" * 20
    found = good(HEAD + b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + text.encode())
    assert parsed(found)["content-transfer-encoding"] == "base64"
    assert parsed(found).get_content() == text
    assert parsed(found)["mime-version"] == "1.0"


def test_8_bit_without_any_mime_is_labelled() -> None:
    found = good(HEAD + "\r\nGrüße\r\n".encode())
    assert parsed(found).get_content() == "Grüße\r\n"
    latin = good(HEAD + b"\r\nGr\xfc\xdfe\r\n")
    assert parsed(latin).get_param("charset") == "unknown-8bit"


def test_a_long_line_is_encoded_and_reads_the_same() -> None:
    text = b"word " * 500 + b"\r\nshort\r\n"
    found = good(HEAD + b"\r\n" + text)
    assert parsed(found).get_payload(decode=True) == text


def test_base64_in_one_line_is_wrapped() -> None:
    head = HEAD + b"MIME-Version: 1.0\r\nContent-Type: application/pdf\r\n"
    found = good(head + b"Content-Transfer-Encoding: base64\r\n\r\n" + b"QUJD" * 600 + b"\r\n")
    assert parsed(found).get_payload(decode=True) == b"ABC" * 600


def test_only_the_part_that_needs_it_is_touched() -> None:
    clean = b'Content-Type: text/html; charset="utf-8"\r\nX:  odd   spacing\r\n\r\n<p>fine</p>\r\n'
    raw = HEAD + (
        b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n"
        b'Content-Type: multipart/mixed; boundary="b b"\r\n\r\npre\xe4mble\r\n'
        b"--b b\r\n" + clean + b"--b b \r\n"
        b"Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n"
        b'Content-Disposition: attachment; filename="\xc3\xbc.png"\r\n\r\n'
        b"\x89PNG\xff\r\n--b b\r\n"
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        b"From: x@y.example\r\nSubject: Gr\xc3\xbc\xc3\x9fe\r\n\r\n\xc3\xbcber\r\n"
        b"--b b--\r\nepil\xf6gue\r\n"
    )
    found = good(raw)
    assert found.data.isascii()
    assert clean in found.data
    message = parsed(found)
    assert message["content-transfer-encoding"] == "7bit"
    _, image, inner = list(message.iter_parts())
    assert image.get_payload(decode=True) == b"\x89PNG\xff"
    assert image.get_filename() == "ü.png"
    forwarded = inner.get_content()
    assert forwarded["subject"] == "Grüße"
    assert forwarded.get_payload(decode=True).decode() == "über"
    assert good(found.data).data == found.data


SIGNED = (
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/signed; protocol="application/pgp-signature"; boundary=b\r\n\r\n'
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"%b\r\n--b\r\nContent-Type: application/pgp-signature\r\n\r\nsig\r\n--b--\r\n"
)


@pytest.mark.parametrize("kind", [b"signed", b"encrypted"])
def test_nothing_in_signed_or_encrypted_mime_is_touched(kind: bytes) -> None:
    raw = HEAD + SIGNED.replace(b"signed", kind) % "Grüße".encode()
    found = good(raw)
    assert found.data == raw
    assert found.eight_bit
    seven = HEAD + SIGNED % b"plain"
    assert good(seven).data is seven
    assert "signed or encrypted" in bad(HEAD + SIGNED % (b"x" * 999)).rule


def test_an_8_bit_header_becomes_encoded_words_that_read_the_same() -> None:
    raw = (
        "From: Jörg Müller <j@acme.example>\r\n"
        'To: "Ünal, Ö." <u@b.example>, plain@b.example (Übung), Gruppe Ä: x@b.example;\r\n'
        "Subject: Plain words, dann größere Übungen =?utf-8?q?=C3=A4?= ö und so weiter\r\n"
        "X-Note: " + "sehr größer " * 30 + "\r\n\r\n"
    ).encode()
    found = good(raw)
    assert found.data.isascii()
    assert not found.smtputf8
    message = parsed(found)
    assert message["from"] == "Jörg Müller <j@acme.example>"
    assert message["subject"] == "Plain words, dann größere Übungen ä ö und so weiter"
    assert message["x-note"].split() == ["sehr", "größer"] * 30
    assert [str(a.addr_spec) for a in message["to"].addresses] == [
        "u@b.example", "plain@b.example", "x@b.example",
    ]  # fmt: skip
    assert message["to"].addresses[0].display_name == "Ünal, Ö."


def test_a_local_part_that_is_not_ascii_needs_smtputf8_and_a_domain_does_not() -> None:
    found = good("From: a@bücher.example\r\nTo: b@bücher.example\r\n\r\n".encode())
    assert found.header_domain == "xn--bcher-kva.example"
    assert found.data.isascii()
    assert not found.smtputf8
    local = good("From: a@acme.example\r\nTo: jörg@bücher.example\r\n\r\n".encode())
    assert local.smtputf8
    assert "To: jörg@xn--bcher-kva.example".encode() in local.data
    assert not local.eight_bit


def test_a_long_list_of_recipients_is_folded() -> None:
    to = ", ".join(f"person-{i}@b.example" for i in range(200)).encode()
    found = good(b"From: a@acme.example\r\nTo: " + to + b"\r\n\r\n")
    assert max(map(len, found.data.split(b"\r\n"))) <= 998
    assert len(parsed(found)["to"].addresses) == 200


# -- MIME bounds, cheaply


def nested(depth: int, end: bytes = b"the end\r\n") -> bytes:
    return HEAD + b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (at, at)
        for at in range(depth)
    ) + b"\r\n" + end  # fmt: skip


def attached(depth: int) -> bytes:
    return HEAD + b"Content-Type: message/rfc822\r\n\r\n" * depth + b"\r\nend\r\n"


@pytest.mark.parametrize("end", [b"the end\r\n", b"\xff\r\n"])
@pytest.mark.parametrize("depth", [1000, 100_000])
def test_deep_nesting_is_refused_cheaply(depth: int, end: bytes) -> None:
    for raw in (nested(depth, end), attached(depth)):
        began = time.thread_time()
        assert "nested more than 100 deep" in bad(raw).rule
        assert time.thread_time() - began < 0.5


def test_a_hundred_levels_are_allowed() -> None:
    assert good(nested(100)).data == nested(100)
    assert not good(nested(100, b"\xff\r\n")).eight_bit
    good(attached(99))


def test_more_than_a_thousand_parts_are_refused() -> None:
    head = HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    good(head + b"--b\r\n\r\nx\r\n" * 999 + b"--b--\r\n")
    assert "1000 MIME parts" in bad(head + b"--b\r\n\r\nx\r\n" * 1000 + b"--b--\r\n").rule
    # As many lines that only look like delimiters are nobody's business.
    good(head + b"--b\r\n\r\n" + b"--c\r\n" * 5000 + b"--b--\r\n")


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n" * 300_000 + b"\xff",
        HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + b"X: y\r\n" * 300_000,
        HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--\r\n" * 500_000 + b"\xff",
        HEAD + b"X: " + b"(" * 100_000 + b"\r\n\r\n",
        b"From: " + b"(" * 100_000 + b"\r\n\r\n",
        b"From: " + b'"' * 100_000 + b" <a@acme.example>\r\n\r\n",
        b"From: " + b"a." * 50_000 + b"@acme.example\r\n\r\n",
        b"From: " + b" " * 100_000 + b"@\r\n\r\n",
        "To: ü".encode() + b"(" * 100_000 + b"\r\n" + HEAD.replace(b"To", b"X-To") + b"\r\n",
        "To: ü".encode() + b"<" * 100_000 + b"\r\n" + HEAD.replace(b"To", b"X-To") + b"\r\n",
        HEAD + b"Content-Type: " + b'a=" ' * 20_000 + b"\r\n\r\n\xff",
        HEAD + b"Content-Type: multipart/x" + b"; boundary " * 20_000 + b"\r\n\r\n\xff",
        HEAD + b"X:" + b"\r\n a" * 60_000 + b"\r\n\r\n",
        HEAD + b"X: " + "ü ".encode() * 80_000 + b"\r\n\r\n",
    ],
)  # fmt: skip
def test_no_message_is_slow_to_judge(raw: bytes) -> None:
    began = time.thread_time()
    normal(raw)
    assert time.thread_time() - began < 5


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            [b"--a\r\n", b"--b\r\n", b"--a--\r\n", b"--b--\r\n", b"\r\n", b"x\r\n", b"\xff\r\n",
             b"Content-Type: multipart/mixed; boundary=a\r\n", b"Content-Type: text/html\r\n",
             b"Content-Type: multipart/signed; boundary=b\r\n", b"Content-Type: message/rfc822\r\n",
             b"Content-Transfer-Encoding: base64\r\n", b"y" * 1200 + b"\r\n", b"--a \r\n", b"----\r\n",
             b"Content-Type: multipart/digest; boundary=a\r\n"]
        ),
        max_size=25,
    )
)  # fmt: skip
def test_any_broken_mime_is_fit_or_refused_and_stays_so(lines: list[bytes]) -> None:
    found = normal(HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"".join(lines))
    if isinstance(found, Problem):
        return
    assert max(map(len, found.data.split(b"\r\n"))) <= 998
    assert found.data.isascii() or found.eight_bit or found.smtputf8
    assert not re.search(rb"[^\r]\n|\r[^\n]", found.data)
    assert good(found.data).data == found.data
