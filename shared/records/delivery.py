"""delivery: one recipient of one message, the unit of scheduling, in mail.deliveries.{transactional,bulk}.

The partition is the one that decides about it (the lane map says which). The body rides along, or is referred to. Three more kinds
travel on the same log because they must keep its order: ``handover`` gives a lane's limiters to its new partition, ``late`` carries an
outcome that arrived at the old one, and a delivery with ``again`` is a straggler appended anew so that the log can be trimmed.
Internal times are nanoseconds since the epoch.
"""

from typing import Final

import msgspec

from shared.records.body import BodyRef
from shared.records.codec import Codec, Natural, Record
from shared.records.outcome import Outcome
from shared.records.state import DomainState, PairState, TotalState


class Delivery(
    Record, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="delivery"
):
    """Ask for one message to be brought to one recipient."""

    #: Stable over all attempts.
    id: str
    #: The submission's id: the platform's key, or topic-partition-offset.
    submission: str
    tenant: str
    class_: str = msgspec.field(name="class")
    #: The return path; "" is <>.
    from_: str = msgspec.field(name="from")
    #: Where bounces are expected; differs from ``from`` once return paths are rewritten per recipient.
    return_path: str
    to: str
    #: The recipient's domain as an A-label, lower case.
    domain: str
    #: Who runs the MX: None where nobody is known to, or where it is not resolved yet.
    provider: str | None = None
    #: The normalised set of MX hosts; None: not resolved yet.
    site: str | None = None
    pool: str
    #: The version of the lane map that routed it.
    map: Natural
    accepted_ns: Natural
    not_before_ns: Natural
    expires_ns: Natural
    #: Of the body as it will be sent without ``prepend`` and signature.
    size_bytes: Natural
    #: The domain of the From header, which chooses the DKIM key.
    header_domain: str
    stream: str = ""
    tags: tuple[str, ...] = ()
    #: Header lines of this recipient (CRLF after each), put before the body and signed with it.
    prepend: str = ""
    body: BodyRef | None = None
    eight_bit: bool = False
    smtputf8: bool = False
    #: What it has been through where it was before: grants counted, retry steps taken, unknown outcomes, refusals by greylisting and
    #: the slot that must try next, whether it is held, the newest order that was done to it, since when it waits again, hops between
    #: partitions.
    n: Natural = 0
    steps: Natural = 0
    unknowns: Natural = 0
    refusals: Natural = 0
    pinned: int | None = None
    held: bool = False
    ordered: Natural = 0
    back_ns: Natural = 0
    #: What the platform asked for, where ``not_before_ns`` is the time of a retry; 0: ``not_before_ns``.
    first_ns: Natural = 0
    hop: Natural = 0
    again: bool = False


class Handover(
    Record, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="handover"
):
    """Give a lane to the partition that reads this: it may grant from here on."""

    lane: str
    map: int
    #: Its limiters, as they are written in mail.state.
    pairs: tuple[PairState, ...] = ()
    totals: tuple[TotalState, ...] = ()
    domains: tuple[DomainState, ...] = ()
    #: More of its limiters follow in another record: the lane is handed over by the last.
    more: bool = False


class Late(Record, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="late"):
    """Carry an outcome to the partition where its delivery has moved."""

    outcome: Outcome
    hop: Natural = 0


#: What ingest writes is below 100 KB. The line is repeated in states and events, of which a round writes several.
_LINE_BYTES: Final = 1 << 20
DELIVERY: Codec[Delivery | Handover | Late] = Codec(
    Delivery | Handover | Late, line_bytes=_LINE_BYTES
)
