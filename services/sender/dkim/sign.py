"""One DKIM signature: relaxed/relaxed, RSA-SHA256 (RFC 6376) or Ed25519-SHA256 (RFC 8463), never ``l=`` (it lets others append).

Oversigned: a header that must not be added is listed once more than it occurs, so that a second From breaks the signature. A signer is
immutable and its key object is parsed once; OpenSSL does the arithmetic without the GIL.
"""

import hashlib
from base64 import b64encode
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from services.sender.dkim.canonicalise import fields, part, relaxed_body, relaxed_header

Key = RSAPrivateKey | Ed25519PrivateKey

#: Signed as often as they occur, and once more.
_OVERSIGNED: Final = (
    b"from",
    b"to",
    b"cc",
    b"subject",
    b"date",
    b"reply-to",
    b"message-id",
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
    b"list-unsubscribe",
    b"list-unsubscribe-post",
)
#: Signed as often as they occur: a mailing system on the way may add its own.
_SIGNED: Final = frozenset(
    (
        *_OVERSIGNED,
        b"sender",
        b"in-reply-to",
        b"references",
        b"feedback-id",
        b"list-id",
        b"auto-submitted",
    )
)
_PADDING: Final = PKCS1v15()
_PREHASHED: Final = Prehashed(hashes.SHA256())
_LINE: Final = 72


@dataclass(frozen=True, slots=True)
class Signer:
    """Sign for one domain with one key."""

    domain: str
    selector: str
    key: Key

    @property
    def algorithm(self) -> str:
        """Name the algorithm as the header does."""
        return "rsa-sha256" if isinstance(self.key, RSAPrivateKey) else "ed25519-sha256"

    def header(self, head: bytes, body_hash: bytes, now_s: int) -> bytes:
        """Give the DKIM-Signature field, with its CRLF, for a header and the hash of its canonical body (base64)."""
        names, canonical = _selected(head)
        value = self._value(names, body_hash, now_s)
        canonical.append(relaxed_header(b"dkim-signature", value))
        digest = hashlib.sha256(b"\r\n".join(canonical)).digest()
        if isinstance(self.key, RSAPrivateKey):
            made = self.key.sign(digest, _PADDING, _PREHASHED)
        else:
            # RFC 8463 3: Ed25519 signs the SHA-256 hash.
            made = self.key.sign(digest)
        return b"DKIM-Signature:" + value + _folded(b64encode(made)) + b"\r\n"

    def _value(self, names: list[bytes], body_hash: bytes, now_s: int) -> bytes:
        lines = [
            f" v=1; a={self.algorithm}; c=relaxed/relaxed;".encode(),
            f" d={self.domain}; s={self.selector};".encode(),
            f" t={now_s};".encode(),
        ]
        line = b" h=" + names[0]
        for name in names[1:]:
            if len(line) + len(name) >= _LINE:
                lines.append(line + b":")
                line = b"  " + name
            else:
                line += b":" + name
        lines += [line + b";", b" bh=" + body_hash + b";", b" b="]
        return b"\r\n".join(lines)


def _folded(text: bytes) -> bytes:
    pieces = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    return b"\r\n  ".join([b"", *pieces])


def _selected(head: bytes) -> tuple[list[bytes], list[bytes]]:
    """Choose the header fields: their names in the order of h=, and their canonical forms; a verifier takes each from the bottom."""
    names: list[bytes] = []
    canonical: list[bytes] = []
    for name, value in reversed(fields(head)):
        low = name.strip().lower()
        if low in _SIGNED:
            names.append(low)
            canonical.append(relaxed_header(low, value))
    return names + list(_OVERSIGNED), canonical


def body_hash(body: bytes) -> bytes:
    """Hash a canonical body: base64 of its SHA-256."""
    return b64encode(hashlib.sha256(relaxed_body(body)).digest())


def sign(
    signers: tuple[Signer, ...],
    prepend: bytes,
    message: bytes,
    now_s: int,
    hashed: bytes | None = None,
) -> bytes:
    """Give the DKIM-Signature fields of ``prepend + message``, the first signer's first; ``hashed``: the body's hash, if known."""
    head, body = part(message)
    whole = prepend + head
    digest = hashed or body_hash(body)
    return b"".join(signer.header(whole, digest, now_s) for signer in signers)
