"""mailbox: an address with a display name, as people write it: ``Ann <ann@example.com>``. Pure.

One mailbox, no more: no lists, no groups, no routes. What several readers could take for different addresses is refused (CVE-2023-27043):
an unquoted name may hold none of RFC 5322's specials but the dot.
"""

import re
from dataclasses import dataclass
from typing import Final

from services.ingest.address import Address, parse
from services.ingest.problem import Problem

_QUOTED: Final = r'"(?:[^"\\\r\n]|\\[^\r\n])*"'
_NAMED: Final = re.compile(
    rf'((?:{_QUOTED}|[^<>()\[\]:;@\\,"])*)<([^<>]+)>(?:[ \t]*\([^()\\\r\n]*\))?'
)
_BARE: Final = re.compile(r"([^<>()\s]+)(?:[ \t]*\(([^()\\\r\n]*)\))?")
_LONGEST: Final = 4000
_LONGEST_NAME: Final = 300
_PART: Final = re.compile(rf"({_QUOTED})|([^\"]+)")
_ESCAPED: Final = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One mailbox; the name is plain text, without quotes."""

    name: str
    address: Address


def parse_mailbox(text: str, field: str) -> Mailbox | Problem:
    """Read one mailbox, or say which rule it breaks."""
    # Stripped first: a pattern that begins and ends with blanks that may also be in the name costs the square of their number.
    text = text.strip(" \t")
    if len(text) > _LONGEST:
        return Problem(field, f"is longer than {_LONGEST} characters")
    if named := _NAMED.fullmatch(text):
        name, spec = _unquoted(named[1]), named[2].strip(" \t")
    elif bare := _BARE.fullmatch(text):
        name, spec = (bare[2] or "").strip(), bare[1]
    else:
        return Problem(
            field,
            'expected one mailbox such as "Ann <ann@example.com>" (a name with any of <>()[]:;@\\," must be in quotes)',
        )
    # In encoded words it may be longer: what is written here must be read here again.
    if len(name) > _LONGEST_NAME and "=?" not in name:
        return Problem(field, f"the name is longer than {_LONGEST_NAME} characters")
    address = parse(spec, field)
    return Mailbox(name, address) if isinstance(address, Address) else address


def _unquoted(phrase: str) -> str:
    if '"' not in phrase:
        return phrase.strip()
    parts = [
        _ESCAPED.sub(r"\1", quoted[1:-1]) if quoted else plain
        for quoted, plain in _PART.findall(phrase)
    ]
    return "".join(parts).strip()
