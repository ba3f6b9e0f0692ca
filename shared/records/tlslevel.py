"""What TLS must be at least: a level that travels in the grant, and how several requirements become one. Pure."""

from collections.abc import Iterable
from typing import Final, Literal

#: opportunistic: what there is, and the clear where it does not work. encrypted: never in the clear. verified: and the certificate fits.
TlsLevel = Literal["opportunistic", "encrypted", "verified"]

_ORDER: Final[tuple[TlsLevel, ...]] = ("opportunistic", "encrypted", "verified")


def strictest(levels: Iterable[TlsLevel]) -> TlsLevel:
    """Give the highest of the levels that somebody requires; a required level never downgrades."""
    return max(levels, key=_ORDER.index, default="opportunistic")
