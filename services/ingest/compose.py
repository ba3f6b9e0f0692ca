"""compose: RFC 5322 bytes from a submission's message fields. Pure: Message -> bytes, or the problems.

The standard library builds the MIME tree, 7-bit throughout: text and HTML as alternatives, inline parts related to the HTML, attachments in
base64. The headers are ours (``headertext``): a field is text, shown as it is, and nothing in it can begin another field.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field
from email.generator import BytesGenerator
from email.message import Message as Message_
from email.policy import compat32
from io import BytesIO
from typing import Final

from services.ingest.headers import ASCII_ONLY
from services.ingest.headertext import fold, foldable, phrase, plain_parameter, unstructured
from services.ingest.mailbox import Mailbox, parse_mailbox
from services.ingest.mime import encoded, fits
from services.ingest.problem import Problem
from shared.records.submission import Attachment, Message

_MAX_HEADERS: Final = 100
_MAX_ATTACHMENTS: Final = 200
_MAX_NAME: Final = 76
_MAX_VALUE: Final = 16_384
_MAX_TYPE: Final = 200
_MAX_FILENAME: Final = 200
# Every character that some reader breaks lines at, and the other controls.
_BREAKING: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_NUL: Final = "\0"
_NAME: Final = re.compile(r"[!-9;-~]+")
_WORD: Final = r"[A-Za-z0-9!#$&^_.+-]+"
_TYPE: Final = re.compile(
    rf'({_WORD})/({_WORD})((?:[ \t]*;[ \t]*{_WORD}=(?:{_WORD}|"[ !#-\[\]-~]*"))*)'
)
_PARAMETER: Final = re.compile(rf'({_WORD})=(?:({_WORD})|"([^"]*)")')
_CID: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.@-]{1,200}")
_BY_FIELDS: Final = frozenset(("from", "to", "cc", "reply-to", "subject"))
_NOT_YOURS: Final = frozenset(
    ("bcc", "resent-bcc", "return-path", "received", "mime-version", "dkim-signature", "sender")
)
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
# The old policy takes a header as it is given. The newer ones parse it first, and decode what looks like an encoded word: a file name with
# =?utf-8?q?=0D=0A?= in it becomes a header of its own.
_POLICY: Final = compat32.clone(linesep="\r\n", max_line_length=76)


@dataclass(slots=True)
class _Composing:
    message: Message
    lines: list[bytes] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def text(self, name: str, where: str, value: str) -> None:
        """Add a header that is plain text."""
        if self._allowed(where, value):
            self.lines.append(unstructured(name, value))

    def mailboxes(self, name: str, where: str, texts: tuple[str, ...], *, listed: bool) -> None:
        """Add a header that is a list of mailboxes."""
        shown = []
        for at, text in enumerate(texts):
            here = f"{where}[{at}]" if listed else where
            if not self._allowed(here, text):
                continue
            mailbox = parse_mailbox(text, here)
            if isinstance(mailbox, Problem):
                self.problems.append(mailbox)
            else:
                shown.append(_shown(mailbox))
        if shown:
            # A local part that is not ASCII stays UTF-8: only SMTPUTF8 carries it.
            self.lines.append(fold(f"{name}: {', '.join(shown)}".encode()))

    def headers(self) -> None:
        """Add the headers that have no field of their own."""
        if len(self.message.headers) > _MAX_HEADERS:
            self.problems.append(
                Problem("message.headers", f"has more than {_MAX_HEADERS} entries")
            )
            return
        seen: set[str] = set()
        for name, value in self.message.headers.items():
            where = f"message.headers.{name[:_MAX_NAME]}"
            lower = name.lower()
            if rule := _name_rule(name, lower, seen):
                self.problems.append(Problem(where, rule))
            elif self._allowed(where, value):
                self._header(where, name, lower, value)
            seen.add(lower)

    def _header(self, where: str, name: str, lower: str, value: str) -> None:
        if value.isascii() and not foldable(value):
            self.problems.append(Problem(where, "has a word, or blanks, too long to be folded"))
        elif value.isascii():
            # As it is: the platform may have encoded it already.
            self.lines.append(fold(f"{name}: {value.strip()}".encode()))
        elif lower.encode() in ASCII_ONLY:
            self.problems.append(Problem(where, "must be ASCII"))
        else:
            self.lines.append(unstructured(name, value.strip()))

    def _allowed(self, where: str, value: str) -> bool:
        if _BREAKING.search(value):
            rule = "holds line breaks or control characters"
        elif len(value) > _MAX_VALUE:
            rule = f"is longer than {_MAX_VALUE} characters"
        else:
            return True
        self.problems.append(Problem(where, rule))
        return False


def _name_rule(name: str, lower: str, seen: set[str]) -> str | None:
    if len(name) > _MAX_NAME or _NAME.fullmatch(name) is None:
        return "is not a header name (RFC 5322: printable ASCII without a colon, at most 76)"
    if lower in seen:
        return "is there twice"
    if lower in _BY_FIELDS:
        return f"has a field of its own: message.{lower.replace('-', '_')}"
    if lower in _NOT_YOURS or lower.startswith(("content-", "x-postyard-", "resent-")):
        return "may not be set"
    return None


def _shown(mailbox: Mailbox) -> str:
    address = str(mailbox.address)
    return f"{phrase(mailbox.name)} <{address}>" if mailbox.name else address


def compose(message: Message, recipients: tuple[str, ...]) -> bytes | tuple[Problem, ...]:
    """Build the message; with no ``to`` the only recipient is named, but never several to each other."""
    composing = _Composing(message)
    composing.mailboxes("From", "message.from", (message.from_,), listed=False)
    to = message.to or (recipients if len(recipients) == 1 else ())
    composing.mailboxes("To", "message.to", to, listed=True)
    if not to and not message.cc:
        composing.lines.append(b"To: undisclosed-recipients:;")
    composing.mailboxes("Cc", "message.cc", message.cc, listed=True)
    composing.mailboxes("Reply-To", "message.reply_to", message.reply_to, listed=True)
    if message.subject:
        composing.text("Subject", "message.subject", message.subject)
    composing.headers()
    content = _content(message, composing.problems)
    if composing.problems or content is None:
        return tuple(composing.problems)
    out = BytesIO()
    out.writelines(line + b"\r\n" for line in [*composing.lines, b"MIME-Version: 1.0"])
    BytesGenerator(out, mangle_from_=False, policy=_POLICY).flatten(content)
    return out.getvalue()


def _content(message: Message, problems: list[Problem]) -> Message_ | None:
    if message.text is None and message.html is None:
        problems.append(Problem("message", "has neither text nor html"))
    if len(message.attachments) > _MAX_ATTACHMENTS:
        problems.append(Problem("message.attachments", f"has more than {_MAX_ATTACHMENTS} entries"))
        return None
    for name, text in (("text", message.text), ("html", message.html)):
        if text is not None and _NUL in text:
            problems.append(Problem(f"message.{name}", "holds a NUL character"))
    files = [
        _file(f"message.attachments[{at}]", attachment, problems)
        for at, attachment in enumerate(message.attachments)
    ]
    good = [file for file in files if file is not None]
    if any(file.cid is not None for file in good) and message.html is None:
        problems.append(Problem("message.attachments", "has a cid, but there is no html"))
    return None if problems else _tree(message, good)


def _tree(message: Message, files: list["_File"]) -> Message_:
    bodies = []
    if message.text is not None:
        bodies.append(_text("plain", message.text))
    if message.html is not None:
        inline = [file for file in files if file.cid is not None]
        bodies.append(_joined("related", [_text("html", message.html), *map(_part, inline)]))
    alternatives = _joined("alternative", bodies)
    return _joined("mixed", [alternatives, *(_part(file) for file in files if file.cid is None)])


def _joined(kind: str, parts: list[Message_]) -> Message_:
    if len(parts) == 1:
        return parts[0]
    whole = Message_(policy=_POLICY)
    whole["Content-Type"] = f"multipart/{kind}"
    for part in parts:
        whole.attach(part)
    return whole


def _text(kind: str, text: str) -> Message_:
    raw = _LINE_END.sub("\r\n", text).encode()
    if raw and not raw.endswith(b"\r\n"):
        raw += b"\r\n"
    part = Message_(policy=_POLICY)
    charset = "us-ascii" if raw.isascii() else "utf-8"
    part["Content-Type"] = f"text/{kind}; charset={charset}"
    encoding, data = (b"7bit", raw) if fits(raw) else encoded(raw, text=True)
    part["Content-Transfer-Encoding"] = encoding.decode()
    part.set_payload(data.decode("ascii"))
    return part


def _part(file: "_File") -> Message_:
    part = Message_(policy=_POLICY)
    part["Content-Type"] = "; ".join([file.kind, *file.parameters])
    disposition = "attachment" if file.cid is None else "inline"
    part["Content-Disposition"] = f"{disposition}; {plain_parameter('filename', file.name)}"
    if file.cid is not None:
        part["Content-ID"] = f"<{file.cid}>"
    encoding, data = encoded(file.data, text=False)
    part["Content-Transfer-Encoding"] = encoding.decode()
    part.set_payload(data.decode("ascii"))
    return part


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    kind: str
    parameters: tuple[str, ...]
    cid: str | None
    data: bytes


def _file(where: str, attachment: Attachment, problems: list[Problem]) -> _File | None:
    before = len(problems)
    if not attachment.filename or len(attachment.filename) > _MAX_FILENAME:
        problems.append(Problem(f"{where}.filename", f"must have 1 to {_MAX_FILENAME} characters"))
    if _BREAKING.search(attachment.filename) or "\t" in attachment.filename:
        problems.append(Problem(f"{where}.filename", "holds line breaks or control characters"))
    kind = _TYPE.fullmatch(attachment.content_type[: _MAX_TYPE + 1])
    if kind is None or len(attachment.content_type) > _MAX_TYPE:
        problems.append(
            Problem(f"{where}.content_type", 'expected a type such as "application/pdf"')
        )
    elif kind[1].lower() in ("multipart", "message"):
        problems.append(
            Problem(f"{where}.content_type", "multipart and message types cannot be attached")
        )
    if attachment.cid is not None and _CID.fullmatch(attachment.cid) is None:
        problems.append(Problem(f"{where}.cid", "is not a content id (ASCII, without < and >)"))
    data = _decoded(attachment.content)
    if data is None:
        problems.append(Problem(f"{where}.content", "is not base64 (RFC 4648)"))
    if len(problems) > before or kind is None or data is None:
        return None
    parameters = tuple(
        plain_parameter(name, token or quoted)
        for name, token, quoted in _PARAMETER.findall(kind[3])
    )
    return _File(attachment.filename, f"{kind[1]}/{kind[2]}", parameters, attachment.cid, data)


def _decoded(content: str) -> bytes | None:
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        pass
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
