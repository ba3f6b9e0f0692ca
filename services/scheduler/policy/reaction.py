"""What can follow from an outcome: one kind of reaction each, and what an operator can do about it. Pure.

What an outcome asks for say the rows (``reactions``), and before them what its provider publishes (``published``).
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing is learnt about the pair, or nothing that is not the delivery's."""


@dataclass(frozen=True, slots=True)
class Good:
    """The pair works, and what it does is not too much."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The pair does not work: it pauses and is probed (``pauses``); ``everywhere``: and so do the key's other pairs."""

    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Trouble:
    """The host has trouble of its own, or only with this delivery: several in a row are the pair's, and it pauses."""


@dataclass(frozen=True, slots=True)
class Slow:
    """Too fast: stop for ``hold_ns`` (None: as the operator set it), then at a part of the rate; with that many connections, if any.

    ``lasts``: it is the source's reputation that the rate is measured by, and that comes back in days, not in minutes.
    """

    hold_ns: int | None = None
    connections: int | None = None
    lasts: bool = False


@dataclass(frozen=True, slots=True)
class Fewer:
    """Too many connections."""


@dataclass(frozen=True, slots=True)
class Suspend:
    """Suspend the pair, for ``first_ns`` at least (None: as the operator set it); ``slower``: it comes back at a part of the rate.

    ``volume``: the reply names how much was sent, so that it says something of the other sources of the pool too (``hearsay``).
    """

    first_ns: int | None = None
    fix: str = ""
    slower: bool = True
    volume: bool = False


@dataclass(frozen=True, slots=True)
class SuspendDomain:
    """Suspend the sending domain at the provider after so many such replies with nothing taken between."""

    fix: str
    hits: int = 3


@dataclass(frozen=True, slots=True)
class SlowDomain:
    """The sending domain sends too much: stop it at the provider for ``hold_ns``, then let a part of what it did go (``domainpace``)."""

    fix: str
    hold_ns: int


Caution = Slow | Fewer | Suspend
Reaction = Nothing | Good | Trouble | Fail | Caution | SuspendDomain | SlowDomain

#: What an operator can do about it.
BLOCKED: Final = (
    "The provider refuses this address. Look it up in the block lists and at the provider's postmaster page, stop what "
    "brought it there (complaints, dead addresses), then ask for its removal."
)
PTR: Final = "Give the address a PTR record whose name resolves to the address again; it should be the source's ehlo name."
TLS: Final = "The provider takes no mail in the clear from this source. Look at why TLS fails between the two."
CREDENTIALS: Final = (
    "The smart host refuses the login: correct username and password_file of the source."
)
AUTH: Final = "Publish SPF, DKIM and DMARC records that cover this source and this domain, and see that From is aligned with one of them."
TOO_MUCH: Final = (
    "The provider finds that this sending domain sends too much, from whatever source: it stops, and goes on at a lower rate that rises "
    "again. A rate for the domain at this provider keeps it below from the start."
)
SENDER: Final = "The domain of the return path must exist and take mail: give it MX or A records."
