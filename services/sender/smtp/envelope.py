"""One envelope, and what of it a peer can take: pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from services.sender.smtp.reply import Reply

# RFC 5321 4.1.2, without white space, brackets and controls: what could end the command or add to it is not an address.
_PATH = re.compile(
    '(?:"(?:[^"\\\\\x00-\x1f\x7f\x85\u2028\u2029]|\\\\[^\x00-\x1f\x7f\x85\u2028\u2029])*"'
    '|[^\\s"<>@\x00-\x1f\x7f]+)@[^\\s"<>@\x00-\x1f\x7f]+'
)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the peer offered in its reply to the last EHLO."""

    pipelining: bool = False
    eight_bit: bool = False
    smtputf8: bool = False
    starttls: bool = False
    size: bool = False
    #: RFC 1870: 0 means that there is no fixed limit.
    size_max: int = 0
    auth: frozenset[str] = frozenset()

    @classmethod
    def of(cls, extensions: Mapping[str, str]) -> "Capabilities":
        """Read the keywords of an EHLO reply (lower case) and their parameters."""
        size = extensions.get("size", "").strip()
        return cls(
            pipelining="pipelining" in extensions,
            eight_bit="8bitmime" in extensions,
            smtputf8="smtputf8" in extensions,
            starttls="starttls" in extensions,
            size="size" in extensions,
            size_max=int(size) if size.isascii() and size.isdigit() and len(size) <= 20 else 0,  # noqa: PLR2004
            auth=frozenset(extensions.get("auth", "").lower().split()),
        )


@dataclass(frozen=True, slots=True)
class Transaction:
    """One envelope; ``size`` is in bytes, an estimate from above will do."""

    mail_from: str
    rcpt: str
    size: int
    eight_bit: bool = False
    smtputf8: bool = False


def mail_command(what: Transaction, caps: Capabilities) -> bytes:
    """Give the MAIL command, with the parameters that the peer knows."""
    parts = [b"MAIL FROM:<%b>" % what.mail_from.encode()]
    if caps.size:
        parts.append(b"SIZE=%d" % what.size)
    utf8 = _needs_utf8(what)
    if caps.eight_bit and (what.eight_bit or utf8):
        parts.append(b"BODY=8BITMIME")
    if utf8:
        parts.append(b"SMTPUTF8")
    return b" ".join(parts) + b"\r\n"


def _needs_utf8(what: Transaction) -> bool:
    return what.smtputf8 or not (what.mail_from.isascii() and what.rcpt.isascii())


def declined(what: Transaction, caps: Capabilities) -> Reply | None:
    """Give the refusal that the peer would have to give, or would not know to give."""
    if what.mail_from and not _PATH.fullmatch(what.mail_from):
        return Reply(553, "5.1.7", "the return path is not an address")
    if not _PATH.fullmatch(what.rcpt):
        return Reply(553, "5.1.3", "the recipient is not an address")
    if _needs_utf8(what) and not caps.smtputf8:
        return Reply(
            550, "5.6.7", "the host does not offer SMTPUTF8, which the addresses or headers need"
        )
    if what.eight_bit and not caps.eight_bit:
        return Reply(554, "5.6.3", "the host does not offer 8BITMIME, which the message needs")
    if caps.size_max and what.size > caps.size_max:
        return Reply(552, "5.3.4", f"{what.size} bytes, the host takes {caps.size_max}")
    return None
