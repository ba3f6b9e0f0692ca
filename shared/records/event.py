"""event: everything that happens to a delivery, on mail.events, for platforms, webhooks and consoles.

Key = delivery id (or the submission's, where there is no delivery), so that the events of a delivery keep their order. What operators
order is here too: a ``directive`` event from each scheduler partition when it has done it, and when it has ended. Times are
RFC 3339. Every event has ``final``: after a final one nothing more is said of the delivery except feedback.

``slowed``, ``suspended`` and ``resumed`` are about no delivery: they tell operators what a destination made of a source, or of a sending
domain, and their key names those. ``configured`` tells them that the schedulers go by another configuration.
"""

from typing import Literal

import msgspec

from shared.records.action import Action
from shared.records.codec import Codec, Record
from shared.records.outcome import Reply, Wire

EventType = Literal[
    "accepted",
    "rejected",
    "duplicate",
    "deferred",
    "delivered",
    "bounced",
    "expired",
    "cancelled",
    "suppressed",
    "unknown",
    "directive",
    "slowed",
    "suspended",
    "resumed",
    "configured",
]


class Ordering(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Name the operator's order that something happened by, or of which something is said."""

    id: str
    action: Action
    author: str
    #: Of ``directive``: what it is about, whether it was done or has ended, and with how many deliveries in this scheduler partition.
    selector: str = ""
    phase: Literal["", "done", "ended"] = ""
    hits: int = 0
    partition: int | None = None


class Configured(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Say which configuration is gone by, and who made it so."""

    fingerprint: str
    #: Where it was published.
    author: str = ""
    reason: str = ""
    #: The settings that differ from those before, where a running process took them over.
    changed: tuple[str, ...] = ()


class Event(Record, frozen=True, omit_defaults=True):
    """Say one thing that happened.

    What most events say comes first: the scheduler makes one for each delivery without naming the fields, which costs a fifth.
    """

    type: EventType
    final: bool
    time: str
    submission: str
    tenant: str
    class_: str = msgspec.field(name="class", default="")
    delivery: str | None = None
    to: str = ""
    from_: str = msgspec.field(name="from", default="")
    #: delivery id : n
    attempt: str | None = None
    provider: str | None = None
    site: str | None = None
    pool: str = ""
    stream: str = ""
    tags: tuple[str, ...] = ()
    source: str = ""
    reply: Reply | None = None
    wire: Wire | None = None
    #: The classification of the reply, or our own reason.
    category: str = ""
    scope: str = ""
    #: Seconds from acceptance to this event.
    age_s: float | None = None
    reason: str = ""
    #: Of ``rejected``: the field that was wrong.
    field: str = ""
    #: When the next attempt may come.
    next_attempt: str | None = None
    warnings: tuple[str, ...] = ()
    #: Through a smart host: another machine took the mail over, it has not reached the mailbox yet.
    relayed: bool = False
    #: After an unknown outcome: the mailbox may have it twice.
    maybe_duplicate: bool = False
    order: Ordering | None = None
    configured: Configured | None = None
    #: Of ``slowed`` and ``suspended``: nothing goes before.
    until: str | None = None
    #: Of ``suspended``: what to do about it.
    fix: str = ""
    #: Of ``suspended`` and ``resumed``: the sending domain, where it is not the source that waits.
    domain: str = ""


EVENT: Codec[Event] = Codec(Event)
