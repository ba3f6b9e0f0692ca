"""DKIM signatures: relaxed/relaxed, RSA-SHA256 (RFC 6376) or Ed25519-SHA256 (RFC 8463). Pure.

Never ``l=``: it lets others append. Oversigned: a field that must not be added is listed once more than it occurs, so that a second From
breaks the signature. No ``x=``: a message may wait longer for its receiver than it is worth to guess. The field is folded: no line of it is
longer than 78, unless a domain alone is. A signer is immutable and its key was parsed once; OpenSSL does the arithmetic without the GIL.
"""

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from services.sender.dkim.canonicalise import body_hash, division, relaxed_fields, relaxed_value

Key = RSAPrivateKey | Ed25519PrivateKey

#: Signed as often as they occur, and once more: whoever adds one changes what the reader sees.
OVERSIGNED: Final = (
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
SIGNED: Final = frozenset(
    (
        *OVERSIGNED,
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
_FOLD: Final = b"\r\n  "


@dataclass(frozen=True)
class Signer:
    """Sign for one domain with one key."""

    domain: str
    selector: str
    key: Key

    @property
    def algorithm(self) -> str:
        """Name the algorithm as the field does."""
        return "rsa-sha256" if isinstance(self.key, RSAPrivateKey) else "ed25519-sha256"

    @cached_property
    def _opening(self) -> bytes:
        """The tags that are the same in every signature."""
        identity = f" d={self.domain}; s={self.selector};"
        if len(identity) > _LINE:
            identity = f" d={self.domain};\r\n s={self.selector};"
        return f" v=1; a={self.algorithm}; c=relaxed/relaxed;\r\n{identity}\r\n t=".encode()

    def field(self, signed: bytes, listed: bytes, hashed: bytes, now_s: int) -> bytes:
        """Give the DKIM-Signature field with its CRLF for the canonical header ``signed`` that ``listed`` (h=) names, and a hash."""
        value = b"%b%d;\r\n h=%b;\r\n bh=%b;\r\n b=" % (self._opening, now_s, listed, hashed)
        digest = hashlib.sha256(signed + b"dkim-signature:" + relaxed_value(value)).digest()
        return b"DKIM-Signature:" + value + _pieces(b64encode(self._made(digest))) + b"\r\n"

    def _made(self, digest: bytes) -> bytes:
        if isinstance(self.key, RSAPrivateKey):
            return self.key.sign(digest, _PADDING, _PREHASHED)
        # RFC 8463 3: it is the SHA-256 hash that Ed25519 signs.
        return self.key.sign(digest)


def sign(
    signers: Iterable[Signer], prepend: bytes, message: bytes, now_s: int, hashed: bytes | None
) -> bytes:
    """Give the DKIM-Signature fields of ``prepend + message``, the first signer's first; ``hashed``: its body's hash, where known."""
    end, start = division(message)
    signed, listed = _chosen(prepend + message[:end])
    hashed = hashed or body_hash(message[start:])
    return b"".join(signer.field(signed, listed, hashed, now_s) for signer in signers)


def hash_of(message: bytes) -> bytes:
    """Hash the body of a message."""
    return body_hash(message[division(message)[1] :])


def _chosen(head: bytes) -> tuple[bytes, bytes]:
    """Choose what is signed: the canonical fields, each with its CRLF, and their names for h=."""
    # RFC 6376 5.4.2: of several fields of one name, h= takes the last first.
    chosen = [pair for pair in reversed(relaxed_fields(head)) if pair[0] in SIGNED]
    signed = b"".join([b"%b:%b\r\n" % pair for pair in chosen])
    return signed, _list(tuple(name for name, _ in chosen) + OVERSIGNED)


def _list(names: Sequence[bytes]) -> bytes:
    lines: list[bytes] = []
    line = names[0]
    for name in names[1:]:
        if len(line) + len(name) >= _LINE:
            lines.append(line + b":")
            line = name
        else:
            line += b":" + name
    return _FOLD.join((*lines, line))


def _pieces(text: bytes) -> bytes:
    return _FOLD + _FOLD.join([text[at : at + _LINE] for at in range(0, len(text), _LINE)])
