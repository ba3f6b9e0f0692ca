"""Addresses are read by a grammar that has no room for a command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.address import Address, parse
from services.ingest.mailbox import Mailbox, parse_mailbox
from services.ingest.problem import Problem

GOOD = {
    "a@b.example": Address("a", "b.example"),
    "First.Last+tag=x@Sub.Example.COM": Address("First.Last+tag=x", "sub.example.com"),
    "{$!#%}@x-y.example": Address("{$!#%}", "x-y.example"),
    "a@1.example": Address("a", "1.example"),
    "j@bücher.example": Address("j", "xn--bcher-kva.example"),
    "j@XN--BCHER-KVA.example": Address("j", "xn--bcher-kva.example"),
    "用户@例え.test": Address("用户", "xn--r8jz45g.test"),
    # NFC: the same mailbox however it was typed.
    "u\u0308@a.example": Address("ü", "a.example"),
}


@pytest.mark.parametrize(("text", "address"), GOOD.items())
def test_a_good_address_is_read(text: str, address: Address) -> None:
    assert parse(text, "to") == address


BAD = [
    "", "a", "@", "a@", "@b.example", "a@b", "a@localhost", "a@@b.example", "a@b@c.example",
    "a@b..example", ".a@b.example", "a.@b.example", "a..b@c.example", "a@-b.example",
    "a@b-.example", "a@b.example.", "a@.b.example", "a b@c.example", " a@b.example",
    "a@b.example ", "a@b.example\n", "a\r\n@b.example", "a@b.example\r\nRCPT TO:<x@y.example>",
    "a\0@b.example", "a\t@b.example", '"a b"@c.example', '"a"@c.example', "a@[192.0.2.1]",
    "a@[IPv6:2001:db8::1]", "a@192.0.2.1", "a@b.example:25", "a:b@c.example", "<a@b.example>",
    "A <a@b.example>", "a(c)@b.example", "a,b@c.example", "a;b@c.example", "a\\b@c.example",
    "a@b_c.example", "a@b%0d%0a.example", "x" * 65 + "@b.example", "a@" + "b" * 64 + ".example",
    "a@" + "b." * 130 + "example", "a\u2028@b.example", "a\x85@b.example", "a\u00a0@b.example",
    "ü\n@b.example", "ü@[192.0.2.1]", "ü@b.example:25", "a@xn--.example", "a@\u2024.example",
    "ü" * 40 + "@b.example", "\u202ea@b.example", "a@ex\u200bample..test", "a@b.123",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_a_bad_address_is_refused_and_the_rule_is_named(text: str) -> None:
    problem = parse(text, "to[3]")
    assert isinstance(problem, Problem), problem
    assert problem.field == "to[3]"
    assert problem.rule


@given(st.text(max_size=40).map(lambda t: t + "@b.example") | st.text(max_size=60))
def test_nothing_that_passes_can_break_a_command(text: str) -> None:
    address = parse(text, "to")
    if isinstance(address, Address):
        wire = str(address)
        assert not set(wire) & set(' \t\r\n\0<>"(),:;[]\\')
        assert wire.count("@") == 1
        assert address.domain.isascii()
        assert wire.isprintable()
        assert parse(wire, "to") == address


@given(st.from_regex(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}(\.[a-z0-9]{1,10}){0,3}", fullmatch=True))
def test_every_dot_atom_is_allowed_before_the_at(local: str) -> None:
    assert parse(f"{local}@b.example", "to") == Address(local, "b.example")


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("a@b.example", "", "a@b.example"),
        (" a@b.example ", "", "a@b.example"),
        ("<a@b.example>", "", "a@b.example"),
        ("Ann <a@b.example>", "Ann", "a@b.example"),
        ("J. Q. Public <a@b.example>", "J. Q. Public", "a@b.example"),
        ('"Ann, of \\"B\\"" <a@b.example>', 'Ann, of "B"', "a@b.example"),
        ("Jörg <j@b.example>", "Jörg", "j@b.example"),
        ("a@b.example (Ann)", "Ann", "a@b.example"),
        ("=?utf-8?q?J=C3=B6rg?= <j@b.example>", "=?utf-8?q?J=C3=B6rg?=", "j@b.example"),
        ('"x@y.example" <a@b.example>', "x@y.example", "a@b.example"),
    ],
)
def test_a_mailbox_is_read(text: str, name: str, address: str) -> None:
    mailbox = parse_mailbox(text, "from")
    assert isinstance(mailbox, Mailbox), mailbox
    assert (mailbox.name, str(mailbox.address)) == (name, address)


@pytest.mark.parametrize(
    "text",
    [
        "", "Ann", "a@b.example, c@d.example", "a@b.example c@d.example", "x@y.example <a@b.example>",
        "Group: a@b.example;", "<@r.example:a@b.example>", "Ann <a@b.example> <c@d.example>",
        "Ann <a@b.example", "Ann a@b.example>", "Ann <a@b.example>,", "((a)) a@b.example",
        '"Ann <a@b.example>', "alice@a.example]<bob@b.example>", "Ann <a@b.example>\r\nBcc: x@y.example",
        "(" * 10_000 + "a@b.example", '"' + "\\" * 9_999 + " <a@b.example>",
    ],
)  # fmt: skip
def test_what_two_readers_could_take_for_different_addresses_is_refused(text: str) -> None:
    assert isinstance(parse_mailbox(text, "from"), Problem)
