"""Messages that nobody would write and everybody receives: odd folds, white space everywhere, repeats, eight bits, dots."""

from hypothesis import strategies as st

NAMES = [
    b"From", b"To", b"Cc", b"Subject", b"Date", b"Message-ID", b"Reply-To", b"Sender", b"MIME-Version", b"Content-Type",
    b"Content-Transfer-Encoding", b"List-Unsubscribe", b"List-Unsubscribe-Post", b"List-Id", b"Feedback-ID", b"References",
    b"In-Reply-To", b"Received", b"X-Anything", b"SUBJECT", b"subject", b"x-a",
]  # fmt: skip
_WHITE = st.sampled_from([b" ", b"  ", b"\t", b" \t ", b"   "])
_FOLDS = st.sampled_from([b"\r\n ", b"\r\n\t", b" \r\n ", b"\r\n  \t", b"\t\r\n\t"])
_SPACE = st.sampled_from([b" ", b"", b"  ", b"\t", b"\r\n ", b" \r\n\t"])
_SEVEN = st.binary(min_size=1, max_size=12).map(lambda raw: bytes(33 + byte % 94 for byte in raw))
_EIGHT = st.sampled_from(["é".encode(), "日本".encode(), b"\xff\xfe", b"\xa0", b"\x85"])
_WORDS = st.one_of(_SEVEN, _EIGHT, st.sampled_from([b".", b"..", b":", b"=", b"", b"a" * 1200]))


@st.composite
def values(draw: st.DrawFn) -> bytes:
    """The value of a field, from its colon on."""
    start = draw(_SPACE)
    pieces = draw(st.lists(st.one_of(_WORDS, _WHITE, _FOLDS), max_size=8))
    # No fold directly behind a fold: such a line is all white space, which RFC 5322 3.2.2 forbids and verifiers read in two ways.
    value = start + b"w" + b"w".join(pieces) + b"w"
    return value + draw(st.sampled_from([b"", b" ", b"\t", b"  "]))


@st.composite
def mailboxes(draw: st.DrawFn) -> bytes:
    """The value of a From that everybody can read, oddly spaced."""
    space, name = (
        draw(_SPACE),
        draw(
            st.sampled_from(
                [b"a@acme.example", b'"A  B"\t<a@acme.example>', b"A\r\n\t <a@acme.example>"]
            )
        ),
    )
    return space + name + draw(st.sampled_from([b"", b" ", b"\t "]))


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """A header with one From and whatever else, without the empty line."""
    rest = draw(st.lists(st.tuples(st.sampled_from(NAMES[1:]), values()), max_size=12))
    rest.insert(draw(st.integers(0, len(rest))), (b"From", draw(mailboxes())))
    return b"\r\n".join(name + b":" + value for name, value in rest)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A body: lines of words and white space; the last one may have no end."""
    line = st.lists(st.one_of(_WORDS, _WHITE), max_size=6).map(b"".join)
    lines = draw(st.lists(st.one_of(line, st.just(b""), _WHITE), max_size=8))
    return b"\r\n".join(lines) + draw(
        st.sampled_from([b"", b"\r\n", b"\r\n\r\n", b" ", b" \r\n\t\r\n"])
    )


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A whole message."""
    return draw(heads()) + b"\r\n\r\n" + draw(bodies())


def on_the_wire(message: bytes) -> bytes:
    """A message as it is sent: RFC 5321 4.1.1.4 wants the end of the last line."""
    return message if message.endswith(b"\r\n") else message + b"\r\n"
