"""What one process has read of mail.control: who owns each slot, since when, and what the operators ordered.

Pure: records go in with their offset and the broker's stamp, in log order, each once. Senders and schedulers run the same code, and
differ only in how far each has read. The epoch of a slot is the offset of its last claim; the first ready heartbeat of an epoch is its
``ready``. Compaction may take the first heartbeats away: then ``ready`` is seen later than it was, which only settles leases later.
What an epoch left behind its final dots is not over with the next one's ``ready``: whoever waits for it says what became of it.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from shared.records.action import STANDING
from shared.records.configuration import Configuration
from shared.records.control import (
    Answering,
    Claim,
    Control,
    Directive,
    Heartbeat,
    Hello,
    Left,
    Present,
    Released,
    SourceState,
    Unanswered,
    answering_pod,
    directive_id,
    left_epoch,
    present_pod,
)
from shared.records.lanemap import LaneMap
from shared.records.shares import Shares, Want

NO_EPOCH: Final = -1
# What was given and not looked at among so many is lost, as it is when its time is over.
_SHARES: Final = 256
# Epochs remembered for each slot. An epoch that is forgotten is judged by the next newer one's ``ready``: later, never earlier.
_REMEMBERED: Final = 64


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim that was read: its offset is the epoch."""

    epoch: int
    stamp_ns: int
    process: str
    pod: str


@dataclass(slots=True)
class SlotView:
    """One slot, as far as it was read."""

    claims: deque[Claimed] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    #: epoch -> stamp of its first ready heartbeat, oldest epoch first.
    ready: dict[int, int] = field(default_factory=dict)
    released: deque[int] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    #: epoch -> what it left, as was said last, and the stamp of that.
    left: dict[int, tuple[int, Left]] = field(default_factory=dict)
    #: The newest heartbeat of the newest epoch.
    beat_ns: int = 0
    beat_ready: bool = False
    usable: bool = True

    @property
    def epoch(self) -> int:
        """The slot's epoch; -1 before the first claim."""
        return self.claims[-1].epoch if self.claims else NO_EPOCH


@dataclass(frozen=True, slots=True)
class Sender:
    """A sender's last word of itself."""

    process: str
    #: Stamps of the first and of the newest ``present`` that was read of this process.
    since_ns: int
    last_ns: int
    leaving: bool
    lacks: frozenset[int]


@dataclass(frozen=True, slots=True)
class Ordered:
    """A directive as it was read: its offset orders it, its stamp says which mail was there before it."""

    offset: int
    stamp_ns: int
    order: Directive

    def in_force(self, now_ns: int) -> bool:
        """Say whether its time is not over; what only ends another is never in force."""
        expires = self.order.expires_ns
        return self.order.action != "resume" and (expires is None or now_ns < expires)


@dataclass(frozen=True, slots=True)
class Member:
    """A scheduler's last word of itself, and its stamp."""

    said: Answering
    stamp_ns: int


class ControlView:
    """Fold mail.control."""

    def __init__(self) -> None:
        """Begin with nothing read."""
        self.position = 0
        #: The newest stamp that was read: the log's own time.
        self.log_ns = 0
        self.lane_map: LaneMap | None = None
        #: The last that was published.
        self.configuration: Configuration | None = None
        #: id -> the newest directive of that name.
        self.directives: dict[str, Ordered] = {}
        #: Grows whenever they change.
        self.directive_changes = 0
        #: pod -> its scheduler, dead ones too.
        self.schedulers: dict[str, Member] = {}
        #: pod -> its sender, dead ones too.
        self.senders: dict[str, Sender] = {}
        #: Partition -> what it asks for, and when it was read to.
        self.wants: dict[int, tuple[int, Want]] = {}
        #: The latest of what was given, in the order of the log.
        self.shares: deque[Shares] = deque(maxlen=_SHARES)
        #: So many were read in all.
        self.shares_read = 0
        self._slots: dict[int, SlotView] = {}

    def __repr__(self) -> str:
        """Show the owners."""
        slots = ", ".join(f"{number}@{view.epoch}" for number, view in sorted(self._slots.items()))
        return f"<ControlView to {self.position} [{slots}]>"

    def feed(self, offset: int, stamp_ns: int, record: Control) -> None:
        """Take the next record."""
        self.position = offset + 1
        self.log_ns = max(self.log_ns, stamp_ns)
        match record:
            case Claim():
                slot = self.slot(record.slot)
                slot.claims.append(Claimed(offset, stamp_ns, record.process, record.pod))
                # Whoever claims can bind the address: what an older owner said of it is over.
                slot.beat_ns, slot.beat_ready, slot.usable = stamp_ns, False, True
            case Heartbeat():
                self._beat(record, stamp_ns)
            case Released():
                self.slot(record.slot).released.append(record.epoch)
            case Left():
                self.slot(record.slot).left[record.epoch] = stamp_ns, record
            case SourceState():
                self.slot(record.slot).usable = record.usable
            case LaneMap() | Configuration() | Directive():
                self._ordered(offset, stamp_ns, record)
            case Answering() | Present() | Hello():
                self._member(record, stamp_ns)
            case Want() | Shares():
                self._share(record, stamp_ns)

    def bury(self, offset: int, key: bytes) -> None:
        """Take a tombstone, the next record."""
        self.position = offset + 1
        if (pod := present_pod(key)) is not None:
            self.senders.pop(pod, None)
        elif (pod := answering_pod(key)) is not None:
            self.schedulers.pop(pod, None)
        elif (id_ := directive_id(key)) is not None and self.directives.pop(id_, None) is not None:
            self.directive_changes += 1
        elif (left := left_epoch(key)) is not None:
            self.slot(left[0]).left.pop(left[1], None)

    def _member(self, record: Answering | Present | Hello, stamp_ns: int) -> None:
        match record:
            case Answering():
                self.schedulers[record.pod] = Member(record, stamp_ns)
            case Present():
                self._present(record, stamp_ns)
            case Hello():
                pass

    def _share(self, record: Want | Shares, stamp_ns: int) -> None:
        if isinstance(record, Want):
            self.wants[record.partition] = stamp_ns, record
        else:
            self.shares.append(record)
            self.shares_read += 1

    def _present(self, record: Present, stamp_ns: int) -> None:
        before = self.senders.get(record.pod)
        again = before is not None and before.process == record.process and not before.leaving
        since = before.since_ns if before is not None and again else stamp_ns
        self.senders[record.pod] = Sender(
            record.process, since, stamp_ns, record.leaving, frozenset(record.lacks)
        )

    def _ordered(
        self, offset: int, stamp_ns: int, record: LaneMap | Configuration | Directive
    ) -> None:
        match record:
            case LaneMap():
                if self.lane_map is None or record.version > self.lane_map.version:
                    self.lane_map = record
            case Configuration():
                self.configuration = record
            case Directive():
                self.directives[record.id] = Ordered(offset, stamp_ns, record)
                self.directive_changes += 1

    def _beat(self, record: Heartbeat, stamp_ns: int) -> None:
        slot = self.slot(record.slot)
        if record.ready and record.epoch not in slot.ready:
            slot.ready[record.epoch] = stamp_ns
            if len(slot.ready) > _REMEMBERED:
                del slot.ready[min(slot.ready)]
        if record.epoch == slot.epoch:
            slot.beat_ns, slot.beat_ready = stamp_ns, record.ready

    def slot(self, number: int) -> SlotView:
        """Give the view of one slot, empty if nothing was read of it."""
        view = self._slots.get(number)
        if view is None:
            view = self._slots[number] = SlotView()
        return view

    def epoch(self, slot: int) -> int:
        """Give the epoch of ``slot``; -1 before its first claim."""
        return self.slot(slot).epoch

    def last_claim(self, slot: int) -> Claimed | None:
        """Give the claim that owns ``slot``."""
        claims = self.slot(slot).claims
        return claims[-1] if claims else None

    def claim_before(self, slot: int, epoch: int) -> Claimed | None:
        """Give the claim just before ``epoch``."""
        return next(
            (claim for claim in reversed(self.slot(slot).claims) if claim.epoch < epoch),
            None,
        )

    def was_ready(self, slot: int, epoch: int) -> bool:
        """Say whether ``epoch`` ever said ready."""
        return epoch in self.slot(slot).ready

    def is_released(self, slot: int, epoch: int) -> bool:
        """Say whether ``epoch`` was given up."""
        return epoch in self.slot(slot).released

    def newer_ready_ns(self, slot: int, epoch: int) -> int | None:
        """Give the stamp of the first ``ready`` of an epoch newer than ``epoch``."""
        return min(
            (stamp for known, stamp in self.slot(slot).ready.items() if known > epoch),
            default=None,
        )

    def over_ns(self, slot: int, epoch: int, id_: str, n: int) -> int | None:
        """Say from when on an attempt of ``epoch`` is in nobody's hands; None: the epoch's owner has it, or waits for its last reply."""
        newer = self.newer_ready_ns(slot, epoch)
        if newer is None or epoch not in self.slot(slot).left:
            return newer
        stamp_ns, left = self.slot(slot).left[epoch]
        if any((each.id, each.n) == (id_, n) for each in left.attempts):
            return None
        # What has gone from the list had its outcome acknowledged before.
        return max(newer, stamp_ns)

    def left(self, slot: int, epoch: int) -> tuple[Unanswered, ...]:
        """Give what an epoch said last that it waits for."""
        found = self.slot(slot).left.get(epoch)
        return () if found is None else found[1].attempts

    def left_by(self, process: str) -> list[tuple[int, int]]:
        """Give the slots and epochs of which ``process`` said last that it waits for something."""
        return [
            (number, epoch)
            for number, slot in self._slots.items()
            for epoch, (_, left) in slot.left.items()
            if left.process == process and left.attempts
        ]

    def unanswered(self, slot: int, epoch: int, within_ns: int) -> list[Unanswered]:
        """Give what the epochs before ``epoch`` left and still wait for, as far as it was said within ``within_ns`` of log time."""
        return [
            each
            for older, (stamp_ns, left) in self.slot(slot).left.items()
            if older < epoch and self.log_ns - stamp_ns < within_ns
            for each in left.attempts
        ]

    def live_epoch(self, slot: int, now_ns: int, fresh_ns: int) -> int | None:
        """Give the epoch that grants may go to: ready, not released, heard of within ``fresh_ns``."""
        view = self.slot(slot)
        epoch = view.epoch
        fresh = view.beat_ready and now_ns - view.beat_ns < fresh_ns
        return epoch if fresh and view.usable and epoch not in view.released else None

    def present(self, away_ns: int) -> dict[str, Sender]:
        """Give the senders that may have slots, by pod: heard of within ``away_ns`` of log time, and not leaving."""
        return {
            pod: sender
            for pod, sender in self.senders.items()
            if not sender.leaving and self.log_ns - sender.last_ns < away_ns
        }

    def holder(self, slot: int, away_ns: int) -> str | None:
        """Name the pod that has ``slot``, from its claim to its release; None: vacant, or silent for ``away_ns`` of log time."""
        claim, view = self.last_claim(slot), self.slot(slot)
        if claim is None or claim.epoch in view.released:
            return None
        return claim.pod if self.log_ns - view.beat_ns < away_ns else None

    def ready_ns(self, slot: int, epoch: int) -> int:
        """Give the stamp of the ``ready`` of ``epoch``; 0 if it was not read."""
        return self.slot(slot).ready.get(epoch, 0)

    def answering(self, away_ns: int) -> list[Answering]:
        """Give the schedulers that can be asked: heard of within ``away_ns`` of log time."""
        return [
            member.said
            for member in self.schedulers.values()
            if self.log_ns - member.stamp_ns < away_ns
        ]

    def in_force(self, now_ns: int) -> list[Ordered]:
        """List the directives whose time is not over, in the order in which they were given."""
        found = [ordered for ordered in self.directives.values() if ordered.in_force(now_ns)]
        return sorted(found, key=lambda ordered: ordered.offset)

    def standing(self, now_ns: int) -> list[Directive]:
        """List the pauses, and what else stands until it expires or is resumed."""
        return [each.order for each in self.in_force(now_ns) if each.order.action in STANDING]
