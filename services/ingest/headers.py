"""headers: a header block as fields, and fields that no old server could carry made into ones that it can. Pure, on bytes.

Fields must tile the block: whatever lies between two of them (a line without a colon, a blank before the colon, a folded line of blanks
only, a control character) would be read differently by different readers, so it is refused rather than guessed at.
"""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.ingest.address import to_ascii
from services.ingest.headertext import MAX_LINE, encoded_words, fold, parameter
from services.ingest.problem import Problem

MAX_HEADER_BYTES: Final = 256 << 10
MAX_FIELDS: Final = 1000
_TEXT: Final = rb"[^\r\n\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*"
#: The whole field with its CRLF, and its name.
_FIELD: Final = re.compile(
    rb"(([!-9;-~]+):" + _TEXT + rb"(?:\r\n[ \t]+[^ \t\r\n\x00-\x1f\x7f]" + _TEXT + rb")*\r\n)"
)
_FOLD: Final = re.compile(rb"\r\n(?=[ \t])")

#: RFC 5322 3.6 and RFC 2045: at most once; RFC 2369 3.4 for the List- fields.
SINGLETONS: Final = frozenset(
    b"date from sender reply-to to cc message-id in-reply-to references subject mime-version content-type "
    b"content-transfer-encoding content-id content-description content-disposition list-unsubscribe "
    b"list-unsubscribe-post list-id".split()
)
_ADDRESSES: Final = frozenset(
    b"from sender reply-to to cc resent-from resent-sender resent-to resent-cc disposition-notification-to".split()
)
_PARAMETERS: Final = frozenset((b"content-type", b"content-disposition"))
#: Names, dates, identifiers, signatures: nothing that RFC 2047 lets be encoded.
ASCII_ONLY: Final = frozenset(
    b"date message-id in-reply-to references mime-version content-transfer-encoding content-id received dkim-signature "
    b"list-unsubscribe list-unsubscribe-post list-id list-help list-subscribe list-post list-owner list-archive "
    b"resent-date resent-message-id feedback-id auto-submitted precedence arc-seal arc-message-signature".split()
)

_TOKEN: Final = re.compile(
    r'(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<comment>\((?:[^()\\]|\\.)*\))|<(?P<angle>[^<>]*)>|(?P<mark>[,;:])|(?P<plain>[^"()<>,;:]+)',
    re.DOTALL,
)
_WORD: Final = re.compile(r"[ \t]*[^ \t]+")
_PARAMETER: Final = re.compile(r'([A-Za-z0-9_.-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))')
_ESCAPED: Final = re.compile(r"\\(.)")


class Field(NamedTuple):
    """One header field; ``raw`` ends with its CRLF. A tuple, since a message has a dozen and a round thousands."""

    #: Lower case.
    name: bytes
    raw: bytes

    @property
    def value(self) -> bytes:
        """Give what follows the colon, unfolded."""
        text = self.raw[len(self.name) + 1 : -2]
        return _FOLD.sub(b"", text) if b"\r" in text else text


@dataclass(frozen=True, slots=True)
class Mended:
    """A field (with its CRLF) that fits, and whether it still holds UTF-8 that only SMTPUTF8 carries."""

    raw: bytes
    utf8: bool = False


def fields_of(block: bytes) -> list[Field] | Problem:
    """Part a header block, each line with its CRLF, into its fields."""
    if len(block) > MAX_HEADER_BYTES:
        return Problem("message", f"the header is longer than {MAX_HEADER_BYTES >> 10} KiB")
    found = [Field(name.lower(), raw) for raw, name in _FIELD.findall(block)]
    # Fields that follow one another without a gap are as long as the block, and others are not.
    if sum([len(field.raw) for field in found]) != len(block):
        return _gap(block)
    if len(found) > MAX_FIELDS:
        return Problem("message", f"the header has more than {MAX_FIELDS} fields")
    return found


def _gap(block: bytes) -> Problem:
    at = 0
    for match in _FIELD.finditer(block):
        if match.start() != at:
            break
        at = match.end()
    line = block.count(b"\n", 0, at) + 1
    return Problem("message", f"line {line} of the header {_why(block[at:])}")


def _why(rest: bytes) -> str:
    line = rest.partition(b"\r\n")[0]
    name, colon, _ = line.partition(b":")
    if line.translate(None, b" \t") == b"" or line[:1] in (b" ", b"\t"):
        return "is a folded line with nothing before it"
    if not colon:
        return "has no colon"
    if name != name.rstrip(b" \t"):
        return "has a blank before its colon"
    if re.fullmatch(rb"[!-9;-~]+", name) is None:
        return "has a name that RFC 5322 does not allow"
    return "holds a control character, or is folded to a line of blanks only"


def mend(field: Field) -> Mended | Problem:
    """Make a field fit: lines of at most 998 bytes, and ASCII except for addresses that cannot be."""
    raw = field.raw
    if raw.isascii():
        return _folded(field.name, raw[:-2])
    where = f"header.{field.name.decode('ascii', 'replace')}"
    try:
        text = field.value.decode()
    except UnicodeDecodeError:
        return Problem(where, "holds 8-bit bytes that are not UTF-8")
    if field.name in ASCII_ONLY:
        return Problem(where, "must be ASCII")
    utf8 = False
    if field.name in _ADDRESSES:
        listed = _Addresses(where).mend(text)
        if isinstance(listed, Problem):
            return listed
        text, utf8 = listed
    elif field.name in _PARAMETERS:
        text = _PARAMETER.sub(_parameter, text)
        if not text.isascii():
            return Problem(
                where, "holds characters that are not ASCII outside of a parameter's value"
            )
    else:
        text = _encode_runs(text)
    label = raw[: len(field.name) + 1]
    folded = _folded(field.name, label + text.encode())
    return Mended(folded.raw, utf8) if isinstance(folded, Mended) else folded


def _folded(name: bytes, line: bytes) -> Mended | Problem:
    if any(len(part) > MAX_LINE for part in line.split(b"\r\n")) or not line.isascii():
        line = fold(line)
    elif b"\r\n" not in line:
        line = fold(line, MAX_LINE)
    if any(len(part) > MAX_LINE for part in line.split(b"\r\n")):
        return Problem(
            f"header.{name.decode('ascii', 'replace')}",
            f"has a line over {MAX_LINE} bytes that cannot be folded",
        )
    return Mended(line + b"\r\n")


def _parameter(match: re.Match[str]) -> str:
    name, quoted, token = match.groups()
    value = token if quoted is None else _ESCAPED.sub(r"\1", quoted)
    return match[0] if value.isascii() else parameter(name, value)


def _encode_runs(text: str) -> str:
    """Encode the runs of words that are not ASCII; what is encoded already stays."""
    out: list[str] = []
    run = ""
    for word in _WORD.findall(text):
        if not word.isascii():
            run += word
            continue
        if run and word.lstrip(" \t").startswith("=?"):
            run += " "
        out += _run(run, after_encoded=bool(out) and out[-1].endswith("?="))
        run = ""
        out.append(word)
    out += _run(run, after_encoded=bool(out) and out[-1].endswith("?="))
    return "".join(out)


def _run(run: str, *, after_encoded: bool) -> list[str]:
    if not run:
        return []
    stripped = run.lstrip(" \t")
    # Readers drop the blank between two encoded words (RFC 2047 6.2): then it must stand inside one of them.
    return [" " + encoded_words(run if after_encoded else stripped)]


class _Addresses:
    """Rewrite a list of mailboxes and groups so that only local parts may be other than ASCII."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._out: list[str] = []
        self._utf8 = False

    def mend(self, text: str) -> tuple[str, bool] | Problem:
        """Give the new list, and whether it still holds UTF-8."""
        words: list[str] = []
        comments: list[str] = []
        at = 0
        for token in [*_TOKEN.finditer(text), None]:
            if token is not None and token.start() != at:
                break
            at = len(text) if token is None else token.end()
            kind = "" if token is None else token.lastgroup
            part = "" if token is None or kind is None else token[kind] if kind else ""
            if kind == "comment":
                comments.append(part if part.isascii() else f"({encoded_words(part[1:-1])})")
            elif kind == "quoted":
                words.append(part if part.isascii() else _ESCAPED.sub(r"\1", part[1:-1]))
            elif kind == "plain":
                words.append(part)
            else:
                problem = self._flush("".join(words), comments, kind or "", part)
                if problem is not None:
                    return problem
                words, comments = [], []
        if at != len(text):
            return Problem(self._where, "is not a list of addresses that can be read")
        return "".join(self._out), self._utf8

    def _flush(self, words: str, comments: list[str], kind: str, part: str) -> Problem | None:
        shown = words if words.isascii() else f" {encoded_words(words.strip())} "
        if kind == "angle":
            spec = self._spec(part.strip())
            if isinstance(spec, Problem):
                return spec
            self._out.append(f"{shown}<{spec}>")
        elif part == ":":
            self._out.append(f"{shown}:")
        else:
            spec = words if words.isascii() else self._spec(words.strip())
            if isinstance(spec, Problem):
                return spec
            self._out.append(spec if words.isascii() else f" {spec}")
            self._out.append(part)
        if comments:
            self._out.insert(len(self._out) - (part in (",", ";")), " " + " ".join(comments))
        return None

    def _spec(self, spec: str) -> str | Problem:
        if spec.isascii():
            return spec
        local, _, host = spec.rpartition("@")
        domain = to_ascii(host)
        if domain is None or not local:
            return Problem(self._where, "holds an address whose domain cannot be written in ASCII")
        self._utf8 |= not local.isascii()
        return f"{local}@{domain}"
