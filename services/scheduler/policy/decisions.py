"""What a round of the ledger decides: frozen values that the shell turns into records of one transaction."""

from dataclasses import dataclass, field

import msgspec

from services.scheduler.policy.budgets import WarmupNews
from services.scheduler.policy.parking import Unit
from services.scheduler.policy.spilling import Spilled
from shared.records.delivery import Handover, Late
from shared.records.event import Event
from shared.records.grant import Grant
from shared.records.shares import Shares
from shared.records.state import (
    DeliveryState,
    DomainState,
    LaneState,
    MovedState,
    OrderState,
    PairState,
    ParkedState,
    TotalState,
)


class Granted(msgspec.Struct, eq=False):
    """One grant; the shell adds the body (and what only the delivery's record knows) from ``delivery.offset``."""

    delivery: DeliveryState
    grant: Grant


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A delivery that another partition decides about: its record is appended there, its state here ends."""

    delivery: DeliveryState
    partition: int
    #: The version of the lane map that says so.
    map: int


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A lane that another partition decides about from where it reads ``record`` on."""

    partition: int
    record: Handover


@dataclass(frozen=True, slots=True)
class Passed:
    """An outcome that follows its delivery, on the log of the class on which that went."""

    class_: str
    partition: int
    record: Late


@dataclass(slots=True)
class Decisions:
    """Everything that one transaction must write."""

    #: Between so many slot groups totals are divided.
    groups: int = 1
    #: Since when it is so many.
    divided_ns: int = 0
    #: The fingerprint of the configuration that was said to be gone by.
    configuration: str = ""
    granted: list[Granted] = field(default_factory=list)
    forwarded: list[Forwarded] = field(default_factory=list)
    handed_over: list[HandedOver] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    #: Delivery id -> its state, or None where it ended.
    deliveries: dict[str, DeliveryState | None] = field(default_factory=dict)
    pairs: list[PairState] = field(default_factory=list)
    #: (limit key, slot) of pairs of which nothing is known any more.
    forgotten: set[tuple[str, int]] = field(default_factory=set)
    totals: list[TotalState] = field(default_factory=list)
    #: (limit key, sending domain) -> what is known of it there, or None where nothing is any more.
    domains: dict[tuple[str, str], DomainState | None] = field(default_factory=dict)
    #: What was dealt of the limits that cross partitions, to be said once it is committed.
    shares: Shares | None = None
    lanes: list[LaneState] = field(default_factory=list)
    #: Delivery id -> where it went, or None where that need not be known any more.
    moved: dict[str, MovedState | None] = field(default_factory=dict)
    #: Unit -> from where its records are passed over, or None where they are not any more.
    parked: dict[Unit, ParkedState | None] = field(default_factory=dict)
    #: To be told; what it follows from is in ``pairs``.
    warmups: list[WarmupNews] = field(default_factory=list)
    spilled: list[Spilled] = field(default_factory=list)
    #: Offset of an order -> what was done of it, or None where it has ended.
    orders: dict[int, OrderState | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Say whether there is anything to write."""
        return bool(
            self.granted
            or self.forwarded
            or self.handed_over
            or self.passed
            or self.events
            or self.deliveries
            or self.pairs
            or self.forgotten
            or self.totals
            or self.domains
            or self.shares
            or self.lanes
            or self.moved
            or self.parked
            or self.orders
        )


@dataclass(frozen=True, slots=True)
class Found:
    """A domain's MX set is known."""

    site: str
    provider: str | None


@dataclass(frozen=True, slots=True)
class Gone:
    """A domain does not take mail, by its own name servers' word; ``asked_twice`` is needed for NXDOMAIN."""

    enhanced: str
    reason: str
    at_once: bool


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Nobody could say: SERVFAIL or a time-out; a deferral (4.4.3)."""

    reason: str


Resolution = Found | Gone | NoAnswer
