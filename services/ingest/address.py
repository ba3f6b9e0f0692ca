"""address: one mailbox address, as SMTP may carry it. Pure.

Plain ASCII addresses, which is nearly all of them, are read by one strict grammar: dot-atoms before the @, host labels after it, at
least two of them. It has no room for anything that could reach a command line: no blanks, controls, quotes, comments, ports or address
literals. Only what is not ASCII goes to email-validator (its local part: RFC 6531) and idna (its domain), which are far slower.
"""

import re
from typing import Final, NamedTuple

import idna
from email_validator import EmailNotValidError, validate_email

from services.ingest.problem import Problem

_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# The last label begins with a letter, so that nothing like an IPv4 address passes.
DOMAIN: Final = rf"(?:{_LABEL}\.)+(?=[A-Za-z]){_LABEL}"
_PLAIN: Final = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@({DOMAIN})")
_DOMAIN: Final = re.compile(DOMAIN)
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\ufeff]")
# RFC 5321 4.5.3.1: 64 octets before the @, 255 for the domain; a path of 256 with its brackets leaves 254.
_LONGEST: Final = 254
_LONGEST_LOCAL: Final = 64


class Address(NamedTuple):
    """An address with its domain as an A-label, lower case. A tuple: three of them are made for each message."""

    local: str
    domain: str

    def __str__(self) -> str:
        """Write it as it goes into a command."""
        return f"{self.local}@{self.domain}"

    @property
    def smtputf8(self) -> bool:
        """Say whether only SMTPUTF8 can carry it: an IDN domain alone does not need it."""
        return not self.local.isascii()


def parse(text: str, field: str) -> Address | Problem:
    """Read one address, or say which rule it breaks; ``field`` is whose problem it is."""
    match = _PLAIN.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None or "xn--" in text:
        return _parse_slowly(text, field)
    local, domain = match.groups()
    if len(local) > _LONGEST_LOCAL:
        return Problem(field, "the part before the @ is longer than 64 octets")
    return Address(local, domain.lower())


def _parse_slowly(text: str, field: str) -> Address | Problem:  # noqa: PLR0911 - one for each rule
    if wrong := _structure(text):
        return Problem(field, wrong)
    local, _, host = text.rpartition("@")
    domain = to_ascii(host)
    if domain is None:
        return Problem(
            field, "the domain is not a name with at least two labels that DNS could hold"
        )
    if not local.isascii():
        try:
            # With a domain of no interest: its own rules about names such as .test are not ours.
            local = validate_email(f"{local}@example.com", check_deliverability=False).local_part
        except EmailNotValidError as error:
            return Problem(field, f"the part before the @ is not allowed: {error}"[:300])
    elif not re.fullmatch(rf"{_ATOM}(?:\.{_ATOM})*", local):
        return Problem(field, "the part before the @ is not made of atoms with single dots between")
    if len(local.encode()) > _LONGEST_LOCAL:
        return Problem(field, "the part before the @ is longer than 64 octets")
    if len(local.encode()) + 1 + len(domain) > _LONGEST:
        return Problem(field, f"an address is at most {_LONGEST} octets long")
    return Address(local, domain)


def _structure(text: str) -> str | None:
    """Name what is plainly wrong, in the order in which a reader would see it."""
    if len(text) > _LONGEST:
        return f"an address is at most {_LONGEST} octets long"
    if _CONTROL.search(text):
        return (
            "blanks and control characters (line breaks among them) are not allowed in an address"
        )
    if text.count("@") != 1:
        return "an address has exactly one @"
    host = text.rpartition("@")[2]
    if "[" in host or "]" in host:
        return "address literals are not allowed: use a domain"
    if ":" in host:
        return "a port is not allowed in an address"
    return None


def to_ascii(host: str) -> str | None:
    """Give a domain as A-labels, lower case; None: it is no name with at least two labels."""
    name = host.lower()
    if not name.isascii() or "xn--" in name:
        try:
            name = idna.encode(name, uts46=True, std3_rules=True).decode().lower()
        except (idna.IDNAError, UnicodeError):
            return None
    return name if len(name) <= _LONGEST and _DOMAIN.fullmatch(name) else None
