"""normalise: the bytes of a message as they will be sent. Pure: raw RFC 5322 bytes -> Normalised, or the problem.

A clean message, which is nearly every one, is only looked at: four counts, one pass over its header, and its body stays the bytes that it
was. Only 8-bit bytes, long lines, or many MIME parts start the walk through it (``mime``). Doing it twice changes nothing.

Nothing leaves here with a bare CR or LF, a NUL, a line over 998 bytes, or a field that tells a recipient of another one.
"""

import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from typing import Final, NamedTuple

from services.ingest.headers import SINGLETONS, Field, fields_of, mend
from services.ingest.headertext import MAX_LINE
from services.ingest.mailbox import parse_mailbox
from services.ingest.mime import Walk, longest_line, rewrite, suspicious
from services.ingest.problem import Problem

#: More of them is a loop (5.4.6): Postfix and Gmail stop at 50 as well.
MAX_RECEIVED: Final = 50
_REMOVED: Final = frozenset((b"bcc", b"resent-bcc", b"return-path"))
_OURS: Final = b"x-postyard-"
_EMPTY_IS_MISSING: Final = frozenset((b"date", b"message-id"))
_MAY_GO: Final = _REMOVED | _EMPTY_IS_MISSING
_S: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_CLICK: Final = re.compile(rb"<https://[^>]+>", re.IGNORECASE)


class Stamp(NamedTuple):
    """What is added where it is missing: the same for every recipient."""

    #: Of Date: the later of now and not_before.
    date_ns: int
    now_ns: int
    #: Unique and opaque, for Received and Message-ID.
    token: str
    #: Whether a missing Message-ID is added here (transactional), or to each delivery's prepend (bulk).
    message_id: bool


class Normalised(NamedTuple):
    """A message that may be sent."""

    data: bytes
    #: Of the From header, as an A-label.
    header_domain: str
    eight_bit: bool
    #: A header holds UTF-8.
    smtputf8: bool
    #: There is no Message-ID, and none was added.
    lacks_message_id: bool
    warnings: tuple[str, ...]


def normalise(  # noqa: PLR0911 - one for each rule
    raw: bytes, *, domains: Collection[str], max_bytes: int, stamp: Stamp
) -> Normalised | Problem:
    """Make one message fit, or name what is wrong with it; ``domains`` are the tenant's."""
    if len(raw) > max_bytes:
        return Problem("message", f"is larger than {max_bytes} bytes", too_large=True)
    data = line_endings(raw)
    if isinstance(data, Problem):
        return data
    if data.startswith(b"\r\n"):
        return Problem("message", "begins with an empty line: it has no header")
    end = data.find(b"\r\n\r\n")
    if end < 0:
        data += b"\r\n"
        end = len(data) - 4
    fields = fields_of(data[: end + 2])
    if isinstance(fields, Problem):
        return fields
    # All of them, mostly: a comprehension with a call in it would be a tenth of the whole cost.
    going = [field for field in fields if field.name in _MAY_GO or field.name[:2] == b"x-"]
    gone = {id(field) for field in going if _goes(field)}
    kept = [field for field in fields if id(field) not in gone] if gone else fields
    names = [field.name for field in kept]
    problem = _singletons(names)
    domain = problem or _header_domain(kept, domains)
    if isinstance(domain, Problem):
        return domain
    fitted = _fit(data, end, kept, changed=len(kept) != len(fields))
    if isinstance(fitted, Problem):
        return fitted
    added = _additions(names, domain, stamp)
    if added or fitted.data is not data:
        data = added + fitted.data
    if len(data) > max_bytes:
        return Problem(
            "message", f"is larger than {max_bytes} bytes once it is encoded", too_large=True
        )
    lacks = b"message-id" not in names and not stamp.message_id
    warnings = _warnings(kept, names, rewritten=fitted.rewritten)
    return Normalised(data, domain, fitted.eight_bit, fitted.utf8, lacks, warnings)


def line_endings(raw: bytes) -> bytes | Problem:
    """End every line with CRLF: LF alone is converted, anything mixed is refused (SMTP smuggling lives of it)."""
    if b"\0" in raw:
        return Problem("message", "holds a NUL byte")
    lines, returns, pairs = raw.count(b"\n"), raw.count(b"\r"), raw.count(b"\r\n")
    if returns == 0:
        raw = raw.replace(b"\n", b"\r\n") if lines else raw
    elif not lines == returns == pairs:
        return Problem(
            "message",
            "mixes CRLF with bare CR or LF: end every line with CRLF, or every line with LF",
        )
    return raw if raw.endswith(b"\r\n") else raw + b"\r\n"


def _goes(field: Field) -> bool:
    name = field.name
    if name in _REMOVED or name.startswith(_OURS):
        return True
    return name in _EMPTY_IS_MISSING and not field.value.strip()


def _singletons(names: list[bytes]) -> Problem | None:
    if len(set(names)) == len(names):
        return None
    if names.count(b"received") > MAX_RECEIVED:
        return Problem("header.received", f"5.4.6 more than {MAX_RECEIVED} of them: a mail loop")
    for name in SINGLETONS:
        if names.count(name) > 1:
            return Problem(f"header.{name.decode()}", "must stand once at most")
    return None


def _header_domain(fields: list[Field], domains: Collection[str]) -> str | Problem:
    value = next((field.value for field in fields if field.name == b"from"), None)
    if value is None:
        return Problem("header.from", "is missing")
    try:
        mailbox = parse_mailbox(value.decode(), "header.from")
    except UnicodeDecodeError:
        return Problem("header.from", "holds 8-bit bytes that are not UTF-8")
    if isinstance(mailbox, Problem):
        return mailbox
    domain = mailbox.address.domain
    if domain not in domains:
        return Problem("header.from", f"{domain} is not one of the tenant's domains")
    return domain


class _Fitted(NamedTuple):
    data: bytes
    eight_bit: bool = False
    utf8: bool = False
    rewritten: bool = False


def _fit(data: bytes, end: int, kept: list[Field], *, changed: bool) -> _Fitted | Problem:
    """Leave out the fields that go, and rewrite what does not fit."""
    clean = data.isascii() and longest_line(data) <= MAX_LINE
    utf8 = False
    if changed or not clean:
        lines = []
        for field in kept:
            mended = mend(field) if not clean else None
            if isinstance(mended, Problem):
                return mended
            lines.append(field.raw if mended is None else mended.raw)
            utf8 |= mended is not None and mended.utf8
        data = b"".join([*lines, data[end + 2 :]])
    if clean:
        problem = Walk(data).run() if suspicious(data) else None
        return problem or _Fitted(data)
    rewritten = rewrite(data)
    if isinstance(rewritten, Problem):
        return rewritten
    return _Fitted(rewritten.data, rewritten.eight_bit, utf8 or rewritten.utf8, rewritten=True)


def _additions(names: list[bytes], domain: str, stamp: Stamp) -> bytes:
    lines = []
    if b"received" not in names:
        # RFC 5321 4.4, without the names of machines inside: who needs more has the events.
        lines.append(
            f"Received: by {domain} (Postyard) id {stamp.token};\r\n\t{_date(stamp.now_ns // _S)}\r\n"
        )
    if b"date" not in names:
        lines.append(f"Date: {_date(stamp.date_ns // _S)}\r\n")
    if b"message-id" not in names and stamp.message_id:
        lines.append(message_id(stamp.token, domain))
    return "".join(lines).encode("ascii")


def message_id(token: str, domain: str) -> str:
    """Write the header line of a new Message-ID."""
    return f"Message-ID: <{token}@{domain}>\r\n"


@lru_cache(maxsize=64)
def _date(seconds: int) -> str:
    # The records of a round share their second.
    return format_datetime(_EPOCH + timedelta(seconds=seconds))


def _warnings(fields: list[Field], names: list[bytes], *, rewritten: bool) -> tuple[str, ...]:
    found = []
    if b"subject" not in names:
        found.append("no Subject")
    if b"to" not in names and b"cc" not in names:
        found.append("no To")
    if not one_click(fields, names):
        found.append(NO_ONE_CLICK)
    if rewritten:
        found.append("8-bit bytes or long lines were encoded anew")
        if b"dkim-signature" in names:
            found.append("the DKIM signature that it came with may no longer verify")
    return tuple(found)


#: Only of interest for bulk: the caller drops it for transactional mail.
NO_ONE_CLICK: Final = "no one-click unsubscribe (RFC 8058)"


def one_click(fields: list[Field], names: list[bytes]) -> bool:
    """Say whether List-Unsubscribe has an https URI and List-Unsubscribe-Post stands beside it."""
    if b"list-unsubscribe-post" not in names:
        return False
    return any(
        field.name == b"list-unsubscribe" and _ONE_CLICK.search(field.value) for field in fields
    )
