"""Three partitions and a clock: what one decides is written, and read by the others, as the shell does it."""

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.scheduler import changelog
from services.scheduler.policy.decisions import Decisions
from services.scheduler.policy.ledger import Ledger
from services.scheduler.rewriting import forwarded_value
from shared.protocol.control import ControlView
from shared.records.codec import Unreadable, encode
from shared.records.control import Claim, Control
from shared.records.delivery import DELIVERY, Delivery, Handover, Late
from shared.records.grant import Grant
from shared.records.lanemap import LaneMap, moved
from shared.records.outcome import Outcome, Result
from shared.records.state import STATE
from shared.runtime import defaults
from shared.runtime.settings import (
    ClassPolicy,
    LimitRow,
    Pool,
    Provider,
    Settings,
    Source,
    Tenant,
)
from tests.unit.services.scheduler.policy.making import delivery
from tests.unit.services.scheduler.policy.slots import live

if TYPE_CHECKING:
    from shared.records.shares import Shares

S = 1_000_000_000
START = 1_700_000_000 * S
BIG = "provider:big"
FIRST = LaneMap(
    version=1, partitions=3, buckets=1, lanes={BIG: 0, "provider:small": 0, "site:0": 0}
)
TO_ONE = moved(FIRST, {BIG: 1})
TO_TWO = moved(TO_ONE, {BIG: 2})
BACK = moved(TO_ONE, {BIG: 0})


def make_settings(limit: LimitRow | None = None, bulk: ClassPolicy | None = None) -> Settings:
    address = Source("ip", 0, "bind", "none", ehlo="m.example.com", address="127.0.0.11")
    return Settings(
        sources={"ip": address},
        pools={"main": Pool("main", {"ip": 1})},
        tenants={"acme": Tenant("acme", ("acme.example",), {"bulk": "main"})},
        classes={**defaults.CLASSES, **({"bulk": bulk} if bulk else {})},
        providers={name: Provider(name, (f".{name}.example",)) for name in ("big", "small")},
        limits={"default": limit or LimitRow(2, 100)},
    )


@dataclass
class Partition:
    """One partition: its own view of mail.control, its log of deliveries, its state."""

    number: int
    config: Settings
    first: LaneMap = FIRST
    now: int = START
    log: list[bytes] = field(default_factory=list)
    read: int = 0
    state: dict[bytes, bytes] = field(default_factory=dict)
    view: ControlView = field(default_factory=ControlView)
    slots: list[int] = field(default_factory=lambda: [0])

    def __post_init__(self) -> None:
        """Read the first map, and that the slot has an owner."""
        self.control(self.first)
        self.control(Claim(slot=0, source="ip", process="p", pod="p"))
        self.ledger = self.fresh()

    def own(self, slot: int) -> None:
        """Let another slot have an owner too."""
        self.control(Claim(slot=slot, source=f"ip-{slot}", process="p", pod="p"))
        self.slots.append(slot)

    def fresh(self) -> Ledger:
        return Ledger(self.number, self.config, self.view, random.Random(7))

    def control(self, record: Control) -> None:
        self.view.feed(self.view.position, self.now, record)

    def restart(self) -> None:
        self.ledger = self.fresh()
        for value in self.state.values():
            record = STATE.decode(value)
            assert not isinstance(record, Unreadable), record
            self.ledger.restore(record)
        self.ledger.restored()

    def round(self, now: int, most: int) -> Decisions:
        """Read everything, decide, and write it as a transaction would."""
        self.now = now
        for slot in self.slots:
            live(self.view, slot, now)
        self.ledger.begin(now)
        self.ledger.on_log_time(now)
        for offset in range(self.read, len(self.log)):
            match DELIVERY.decode(self.log[offset]):
                case Delivery() as delivery:
                    self.ledger.on_delivery("bulk", offset, delivery)
                case Handover() as handover:
                    self.ledger.on_handed_over(handover)
                case Late() as late:
                    self.ledger.on_forwarded(late)
                case Unreadable(reason=reason):
                    raise AssertionError(reason)
        self.read = len(self.log)
        self.ledger.judge()
        self.ledger.plan(most, 1 << 30)
        decided = self.ledger.take()
        for key, value in changelog.writes(decided, self.ledger.now_ns, {}):
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value
        return decided


class World:
    """Three partitions and a clock."""

    def __init__(self, config: Settings | None = None, first: LaneMap = FIRST) -> None:
        """Begin at the first map."""
        self.now: int = START
        self.parts = [Partition(number, config or make_settings(), first) for number in range(3)]
        self.grants: list[tuple[int, Grant]] = []
        #: What was dealt, for the test to say.
        self.dealt: list[Shares] = []
        self.said: list[str] = []
        self.doubtful = False

    def publish(self, lane_map: LaneMap, *partitions: int) -> None:
        """Let ``partitions`` (all, where none is named) read a map."""
        for number in partitions or range(3):
            self.parts[number].control(lane_map)

    def deliver(self, partition: int, id_: str, **more: object) -> None:
        record = delivery(id_, self.now, 3600 * S, **more)
        self.parts[partition].log.append(encode(record, b"body"))

    def turn(self, *partitions: int, seconds: float = 0.1, most: int = 1000) -> None:
        """Pass time, and let partitions (all, where none is named) make a round each, one after the other."""
        self.now += int(seconds * S)
        for number in partitions or range(3):
            part = self.parts[number]
            decided = part.round(self.now, most)
            self.said += [event.type for event in decided.events]
            self.doubtful |= any(event.maybe_duplicate for event in decided.events)
            self.grants += [(number, granted.grant) for granted in decided.granted]
            self.dealt += [decided.shares] if decided.shares is not None else []
            for forwarded in decided.forwarded:
                value = forwarded_value(forwarded, part.log[forwarded.delivery.offset])
                self.parts[forwarded.partition].log.append(value)
            for handed in decided.handed_over:
                self.parts[handed.partition].log.append(encode(handed.record))
            for passed in decided.passed:
                self.parts[passed.partition].log.append(encode(passed.record))

    def granted(self) -> tuple[int, Grant]:
        """Give the only grant that was made since the last call."""
        assert len(self.grants) == 1, self.grants
        return self.grants.pop()

    def say(self, partition: int, grant: Grant, result: Result) -> None:
        """Let an outcome come to ``partition``."""
        outcome = Outcome(id=grant.id, n=grant.n, slot=grant.slot, epoch=grant.epoch, result=result)
        self.parts[partition].ledger.on_outcome(self.now, outcome)

    def where(self, id_: str) -> list[int]:
        return [part.number for part in self.parts if id_ in part.ledger.entries]
