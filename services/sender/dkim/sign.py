"""DKIM signatures: RSA-SHA256 (RFC 6376) and Ed25519-SHA256 (RFC 8463), relaxed or simple. Pure.

Never ``l=``: it lets others append. Oversigned: a field that must not be added is listed once more than it occurs, so that a second From
breaks the signature. No ``x=``: a message may wait longer for its receiver than it is worth to guess. The field is folded: no line of it is
longer than 78, unless a domain alone is. A signer is immutable and its key was parsed once; OpenSSL does the arithmetic without the GIL.
"""

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from services.sender.dkim.canonicalise import body_hash, division, fields, relaxed_value
from shared.runtime.settings import RELAXED, Canonicalization, Strictness

Key = RSAPrivateKey | Ed25519PrivateKey
#: The hash of a body, by how it was canonicalised.
Hashes = Mapping[Strictness, bytes]

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
    b"content-disposition",
    b"list-unsubscribe",
    b"list-unsubscribe-post",
)
#: Signed as often as they occur: a mailing system on the way may add its own. RFC 6376 5.4.1 names most of them.
SIGNED: Final = frozenset(
    (
        *OVERSIGNED,
        b"sender",
        b"in-reply-to",
        b"references",
        b"feedback-id",
        b"list-id",
        b"list-help",
        b"list-subscribe",
        b"list-post",
        b"list-owner",
        b"list-archive",
        b"auto-submitted",
        b"content-id",
        b"content-description",
        b"resent-from",
        b"resent-to",
        b"resent-cc",
        b"resent-date",
        b"resent-message-id",
    )
)
_PADDING: Final = PKCS1v15()
_PREHASHED: Final = Prehashed(hashes.SHA256())
_LINE: Final = 72
_FOLD: Final = b"\r\n  "
#: So many lists of names are kept: messages that one program makes have the same fields.
_LISTS: Final = 256


class Header(NamedTuple):
    """A header's signed fields in canonical form, each with its CRLF, and their names for h=: as they are written, and on one line."""

    signed: bytes
    listed: bytes
    listed_relaxed: bytes


@dataclass(frozen=True)
class Signer:
    """Sign for one domain with one key."""

    domain: str
    selector: str
    key: Key
    canonicalization: Canonicalization = RELAXED

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
        header, body = self.canonicalization
        return f" v=1; a={self.algorithm}; c={header}/{body};\r\n{identity}\r\n t=".encode()

    @cached_property
    def _opening_relaxed(self) -> bytes:
        return b"dkim-signature:" + relaxed_value(self._opening)

    def field(self, header: Header, hashed: bytes, now_s: int) -> bytes:
        """Give the DKIM-Signature field with its CRLF for a header that is canonical as this signer wants it, and a body's hash."""
        opening = b"DKIM-Signature:" + self._opening
        text = b"%b%d;\r\n h=%b;\r\n bh=%b;\r\n b=" % (opening, now_s, header.listed, hashed)
        # RFC 6376 3.7: the field itself comes last, canonical, without the value of b= and without its CRLF.
        own = text
        if self.canonicalization.header == "relaxed":
            own = b"%b%d; h=%b; bh=%b; b=" % (
                self._opening_relaxed,
                now_s,
                header.listed_relaxed,
                hashed,
            )
        made = self._made(hashlib.sha256(header.signed + own).digest())
        return text + _pieces(b64encode(made)) + b"\r\n"

    def _made(self, digest: bytes) -> bytes:
        if isinstance(self.key, RSAPrivateKey):
            return self.key.sign(digest, _PADDING, _PREHASHED)
        # RFC 8463 3: it is the SHA-256 hash that Ed25519 signs.
        return self.key.sign(digest)


def sign(
    signers: Iterable[Signer], prepend: bytes, message: bytes, now_s: int, hashed: Hashes
) -> bytes:
    """Give the DKIM-Signature fields of ``prepend + message``, the first signer's first; ``hashed`` are its body's ``hashes_of``."""
    head = prepend + message[: division(message)[0]]
    headers: dict[Strictness, Header] = {}
    made = []
    for signer in signers:
        how, body = signer.canonicalization
        if how not in headers:
            headers[how] = header_of(head, how)
        made.append(signer.field(headers[how], hashed[body], now_s))
    return b"".join(made)


def hashes_of(signers: Iterable[Signer], message: bytes, known: Hashes) -> Hashes:
    """Hash the body of a message in every way that its signers want; what is ``known`` is not made again."""
    for signer in signers:
        how = signer.canonicalization.body
        if how not in known:
            known = {**known, how: body_hash(message[division(message)[1] :], how)}
    return known


def header_of(head: bytes, how: Strictness) -> Header:
    """Choose what is signed, and list it."""
    # RFC 6376 5.4.2: of several fields of one name, h= takes the last first.
    chosen = [field for field in reversed(fields(head, how)) if field[0] in SIGNED]
    # An empty one more at the end, so that the last line has its CRLF too.
    signed = b"\r\n".join([*[canonical for _, canonical in chosen], b""])
    return Header(signed, *_listed(tuple([name for name, _ in chosen])))


@lru_cache(_LISTS)
def _listed(names: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    listed = _list(names + OVERSIGNED)
    return listed, relaxed_value(listed)


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
