"""Two verifiers that are not ours accept both signatures of whatever message, in all four ways of canonicalisation.

`make verify` shows it for thousands of messages; otherwise there are as many as hypothesis makes by itself.
"""

import time
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from hypothesis import given
from hypothesis import strategies as st

from services.sender.dkim.sign import Signer
from shared.runtime.settings import Canonicalization, Strictness
from tests.support.dkim import fields_of, published, verified
from tests.support.messages import heads, messages, on_the_wire
from tests.support.opendkim import OpenDkim

_WORD: st.SearchStrategy[Strictness] = st.sampled_from(["relaxed", "simple"])
_WAY = st.builds(Canonicalization, _WORD, _WORD)
#: How the RSA and how the Ed25519 signature canonicalises.
_Ways = tuple[Canonicalization, Canonicalization]
_WAYS: st.SearchStrategy[_Ways] = st.tuples(_WAY, _WAY)


class _Keys:
    """An RSA and an Ed25519 key of one domain, whose signatures may differ in how they canonicalise."""

    def __init__(self, rsa: RSAPrivateKey, ed25519: Ed25519PrivateKey) -> None:
        self.rsa, self.ed25519 = rsa, ed25519
        self.records = {"r": published(rsa), "e": published(ed25519)}

    def signed(self, ways: _Ways, message: bytes, more: bytes) -> bytes:
        """A message as it is sent, with fields of its own before it."""
        signers = [
            Signer("acme.example", "r", self.rsa, ways[0]),
            Signer("acme.example", "e", self.ed25519, ways[1]),
        ]
        prepend = more.replace(b"From:", b"X-From:") + b"\r\n"
        # OpenDKIM does not believe in signatures of another time.
        made = fields_of(signers, message, prepend, now_s=int(time.time()))
        return made + prepend + on_the_wire(message)


@pytest.fixture(scope="module")
def keys(rsa_key: RSAPrivateKey, ed25519_key: Ed25519PrivateKey) -> _Keys:
    return _Keys(rsa_key, ed25519_key)


@pytest.fixture(scope="module")
def opendkim(keys: _Keys) -> Iterator[OpenDkim]:
    try:
        verifier = OpenDkim(keys.records)
    except OSError:
        pytest.skip("opendkim is not installed")
    yield verifier
    verifier.close()


@given(_WAYS, messages(), heads())
def test_dkimpy_accepts_both_signatures_of_whatever_message_and_none_of_a_longer_one(
    keys: _Keys, ways: _Ways, message: bytes, more: bytes
) -> None:
    whole = keys.signed(ways, message, more)
    assert verified(whole, keys.rsa, 0)
    assert verified(whole, keys.ed25519, 1)
    assert not verified(whole + b"x\r\n", keys.rsa, 0)
    assert not verified(whole + b"x\r\n", keys.ed25519, 1)


@given(_WAYS, messages(), heads())
def test_opendkim_accepts_both_signatures_of_whatever_message_and_none_of_a_longer_one(
    opendkim: OpenDkim, keys: _Keys, ways: _Ways, message: bytes, more: bytes
) -> None:
    whole = keys.signed(ways, message, more)
    assert opendkim.accepts(whole) == [True, True]
    assert opendkim.accepts(whole + b"x\r\n") == [False, False]


@pytest.mark.parametrize("header", ["relaxed", "simple"])
@pytest.mark.parametrize("body", ["relaxed", "simple"])
def test_only_a_simple_signature_counts_blanks(
    opendkim: OpenDkim, keys: _Keys, header: Strictness, body: Strictness
) -> None:
    ways = (Canonicalization(header, body), Canonicalization(body, header))
    whole = keys.signed(ways, b"From: a@acme.example\r\n\r\na  b\r\n", b"To: b@c.example")
    for changed, relaxed in (
        (whole.replace(b"From: a@", b"From:  a@"), (header, body)),
        (whole.replace(b"a  b", b"a b"), (body, header)),
    ):
        expected = [word == "relaxed" for word in relaxed]
        assert opendkim.accepts(changed) == expected
        assert [verified(changed, keys.rsa, 0), verified(changed, keys.ed25519, 1)] == expected
