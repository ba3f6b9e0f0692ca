"""state: the scheduler's memory in mail.state (compacted), written in the same transaction as what it decided.

``DeliveryState`` is the one record that is not frozen: it is the scheduler's working memory and its changelog at once, so that what is
restored cannot differ from what was. Keys: ``d/<delivery id>``, ``p/<slot>/<limit key>``, ``s/<sending domain>/<limit key>``,
``t/<limit key>``, ``l/<lane>``, ``m/<delivery id>``, ``x/<class>/<pool>/<tenant>/<destination>``, ``o/<offset>``, ``meta``; a delivery
that ended is a tombstone.
"""

from typing import Final

import msgspec

from shared.records.action import Action
from shared.records.backoff import Backoff, Suspension
from shared.records.codec import UNSAID, Codec
from shared.records.health import Health

NO_PAUSE: Final = msgspec.Raw(b"null")


class Open(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """A grant that is not settled."""

    n: int
    slot: int
    epoch: int
    t0_ns: int
    t1_ns: int
    #: The stamp of `started`; None: not read.
    started_ns: int | None = None


class DeliveryState(msgspec.Struct, omit_defaults=True, tag_field="k", tag="d", weakref=True):
    """One delivery that has no final event yet.

    Fields without a default come first: the scheduler makes it from a tuple (``policy.resting``), which costs a third of keywords.
    """

    id: str
    submission: str
    tenant: str
    class_: str = msgspec.field(name="class")
    from_: str = msgspec.field(name="from")
    to: str
    domain: str
    pool: str
    accepted_ns: int
    not_before_ns: int
    expires_ns: int
    size_bytes: int
    #: Where its record lies in mail.deliveries.<class> of this partition; the body is read again from there.
    offset: int
    due_ns: int
    v: int = UNSAID
    provider: str | None = None
    #: None: the domain is not resolved yet.
    site: str | None = None
    #: Of the From header: the domain that the mail is signed and judged by. "": that of ``from_``.
    header_domain: str = ""
    stream: str = ""
    tags: tuple[str, ...] = ()
    #: Grants counted, retry steps taken, unknown outcomes, refusals by greylisting.
    n: int = 0
    steps: int = 0
    unknowns: int = 0
    refusals: int = 0
    #: The slot that must try next (greylisting remembers the address).
    pinned: int | None = None
    #: When the domain was first said not to exist.
    gone_ns: int | None = None
    #: An operator or ``unknown = "hold"`` keeps it until it is told otherwise.
    held: bool = False
    hop: int = 0
    #: The offset of the newest order that was done to it; no older one is done again.
    ordered: int = 0
    #: When its last attempt was settled, or its last question answered; 0: it never waited again.
    back_ns: int = 0
    open: Open | None = None


class WarmupState(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """How far a source has come with the limit key that it is warmed up for, see policy.warmup."""

    #: The day that the counts are of, in days since the epoch (UTC), and the last one with a grant.
    day: int
    last: int
    #: Days that counted.
    step: int = 0
    #: The most answers on one of the days before.
    best: int = 0
    #: The day's grants, and the answers heard on it.
    used: int = 0
    sent: int = 0
    #: When the last grant began: the next one keeps its distance.
    pace_ns: int = 0
    #: Of the answers, those that rates are made of; deferrals among them; complaints.
    counted: int = 0
    deferred: int = 0
    complaints: int = 0
    #: The day does not count: a rate was too high, or it was blocked.
    spoiled: bool = False
    #: It has been stepped back on this day.
    stepped: bool = False
    #: Since the last day that counted: ``held`` or ``stepped_back``.
    trouble: str = ""
    #: The schedule is over.
    warm: bool = False


class PairState(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="k", tag="p"
):
    """The limiter, pause, back-off and warm-up of one (limit key, slot) pair.

    Or the warm-up alone of a bucket of sites, ``site:N``, at a slot.
    """

    v: int = UNSAID
    key: str
    slot: int
    #: State of the limiter, see policy.limits.
    limiter: int = 0
    #: Of a limit of bytes: from when on the next message may start, see policy.sizes.
    volume: int = 0
    #: State of the pause as policy.pauses writes it; null: none.
    pause: msgspec.Raw = NO_PAUSE
    #: The epoch whose ``ready`` the limiter counts.
    epoch: int = -1
    #: What warnings of the destination left behind.
    backoff: Backoff | None = None
    #: (epoch, its clock) of the latest warning of a sender that was heard here.
    heard: tuple[int, int] = (-1, 0)
    health: Health | None = None
    #: Messages taken by a destination that nobody knows, see policy.growth.
    good: int = 0
    #: None: it has never been warmed up.
    warmup: WarmupState | None = None


class SpillState(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What a pool sent to a destination on a day, and what of its mail spilled over to another pool, see policy.spilling."""

    #: Days since the epoch (UTC).
    day: int
    sent: int = 0
    spilled: int = 0


class TotalState(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="k", tag="t"
):
    """What counts over several slots: all of a limit key, a tenant, a sending domain, a bucket of sites (``site:N``)."""

    v: int = UNSAID
    #: The name of its row in the settings.
    key: str
    #: Of the total rate.
    limiter: int = 0
    #: Of a limit that crosses partitions: the newest shares that were taken, and what is left: (until ns, tokens).
    given_ns: int = 0
    lots: tuple[tuple[int, int], ...] = ()
    #: Pool -> what it sent there, and what spilled.
    spills: dict[str, SpillState] = msgspec.field(default_factory=dict)


class DomainState(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="k", tag="s"
):
    """What a destination thinks of a sending domain, see policy.sendingdomains."""

    v: int = UNSAID
    #: The limit key, and the sending domain.
    key: str
    domain: str
    tenant: str
    provider: str | None = None
    #: Such replies in a row, with nothing taken between.
    hits: int = 0
    #: Answers to attempts with a t0 up to here say nothing new.
    mark_ns: int = 0
    suspension: Suspension | None = None
    #: Of a domain that sent too much: what it may do since, of how many deciders each has its part of that, and its last token.
    backoff: Backoff | None = None
    parts: int = 1
    limiter: int = 0


class LaneState(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="k", tag="l"
):
    """Whether this partition holds a lane that has moved: it was handed over to it, and not handed on."""

    v: int = UNSAID
    lane: str
    held: bool
    #: The version of the lane map that moved it.
    map: int


class MovedState(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="k", tag="m"
):
    """Where a delivery went that had been attempted here: its late outcomes follow it."""

    v: int = UNSAID
    id: str
    class_: str = msgspec.field(name="class")
    partition: int
    #: Nothing that is heard after this matters: its time is over.
    until_ns: int


class ParkedState(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="k", tag="x"
):
    """Mail that did not fit into memory: one tenant's, of a pool, for one destination; its records are passed over from ``offset`` on."""

    v: int = UNSAID
    class_: str = msgspec.field(name="class")
    pool: str
    #: The provider, else the site, else the domain, as the records name it.
    destination: str
    tenant: str
    offset: int
    #: So many were passed over and not taken since.
    count: int = 0


class OrderState(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="k", tag="o"
):
    """What this partition has done of an operator's order that is in force."""

    v: int = UNSAID
    #: Of the directive in mail.control.
    offset: int
    id: str
    action: Action
    selector: str
    author: str
    reason: str
    #: How many deliveries it was done to, or was about when it came.
    hits: int = 0
    #: What waited when it came has been looked at.
    done: bool = False


class Meta(
    msgspec.Struct,
    frozen=True,
    gc=False,
    kw_only=True,
    omit_defaults=True,
    tag_field="k",
    tag="meta",
):
    """How far the inputs are read (the truth; the group's offsets are for tools), and the latest ``now``."""

    v: int = UNSAID
    now_ns: int = 0
    #: Between so many slot groups totals are divided.
    groups: int = 1
    #: Since when it is so many; 0: always.
    divided_ns: int = 0
    #: The fingerprint of the configuration that was said last to be gone by; of the first partition.
    configuration: str = ""
    #: Topic name without prefix -> next offset, in this partition.
    positions: dict[str, int] = msgspec.field(default_factory=dict)


State = (
    DeliveryState
    | PairState
    | TotalState
    | DomainState
    | LaneState
    | MovedState
    | ParkedState
    | OrderState
    | Meta
)
STATE: Codec[State] = Codec(State)
META_KEY = b"meta"
#: What the keys of deliveries begin with, and no others.
DELIVERY_KEYS = b"d/"


def state_key(record: State) -> bytes:  # noqa: PLR0911 - one for each kind
    """Name what compaction keeps the last of."""
    match record:
        case DeliveryState(id=id_):
            return delivery_key(id_)
        case PairState(key=key, slot=slot):
            return pair_key(key, slot)
        case TotalState(key=key):
            return b"t/" + key.encode()
        case DomainState(key=key, domain=domain):
            return domain_key(key, domain)
        case LaneState(lane=lane):
            return b"l/" + lane.encode()
        case MovedState(id=id_):
            return moved_key(id_)
        case ParkedState(class_=class_, pool=pool, destination=destination, tenant=tenant):
            return parked_key(class_, pool, destination, tenant)
        case OrderState(offset=offset):
            return order_key(offset)
        case Meta():
            return META_KEY


def delivery_key(id_: str) -> bytes:
    """Name a delivery's record; with no value it says that the delivery ended."""
    return DELIVERY_KEYS + id_.encode()


def pair_key(key: str, slot: int) -> bytes:
    """Name a pair's record; with no value it says that nothing is known of the pair."""
    return b"p/%d/%b" % (slot, key.encode())


def domain_key(key: str, domain: str) -> bytes:
    """Name what a destination thinks of a sending domain; with no value it says that nothing is known."""
    return f"s/{domain}/{key}".encode()


def moved_key(id_: str) -> bytes:
    """Name the memory of a delivery that moved; with no value it says that nothing is remembered."""
    return b"m/" + id_.encode()


def parked_key(class_: str, pool: str, destination: str, tenant: str) -> bytes:
    """Name what is parked; with no value it says that it is not any more."""
    return f"x/{class_}/{pool}/{tenant}/{destination}".encode()


def order_key(offset: int) -> bytes:
    """Name the memory of an order; with no value it says that the order has ended."""
    return b"o/%d" % offset
