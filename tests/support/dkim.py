"""Signatures as the tests make them, and dkimpy as their verifier.

dkimpy needs PyNaCl for Ed25519 only to check the signature itself; parsing, choosing, canonicalising and hashing are its own. So its
verification runs as it is, with a public key of `cryptography` in the place of PyNaCl's.
"""

from base64 import b64encode
from collections.abc import Sequence

import dkim
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.sender.dkim.sign import Signer, hashes_of, sign

Key = RSAPrivateKey | Ed25519PrivateKey


def fields_of(
    signers: Sequence[Signer], message: bytes, prepend: bytes = b"", now_s: int = 1_700_000_000
) -> bytes:
    """The DKIM-Signature fields of ``prepend + message``."""
    return sign(signers, prepend, message, now_s, hashes_of(signers, message, {}))


def published(key: Key) -> str:
    """The TXT record of a key."""
    public = key.public_key()
    if isinstance(public, Ed25519PublicKey):
        raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return f"v=DKIM1; k=ed25519; p={b64encode(raw).decode()}"
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; k=rsa; p={b64encode(der).decode()}"


def verified(message: bytes, key: Key, index: int = 0) -> bool:
    """Whether dkimpy accepts the signature with that index, counted from the top, under this key."""
    verifier = dkim.DKIM(message)
    public = key.public_key()
    if isinstance(public, Ed25519PublicKey):
        return _verified_ed25519(verifier, public, index)
    record = published(key).encode()
    try:
        return bool(verifier.verify(idx=index, dnsfunc=lambda *_, **__: record))
    except dkim.ValidationError:
        return False


class _Public:
    """A key as PyNaCl has it; says no by an answer, since dkimpy looks for PyNaCl's exception."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self.accepted = False

    def verify(self, message: bytes, signature: bytes) -> None:
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return
        self.accepted = True


def _verified_ed25519(verifier: dkim.DKIM, key: Ed25519PublicKey, index: int) -> bool:
    sig, listed, found = verifier.verify_headerprep(index)
    public = _Public(key)
    verifier.pk, verifier.keysize, verifier.ktag, verifier.seqtlsrpt = (
        public,
        256,
        b"ed25519",
        False,
    )
    try:
        verifier.verify_sig_process(sig, listed, found[index], None)
    except dkim.ValidationError:
        return False
    return public.accepted
