"""Fields become a message that says what they say, and nothing in a field can become a header."""

import base64
import email
import email.policy
from email.message import EmailMessage
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.compose import compose
from services.ingest.normalise import Normalised
from services.ingest.problem import Problem
from shared.records.submission import Attachment, Message
from tests.unit.services.ingest.making import good, normal

BASE = Message(from_="Ann <ann@acme.example>", subject="Hello", text="Hi.")


def message(**fields: Any) -> Message:
    return msgspec.structs.replace(BASE, **fields)


def attached(**fields: Any) -> Message:
    base = {"filename": "a.pdf", "content": "QUJD", "content_type": "application/pdf"}
    return message(html="<p>x", attachments=(Attachment(**(base | fields)),))


def built(made: Message, *recipients: str) -> EmailMessage:
    raw = compose(made, recipients or ("bob@b.example",))
    assert isinstance(raw, bytes), raw
    assert raw.isascii()
    found = good(raw)
    assert b"encoded anew" not in str(found.warnings).encode()
    return email.message_from_bytes(found.data, policy=email.policy.default)


def problems(made: Message) -> list[str]:
    found = compose(made, ("bob@b.example",))
    assert isinstance(found, tuple), found
    return [problem.field for problem in found]


# -- what it builds


def test_text_alone_is_one_part() -> None:
    found = built(message(text="Grüße\nund mehr\n"))
    assert found.get_content_type() == "text/plain"
    assert found.get_content().split() == ["Grüße", "und", "mehr"]
    assert found["from"] == "Ann <ann@acme.example>"
    assert found["to"] == "bob@b.example"
    assert found["subject"] == "Hello"
    assert found["mime-version"] == "1.0"


def test_everything_at_once_nests_as_readers_expect() -> None:
    made = message(
        html="<img src=cid:logo@x>",
        attachments=(
            Attachment(
                filename="Übersicht 2026.pdf", content="QUJD", content_type="application/pdf"
            ),
            Attachment(filename="l.png", content="AAEC", content_type="image/png", cid="logo@x"),
            Attachment(
                filename="i.ics", content="QQ==", content_type='text/calendar; method="REQUEST"'
            ),
        ),
    )
    found = built(made)
    kinds = [part.get_content_type() for part in found.walk()]
    assert kinds == [
        "multipart/mixed", "multipart/alternative", "text/plain", "multipart/related", "text/html",
        "image/png", "application/pdf", "text/calendar",
    ]  # fmt: skip
    parts = {part.get_content_type(): part for part in found.walk()}
    assert parts["application/pdf"].get_filename() == "Übersicht 2026.pdf"
    assert parts["application/pdf"].get_payload(decode=True) == b"ABC"
    assert parts["image/png"]["content-id"] == "<logo@x>"
    assert parts["image/png"].get_content_disposition() == "inline"
    assert parts["text/calendar"].get_param("method") == "REQUEST"


def test_html_alone_is_one_part() -> None:
    assert built(message(text=None, html="<p>ü</p>")).get_content_type() == "text/html"


def test_people_are_shown_by_name_whatever_the_name() -> None:
    found = built(
        message(
            from_='"Müller, Jörg" <j@acme.example>',
            to=('"Smith, \\"Bob\\"" <bob@b.example>', "plain@b.example", "Ünal <u@bücher.example>"),
            cc=("C. D. <c@b.example>",),
            reply_to=("Help <help@acme.example>",),
        )
    )
    assert [a.display_name for a in found["to"].addresses] == ['Smith, "Bob"', "", "Ünal"]
    assert found["to"].addresses[2].domain == "xn--bcher-kva.example"
    assert found["from"].addresses[0].display_name == "Müller, Jörg"
    assert found["cc"].addresses[0].display_name == "C. D."
    assert found["reply-to"].addresses[0].addr_spec == "help@acme.example"


def test_several_recipients_are_never_named_to_each_other() -> None:
    found = built(BASE, "a@b.example", "c@d.example")
    assert found["to"] == "undisclosed-recipients:;"
    assert b"d.example" not in found.as_bytes()


def test_text_that_looks_encoded_is_shown_as_it_is() -> None:
    assert built(message(subject="=?utf-8?q?a=0AX?= b"))["subject"] == "=?utf-8?q?a=0AX?= b"


@given(
    st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=200)
)
def test_any_subject_reads_as_it_was_written(subject: str) -> None:
    found = built(message(subject=subject))
    assert str(found["subject"]).split() == subject.split()


@given(st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=80))
def test_any_filename_reads_as_it_was_written(name: str) -> None:
    raw = compose(attached(filename=name), ("b@b.example",))
    assert isinstance(raw, bytes)
    parsed = email.message_from_bytes(good(raw).data, policy=email.policy.default)
    [part] = parsed.iter_attachments()
    found = part.get_filename()
    assert found is not None
    assert found.split() == name.split()


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300))
def test_any_text_reads_as_it_was_written(text: str) -> None:
    found = built(message(text=text)).get_content()
    assert found.rstrip().splitlines() == text.rstrip().splitlines()


@given(st.binary(max_size=400))
def test_any_attachment_comes_through(data: bytes) -> None:
    raw = compose(attached(content=base64.b64encode(data).decode()), ("b@b.example",))
    assert isinstance(raw, bytes)
    parsed = email.message_from_bytes(good(raw).data, policy=email.policy.default)
    [part] = parsed.iter_attachments()
    assert part.get_payload(decode=True) == data


def test_a_message_built_from_fields_passes_normalise_twice_unchanged() -> None:
    raw = compose(attached(), ("b@b.example",))
    assert isinstance(raw, bytes)
    once = good(raw)
    assert good(once.data).data == once.data


# -- what it refuses


@pytest.mark.parametrize(
    ("made", "field"),
    [
        (message(text=None), "message"),
        (message(from_=""), "message.from"),
        (message(from_="Ann"), "message.from"),
        (message(from_="a@acme.example, b@acme.example"), "message.from"),
        (message(to=("ok@b.example", "bad")), "message.to[1]"),
        (message(cc=("x y@b.example",)), "message.cc[0]"),
        (message(reply_to=("a@[127.0.0.1]",)), "message.reply_to[0]"),
        (message(subject="x" * 20_000), "message.subject"),
        (message(text="a\0b"), "message.text"),
        (message(html="a\0b"), "message.html"),
        (message(headers={"Subject": "x"}), "message.headers.Subject"),
        (message(headers={"from": "x"}), "message.headers.from"),
        (message(headers={"Bcc": "x@b.example"}), "message.headers.Bcc"),
        (message(headers={"Content-Type": "text/html"}), "message.headers.Content-Type"),
        (message(headers={"MIME-Version": "1.0"}), "message.headers.MIME-Version"),
        (message(headers={"X-Postyard-A": "1"}), "message.headers.X-Postyard-A"),
        (message(headers={"X-A": "1", "x-a": "2"}), "message.headers.x-a"),
        (message(headers={"": "1"}), "message.headers."),
        (message(headers={"X A": "1"}), "message.headers.X A"),
        (message(headers={"X-Ü": "1"}), "message.headers.X-Ü"),
        (message(headers={"References": "<ü@b.example>"}), "message.headers.References"),
        (message(headers={f"X-{at}": "" for at in range(101)}), "message.headers"),
        (attached(content="not base64!"), "message.attachments[0].content"),
        (attached(content="QUJ"), "message.attachments[0].content"),
        (attached(content="QÜJD"), "message.attachments[0].content"),
        (message(headers={"X-A": "x" * 2000}), "message.headers.X-A"),
        (attached(content_type="pdf"), "message.attachments[0].content_type"),
        (attached(content_type="multipart/mixed"), "message.attachments[0].content_type"),
        (attached(content_type="message/rfc822"), "message.attachments[0].content_type"),
        (attached(content_type="a/b; c"), "message.attachments[0].content_type"),
        (attached(filename=""), "message.attachments[0].filename"),
        (attached(filename="x" * 300), "message.attachments[0].filename"),
        (attached(cid="<a>"), "message.attachments[0].cid"),
        (msgspec.structs.replace(attached(cid="a"), html=None), "message.attachments"),
        (message(attachments=(Attachment(filename="a", content=""),) * 201), "message.attachments"),
    ],
)
def test_what_is_refused_names_its_field(made: Message, field: str) -> None:
    assert field in problems(made)


def test_all_problems_are_found_at_once() -> None:
    made = message(from_="x", subject="a\nb", to=("y",), headers={"Bcc": "z"}, text=None)
    assert len(problems(made)) == 5


# -- injection: every string in every field

EVIL = "Evil: yes"
BREAKS = [
    "\r\n", "\n", "\r", "\n\n", "\r\n\r\n", "\r\r\n", "\n\r", "\r\n ", "\n\t", "\r\n\t", "\x0b", "\x0c",
    "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\0", "\0\r\n", "\x1b[2K\r", "\x7f", "\x08",
    "%0d%0a", "%0A", "\\r\\n", "\\n", "&#13;&#10;", "=0D=0A", "=?utf-8?q?=0D=0A?=", "=?utf-8?q?=0A?=",
    "=?utf-8?b?DQo=?=", "=?utf-7?q?+AA0ACg-?=", "=\r\n", "\u010a", "\u560a", "嘊嘍", "\u0d0a", "\u202e", "\ufeff",
    "\u200b\n", "\r\n.\r\n", "\n.\n", "\r.\r", ";\r\n", ">\r\nRCPT TO:<x@y.example>", "\r\nDATA\r\n", '"\r\n',
    "x" * 2000, "x" * 997 + "\r\n", " " * 1500, "ü" * 1000, "\r\n" * 500, "(\r\n)",
]  # fmt: skip
STRINGS = [
    text for gap in BREAKS for text in (f"a{gap}{EVIL}", f"{gap}{EVIL}{gap}{gap}<script>body")
]

FIELDS = {
    "from": lambda s: message(from_=f'"{s}" <ann@acme.example>'),
    "from, unquoted": lambda s: message(from_=f"{s} <ann@acme.example>"),
    "from, address": lambda s: message(from_=f"ann{s}@acme.example"),
    "from, domain": lambda s: message(from_=f"ann@acme.example{s}"),
    "to": lambda s: message(to=(f'"{s}" <b@b.example>',)),
    "to, address": lambda s: message(to=(f"b@b.example{s}",)),
    "cc": lambda s: message(cc=(f"{s} <b@b.example>",)),
    "reply_to": lambda s: message(reply_to=(f'"{s}" <b@b.example>',)),
    "subject": lambda s: message(subject=s),
    "text": lambda s: message(text=s),
    "html": lambda s: message(html=s),
    "header value": lambda s: message(headers={"X-Custom": s}),
    "header name": lambda s: message(headers={f"X-{s}": "v"}),
    "references": lambda s: message(headers={"References": f"<{s}@b.example>"}),
    "list-unsubscribe": lambda s: message(headers={"List-Unsubscribe": f"<https://b.example/{s}>"}),
    "filename": lambda s: attached(filename=s),
    "content type": lambda s: attached(content_type=f"text/plain; name={s}"),
    "content type, quoted": lambda s: attached(content_type=f'text/plain; name="{s}"'),
    "content id": lambda s: attached(cid=s),
    "content": lambda s: attached(content=s),
}  # fmt: skip
KNOWN = {
    "from", "to", "cc", "reply-to", "subject", "mime-version", "content-type", "x-custom", "references",
    "content-transfer-encoding", "content-disposition", "content-id", "list-unsubscribe", "received",
    "date", "message-id",
}  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_no_string_in_any_field_adds_a_header_or_ends_one(field: str) -> None:
    assert len(STRINGS) >= 80
    refused = 0
    for text in STRINGS:
        found = compose(FIELDS[field](text), ("bob@b.example",))
        if isinstance(found, tuple):
            assert all(isinstance(problem, Problem) for problem in found)
            refused += 1
            continue
        result = normal(found)
        assert isinstance(result, Normalised), (text, result)
        bare = result.data.replace(b"\r\n", b"")
        assert not set(bare) & set(b"\r\n\0"), text
        assert max(map(len, result.data.split(b"\r\n"))) <= 998
        head = (
            result.data.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")
        )
        names = [line.partition(b":")[0].decode().lower() for line in head.split(b"\r\n")]
        assert len(set(names)) == len(names), text
        assert set(names) <= KNOWN | ({f"x-{text}".lower()} if field == "header name" else set())
        # A second opinion, from a parser that is lenient about line ends, on all parts.
        parsed = email.message_from_bytes(result.data, policy=email.policy.compat32)
        for part in parsed.walk():
            extra = {name.lower() for name in part.keys()} - KNOWN  # noqa: SIM118 - a Message is no dict
            assert extra <= {f"x-{text}".lower()}, (text, extra)
            assert not part.defects, (text, part.defects)
    if field not in ("text", "html", "content"):
        assert refused >= 20


@settings(max_examples=300)
@given(st.sampled_from(sorted(FIELDS)), st.text(max_size=60))
def test_no_text_whatever_in_any_field_adds_a_header(field: str, text: str) -> None:
    found = compose(FIELDS[field](text), ("bob@b.example",))
    if isinstance(found, bytes):
        result = normal(found)
        if isinstance(result, Problem):
            assert "is not one of the tenant's domains" in result.rule
            return
        head = result.data.partition(b"\r\n\r\n")[0]
        for line in head.split(b"\r\n"):
            if not line.startswith((b" ", b"\t")):
                name = line.partition(b":")[0].decode().lower()
                assert name in KNOWN or (field == "header name" and name == f"x-{text}".lower())
