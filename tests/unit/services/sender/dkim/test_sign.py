import hashlib
import time
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from services.sender.dkim.canonicalise import body_hash, relaxed_fields, relaxed_value
from services.sender.dkim.sign import OVERSIGNED, SIGNED, Signer, hash_of, sign
from tests.support.dkim import OPENDKIM, opendkim_results, published, verified
from tests.support.messages import heads, messages, on_the_wire

_NOW_S = 1_700_000_000
_MESSAGE = (
    b"From: A <a@acme.example>\r\nTo: b@c.example\r\nSubject: hello\r\nDate: Fri, 15 Jan 2027 08:00:00 +0000\r\n"
    b"Message-ID: <1@acme.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello.\r\n"
)


@pytest.fixture(scope="module")
def signers(rsa_key: RSAPrivateKey, ed25519_key: Ed25519PrivateKey) -> tuple[Signer, Signer]:
    return Signer("acme.example", "r", rsa_key), Signer("acme.example", "e", ed25519_key)


@given(messages(), heads())
@settings(max_examples=150, deadline=None)
def test_dkimpy_accepts_both_signatures_of_whatever_message(
    signers: tuple[Signer, Signer], message: bytes, more: bytes
) -> None:
    prepend = more.replace(b"From:", b"X-From:") + b"\r\n"
    whole = sign(signers, prepend, message, _NOW_S, None) + prepend + on_the_wire(message)
    assert verified(whole, signers[0].key, 0)
    assert verified(whole, signers[1].key, 1)


@given(messages())
@settings(max_examples=50, deadline=None)
def test_dkimpy_refuses_a_body_that_has_grown(
    signers: tuple[Signer, Signer], message: bytes
) -> None:
    whole = sign(signers, b"", message, _NOW_S, None) + on_the_wire(message)
    assert not verified(whole + b"x", signers[0].key, 0)
    assert not verified(whole + b"x", signers[1].key, 1)


@pytest.mark.parametrize("name", [name.decode() for name in OVERSIGNED])
@pytest.mark.parametrize("at", [0, 1], ids=["rsa", "ed25519"])
def test_an_oversigned_field_cannot_be_added(
    signers: tuple[Signer, Signer], name: str, at: int
) -> None:
    added = f"{name.title()}: forged\r\n".encode()
    field = sign(signers, b"", _MESSAGE, _NOW_S, None)
    assert verified(field + _MESSAGE, signers[at].key, at)
    assert not verified(added + field + _MESSAGE, signers[at].key, at)
    assert not verified(field + added + _MESSAGE, signers[at].key, at)


@pytest.mark.parametrize("name", sorted(name.decode() for name in SIGNED))
def test_a_signed_field_cannot_be_changed(signers: tuple[Signer, Signer], name: str) -> None:
    message = _MESSAGE.replace(b"\r\n\r\n", b"\r\n" + name.encode() + b": before\r\n\r\n", 1)
    whole = sign(signers, b"", message, _NOW_S, None) + message
    assert verified(whole, signers[0].key)
    assert not verified(whole.replace(b"before", b"behind"), signers[0].key)


def test_what_is_put_before_the_body_is_signed_with_it(signers: tuple[Signer, Signer]) -> None:
    prepend = b"List-Unsubscribe: <https://acme.example/u/1>\r\n"
    field = sign(signers, prepend, _MESSAGE, _NOW_S, None)
    assert verified(field + prepend + _MESSAGE, signers[0].key)
    assert not verified(field + _MESSAGE, signers[0].key)


def test_fields_that_nobody_signs_may_be_added(signers: tuple[Signer, Signer]) -> None:
    whole = sign(signers, b"", _MESSAGE, _NOW_S, None) + _MESSAGE
    assert verified(b"Received: from here\r\nX-Spam: no\r\n" + whole, signers[0].key)


@given(messages(), st.integers(0, 1), st.sampled_from(["a.example", "a" * 60 + ".example"]))
@settings(max_examples=50, deadline=None)
def test_no_line_of_the_field_is_longer_than_78(
    signers: tuple[Signer, Signer], message: bytes, at: int, domain: str
) -> None:
    signer = Signer(domain, "selector2026", signers[at].key)
    field = sign([signer], b"", message, _NOW_S, None)
    assert field.endswith(b"\r\n")
    lines = field.removesuffix(b"\r\n").split(b"\r\n")
    assert max(map(len, lines)) <= 78
    assert all(line[:1] == b" " and line.strip() for line in lines[1:])


def test_a_large_key_is_folded_as_well() -> None:
    field = sign(
        [Signer("a.example", "s", rsa.generate_private_key(65537, 4096))], b"", _MESSAGE, 1, None
    )
    assert max(map(len, field.split(b"\r\n"))) <= 78


def test_the_tags_are_those_of_the_design(signers: tuple[Signer, Signer]) -> None:
    for field, algorithm, selector in zip(
        relaxed_fields(sign(signers, b"", _MESSAGE, _NOW_S, None)),
        [b"rsa-sha256", b"ed25519-sha256"],
        [b"r", b"e"],
        strict=True,
    ):
        tags = dict(tag.strip().split(b"=", 1) for tag in field[1].split(b";"))
        assert field[0] == b"dkim-signature"
        assert list(tags) == [b"v", b"a", b"c", b"d", b"s", b"t", b"h", b"bh", b"b"]
        assert (tags[b"a"], tags[b"s"], tags[b"t"]) == (algorithm, selector, b"1700000000")
        assert (tags[b"c"], tags[b"d"]) == (b"relaxed/relaxed", b"acme.example")


def test_a_known_hash_is_taken_at_its_word(signers: tuple[Signer, Signer]) -> None:
    assert sign(signers, b"", _MESSAGE, 1, hash_of(_MESSAGE)) == sign(
        signers, b"", _MESSAGE, 1, None
    )


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
        b" bh=" + body_hash(body) + b";\r\n b="
    )
    signed = b"".join(b"%b:%b\r\n" % pair for pair in relaxed_fields(head))
    digest = hashlib.sha256(signed + b"dkim-signature:" + relaxed_value(field)).digest()
    assert body_hash(body) == b"2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
    assert b64encode(key.sign(digest)) == (
        b"/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
    )


@pytest.mark.skipif(OPENDKIM is None, reason="opendkim is not installed")
def test_opendkim_accepts_both_signatures_of_whatever_message(
    signers: tuple[Signer, Signer], tmp_path: Path
) -> None:
    found: list[bytes] = []

    @given(messages())
    @settings(max_examples=80, database=None, deadline=None, derandomize=True)
    def collect(message: bytes) -> None:
        found.append(sign(signers, b"", message, int(time.time()), None) + on_the_wire(message))

    collect()
    records = {
        f"{signer.selector}._domainkey.acme.example": published(signer.key) for signer in signers
    }
    for message, said in zip(found, opendkim_results(tmp_path, found, records), strict=True):
        assert said.count("dkim=pass") == 2, (message, said)
        assert "dkim=fail" not in said, (message, said)
