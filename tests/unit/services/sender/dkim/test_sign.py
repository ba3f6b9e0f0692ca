import hashlib
from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from services.sender.dkim.canonicalise import body_hash, relaxed_fields, relaxed_value
from services.sender.dkim.sign import OVERSIGNED, SIGNED, Signer, hashes_of, sign
from shared.runtime.settings import Canonicalization
from tests.support.dkim import fields_of, verified
from tests.support.messages import messages, on_the_wire

_MESSAGE = (
    b"From: A <a@acme.example>\r\nTo: b@c.example\r\nSubject: hello\r\nDate: Fri, 15 Jan 2027 08:00:00 +0000\r\n"
    b"Message-ID: <1@acme.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello.\r\n"
)


@pytest.fixture(scope="module")
def signers(rsa_key: RSAPrivateKey, ed25519_key: Ed25519PrivateKey) -> tuple[Signer, Signer]:
    return Signer("acme.example", "r", rsa_key), Signer("acme.example", "e", ed25519_key)


@given(messages())
@settings(max_examples=50, deadline=None)
def test_dkimpy_refuses_a_body_that_has_grown(
    signers: tuple[Signer, Signer], message: bytes
) -> None:
    whole = fields_of(signers, message) + on_the_wire(message)
    assert not verified(whole + b"x", signers[0].key, 0)
    assert not verified(whole + b"x", signers[1].key, 1)


@pytest.mark.parametrize("name", [name.decode() for name in OVERSIGNED])
@pytest.mark.parametrize("at", [0, 1], ids=["rsa", "ed25519"])
def test_an_oversigned_field_cannot_be_added(
    signers: tuple[Signer, Signer], name: str, at: int
) -> None:
    added = f"{name.title()}: forged\r\n".encode()
    field = fields_of(signers, _MESSAGE)
    assert verified(field + _MESSAGE, signers[at].key, at)
    assert not verified(added + field + _MESSAGE, signers[at].key, at)
    assert not verified(field + added + _MESSAGE, signers[at].key, at)


@pytest.mark.parametrize("name", sorted(name.decode() for name in SIGNED))
def test_a_signed_field_cannot_be_changed(signers: tuple[Signer, Signer], name: str) -> None:
    message = _MESSAGE.replace(b"\r\n\r\n", b"\r\n" + name.encode() + b": before\r\n\r\n", 1)
    whole = fields_of(signers, message) + message
    assert verified(whole, signers[0].key)
    assert not verified(whole.replace(b"before", b"behind"), signers[0].key)


def test_what_is_put_before_the_body_is_signed_with_it(signers: tuple[Signer, Signer]) -> None:
    prepend = b"List-Unsubscribe: <https://acme.example/u/1>\r\n"
    field = fields_of(signers, _MESSAGE, prepend)
    assert verified(field + prepend + _MESSAGE, signers[0].key)
    assert not verified(field + _MESSAGE, signers[0].key)


def test_fields_that_nobody_signs_may_be_added(signers: tuple[Signer, Signer]) -> None:
    whole = fields_of(signers, _MESSAGE) + _MESSAGE
    assert verified(b"Received: from here\r\nX-Spam: no\r\n" + whole, signers[0].key)


@given(messages(), st.integers(0, 1), st.sampled_from(["a.example", "a" * 60 + ".example"]))
@settings(max_examples=50, deadline=None)
def test_no_line_of_the_field_is_longer_than_78(
    signers: tuple[Signer, Signer], message: bytes, at: int, domain: str
) -> None:
    signer = Signer(domain, "selector2026", signers[at].key)
    field = fields_of([signer], message)
    assert field.endswith(b"\r\n")
    lines = field.removesuffix(b"\r\n").split(b"\r\n")
    assert max(map(len, lines)) <= 78
    assert all(line[:1] == b" " and line.strip() for line in lines[1:])


def test_a_large_key_is_folded_as_well() -> None:
    key = rsa.generate_private_key(65537, 4096)
    field = fields_of([Signer("a.example", "s", key)], _MESSAGE)
    assert max(map(len, field.split(b"\r\n"))) <= 78


def test_the_tags_are_those_of_the_design(
    rsa_key: RSAPrivateKey, ed25519_key: Ed25519PrivateKey
) -> None:
    signers = (
        Signer("acme.example", "r", rsa_key),
        Signer("acme.example", "e", ed25519_key, Canonicalization("simple", "relaxed")),
    )
    for field, algorithm, selector, ways in zip(
        relaxed_fields(fields_of(signers, _MESSAGE, now_s=1_700_000_000)),
        [b"rsa-sha256", b"ed25519-sha256"],
        [b"r", b"e"],
        [b"relaxed/relaxed", b"simple/relaxed"],
        strict=True,
    ):
        name, _, value = field[1].partition(b":")
        tags = dict(tag.strip().split(b"=", 1) for tag in value.split(b";"))
        assert name == b"dkim-signature"
        assert list(tags) == [b"v", b"a", b"c", b"d", b"s", b"t", b"h", b"bh", b"b"]
        assert (tags[b"a"], tags[b"s"], tags[b"t"]) == (algorithm, selector, b"1700000000")
        assert (tags[b"c"], tags[b"d"]) == (ways, b"acme.example")


def test_a_known_hash_is_taken_at_its_word(signers: tuple[Signer, Signer]) -> None:
    known = {"relaxed": b"known"}
    assert hashes_of(signers, _MESSAGE, known) is known  # type: ignore[arg-type]
    assert b"bh=known;" in sign(signers, b"", _MESSAGE, 1, known)  # type: ignore[arg-type]


def test_each_way_is_hashed_once(rsa_key: RSAPrivateKey) -> None:
    signers = [
        Signer("a.example", "s", rsa_key, Canonicalization(header, body))
        for header in ("relaxed", "simple")
        for body in ("relaxed", "simple")
    ]
    assert hashes_of(signers, b"A: b\r\n\r\n \r\n", {}) == {
        "relaxed": body_hash(b"", "relaxed"),
        "simple": body_hash(b" \r\n", "simple"),
    }


def test_the_signature_published_in_rfc_8463_is_the_one_we_make() -> None:
    key = Ed25519PrivateKey.from_private_bytes(
        b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    )
    head = (
        b"From: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\n"
        b"Subject: Is dinner ready?\r\nDate: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
        b"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
    )
    body = b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"
    field = (
        b" v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n"
        b" q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n"
        b" bh=" + body_hash(body, "relaxed") + b";\r\n b="
    )
    signed = b"".join(b"%b\r\n" % canonical for _, canonical in relaxed_fields(head))
    digest = hashlib.sha256(signed + b"dkim-signature:" + relaxed_value(field)).digest()
    assert body_hash(body, "relaxed") == b"2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
    assert b64encode(key.sign(digest)) == (
        b"/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
    )
