"""What travels on mail.control: one partition, compacted, read by everybody from its start.

Slots: ``claim`` (its offset is the slot's epoch), ``heartbeat`` (the first ready one of an epoch is its `ready`), ``released``, ``left``
(what was under way at the release), ``source`` (whether its address can be used), ``hello`` (a round trip of one's own). Cluster:
``present`` (a sender lives), ``answering`` (a scheduler does, and where it can be asked), ``lanemap``, ``configuration``, ``directive``,
``want`` and ``shares`` (limits that several scheduler partitions keep together). Keys keep what must survive compaction: the last claim,
heartbeat, release and ``source`` of each slot, the last ``left`` of each epoch, each pod's last ``present`` or ``answering``, the lane map,
the configuration, each directive, each partition's last ``want``. A pod's key ends with the pod: a tombstone is written when it leaves, or
by the others when it has long been silent. A directive's ends an hour after it has expired, an epoch's with an owner of the slot who comes
when nothing of it can be under way any more.
"""

from typing import Annotated, Final

import msgspec

from shared.records.action import Action
from shared.records.codec import Codec, Natural, Record
from shared.records.configuration import Configuration
from shared.records.lanemap import LaneMap
from shared.records.selector import Selector
from shared.records.shares import Shares, Want

_Positive = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]


class Claim(Record, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="claim"):
    """Ask for a slot; the record's offset becomes the epoch."""

    slot: int
    source: str
    #: The process: unique for each start.
    process: str
    #: The pod's uid: a restart in the same pod has the same one.
    pod: str


class Heartbeat(
    Record,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="k",
    tag="heartbeat",
):
    """Say that the owner of ``epoch`` lives; ``ready`` only while it is fit to send."""

    slot: int
    epoch: int
    process: str
    ready: bool
    #: The sender's clocks when it sent this.
    mono_ns: int
    wall_ns: int


class Released(
    Record, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="released"
):
    """Give a slot up: nothing more is sent in ``epoch``, and all its outcomes are acknowledged but those of what is ``Left``."""

    slot: int
    epoch: int
    process: str


class Unanswered(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An attempt whose message has gone out whole, and whose peer has not said what it makes of it."""

    id: str
    n: int
    #: Its limit key and its site: its connection still counts there.
    key: str
    site: str


class Left(Record, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="left"):
    """Say what of ``epoch`` still waits for the reply to its final dot: ``process`` hears it, whoever has the slot meanwhile.

    Said before the release, and again as it becomes less, each time after the outcomes of what is gone are acknowledged.
    """

    slot: int
    epoch: int
    process: str
    attempts: tuple[Unanswered, ...] = ()


class Hello(Record, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="hello"):
    """Measure a round trip: its stamp bounds the process's clock, its reading back proves the log read to its end."""

    process: str
    wall_ns: int


class Present(Record, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="present"):
    """Say that a sender lives and may be given floating slots; said again and again, it may own none."""

    process: str
    #: The pod's uid: a restart in the same pod takes the place of the process before it.
    pod: str
    wall_ns: int
    #: It gives up what it has and takes nothing more.
    leaving: bool = False
    #: Floating slots that it cannot serve now.
    lacks: tuple[int, ...] = ()


class SourceState(
    Record, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="source"
):
    """Say that a source cannot be used now (its address cannot be bound, no proxy works, it is seen with another one), or can again."""

    slot: int
    source: str
    usable: bool
    reason: str = ""


class Answering(
    Record, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="answering"
):
    """Say that a scheduler lives, which partitions it has, and where it answers; said again and again."""

    process: str
    pod: str
    #: As ``http://192.0.2.4:9464``.
    url: str
    partitions: tuple[int, ...] = ()


class OrderedRate(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """At most ``count`` in any window of ``period_ns``; so many of them at once."""

    count: _Positive
    period_ns: _Positive
    burst: _Positive = 1

    def __post_init__(self) -> None:
        """Refuse a burst that is no part of the count."""
        if self.burst > self.count:
            raise ValueError("burst: at most the count")


class Directive(
    Record,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="k",
    tag="directive",
):
    """An operator's order: what, on whom, why, by whom, until when."""

    id: str
    action: Action
    tenant: str | None = None
    stream: str | None = None
    tag: str | None = None
    class_: str | None = msgspec.field(name="class", default=None)
    provider: str | None = None
    domain: str | None = None
    source: str | None = None
    accepted_before_ns: Natural | None = None
    delivery: str | None = None
    #: reroute: where to.
    pool: str | None = None
    #: slow: so much of what is allowed else, in percent.
    percent: Annotated[int, msgspec.Meta(ge=1, le=99)] | None = None
    #: limit: so much from each source, instead of what the configuration says.
    rate: OrderedRate | None = None
    connections: _Positive | None = None
    bytes: OrderedRate | None = None
    #: limit of a tenant, in all or at a provider: so much over all sources.
    total_rate: OrderedRate | None = None
    reason: str
    author: str
    #: None: until resumed. Of what is done once: until when mail that comes late, or back, is looked at.
    expires_ns: int | None = None

    @property
    def selector(self) -> Selector:
        """Give what it is about."""
        return Selector(**{name: getattr(self, name) for name in Selector.__struct_fields__})


Control = (
    Claim
    | Heartbeat
    | Released
    | Left
    | Hello
    | Present
    | SourceState
    | Answering
    | LaneMap
    | Configuration
    | Directive
    | Want
    | Shares
)
CONTROL: Codec[Control] = Codec(Control)


def control_key(record: Control) -> bytes:  # noqa: C901, PLR0911, PLR0912 - one for each kind
    """Name what compaction keeps the last of."""
    match record:
        case Claim(slot=slot):
            return b"claim/%d" % slot
        case Heartbeat(slot=slot):
            return b"heartbeat/%d" % slot
        case Released(slot=slot):
            return b"released/%d" % slot
        case Left(slot=slot, epoch=epoch):
            return left_key(slot, epoch)
        case SourceState(slot=slot):
            return b"source/%d" % slot
        case Hello():
            # Only its sender wants to see it, and only soon.
            return b"hello"
        case Present(pod=pod):
            return present_key(pod)
        case Answering(pod=pod):
            return answering_key(pod)
        case LaneMap():
            return b"lanemap"
        case Configuration():
            return b"configuration"
        case Directive(id=id_):
            return directive_key(id_)
        case Want(partition=partition):
            return b"want/%d" % partition
        case Shares():
            # Older ones are void soon: whoever missed them has lost them.
            return b"shares"


_PRESENT: Final = b"present/"
_ANSWERING: Final = b"answering/"
_DIRECTIVE: Final = b"directive/"
_LEFT: Final = b"left/"


def present_key(pod: str) -> bytes:
    """Name the key of a pod's ``present``."""
    return _PRESENT + pod.encode()


def present_pod(key: bytes) -> str | None:
    """Say whose ``present`` a key is; None: it is another record's."""
    return _named(_PRESENT, key)


def answering_key(pod: str) -> bytes:
    """Name the key of a scheduler's ``answering``."""
    return _ANSWERING + pod.encode()


def answering_pod(key: bytes) -> str | None:
    """Say whose ``answering`` a key is; None: it is another record's."""
    return _named(_ANSWERING, key)


def directive_key(id_: str) -> bytes:
    """Name the key of a directive."""
    return _DIRECTIVE + id_.encode()


def directive_id(key: bytes) -> str | None:
    """Say which directive a key is of; None: it is another record's."""
    return _named(_DIRECTIVE, key)


def left_key(slot: int, epoch: int) -> bytes:
    """Name the key of an epoch's ``left``."""
    return _LEFT + b"%d/%d" % (slot, epoch)


def left_epoch(key: bytes) -> tuple[int, int] | None:
    """Say whose ``left`` a key is: slot and epoch; None: it is another record's."""
    slot, _, epoch = (_named(_LEFT, key) or "").partition("/")
    try:
        return int(slot), int(epoch)
    except ValueError:
        return None


def _named(prefix: bytes, key: bytes) -> str | None:
    """Give what a key names behind ``prefix``; None: it has another, or nobody of ours wrote it, which may stop nobody who reads it."""
    if not key.startswith(prefix):
        return None
    try:
        return key.removeprefix(prefix).decode()
    except UnicodeDecodeError:
        return None
