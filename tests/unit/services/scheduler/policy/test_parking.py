"""What has no room waits in the log: it is taken once, in its order, whatever happens in between, and it holds up nobody else."""

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.policy.ledger import Ledger
from services.scheduler.policy.parking import room, share
from shared.protocol.control import ControlView
from shared.records.codec import Unreadable, encode
from shared.records.control import Directive
from shared.records.delivery import Delivery
from shared.records.grant import Grant
from shared.records.lanemap import propose
from shared.records.outcome import Outcome
from shared.records.state import STATE, DeliveryState, Meta, ParkedState, state_key
from shared.runtime import defaults
from shared.runtime.settings import Pool, Provider, Settings, Source
from shared.runtime.workings import Scheduler
from tests.unit.services.scheduler.policy.making import delivery
from tests.unit.services.scheduler.policy.slots import live

S = 1_000_000_000
START = 1_700_000_000 * S
#: Deliveries of one class that a partition may hold.
BOUND = 64
CONFIG = Settings(
    sources={"ip-0": Source("ip-0", 0, "bind", "none", ehlo="m.example.com", address="127.0.0.11")},
    pools={"main": Pool("main", {"ip-0": 1})},
    classes=defaults.CLASSES,
    providers={name: Provider(name, (f".{name}.example",)) for name in ("dead", "quick")},
    limits=defaults.LIMITS,
    scheduler=Scheduler(max_waiting=2 * BOUND),
)


@dataclass
class World:
    """One partition, its log of one class, what it has committed, and a source that delivers at once."""

    log: list[Delivery] = field(default_factory=list)
    state: dict[bytes, bytes] = field(default_factory=dict)
    view: ControlView = field(default_factory=ControlView)
    position: int = 0
    now: int = START
    cursor: int | None = None
    #: Final events of each delivery, and the order in which they were granted.
    ended: Counter[str] = field(default_factory=Counter)
    granted: list[str] = field(default_factory=list)
    most: int = 0
    #: The first offset of the log that is there.
    trimmed: int = 0

    def __post_init__(self) -> None:
        self.control(propose(1, 1, CONFIG.providers, []))
        self.ledger = self.fresh()

    def control(self, record: object) -> None:
        self.view.feed(self.view.position, self.now, record)  # type: ignore[arg-type]

    def fresh(self) -> Ledger:
        return Ledger(0, CONFIG, self.view, random.Random(3))

    def pause(self, provider: str, action: str = "pause") -> None:
        self.control(
            Directive(id=provider, action=action, provider=provider, reason="", author="")  # type: ignore[arg-type]
        )

    def append(self, provider: str, tenant: str = "acme", **more: object) -> None:
        id_ = f"{len(self.log)}-{provider}-{tenant}"
        self.log.append(delivery(id_, self.now, 3600 * S, provider=provider, tenant=tenant, **more))

    def crash(self) -> None:
        """Lose what is in memory, and read back what was committed."""
        self.ledger, self.cursor, self.position = self.fresh(), None, 0
        for value in self.state.values():
            record = STATE.decode(value)
            assert not isinstance(record, Unreadable)
            self.ledger.restore(record)
            if isinstance(record, Meta):
                self.position = record.positions.get("bulk", 0)
        self.ledger.restored()

    def turn(self, portion: int = 20, *, deliver: bool = True) -> None:
        """Read a portion of the input and one of the scan, grant, commit, and let what was granted be delivered."""
        self.now += S // 10
        live(self.view, 0, self.now)
        intake, parking = self.ledger.intake, self.ledger.intake.parking
        batch = self.log[self.position : self.position + portion] if not intake.full("bulk") else []
        scan_at = intake.scan_from("bulk")
        self.cursor = self.cursor if scan_at is None else scan_at
        again = range(0)
        if parking.scanning("bulk") and self.cursor is not None:
            again = range(self.cursor, min(self.cursor + portion, self.position))
            self.cursor = again.stop
        self.ledger.begin(self.now)
        for record in batch:
            if not intake.passes_over("bulk", self.position, record):
                self.ledger.on_delivery("bulk", self.position, record)
            self.position += 1
        for offset in again:
            if intake.takes_back("bulk", offset, self.log[offset]):
                self.ledger.on_delivery("bulk", offset, self.log[offset])
        self.most = max(self.most, self.ledger.count("bulk"))
        self.ledger.plan(1000, 1 << 30)
        grants = self.commit()
        if parking.scanning("bulk") and self.cursor is not None:
            reached = self.cursor >= self.position
            if reached or parking.hopeless("bulk"):
                parking.end("bulk", reached=reached)
        self.trim()
        for grant in grants if deliver else ():
            self.granted.append(grant.id)
            said = Outcome(
                id=grant.id, n=grant.n, slot=grant.slot, epoch=grant.epoch, result="delivered"
            )
            self.ledger.on_outcome(self.now, said)
        self.commit()

    def trim(self) -> None:
        """Let go of the log as the shell does after a commit; what a crash would read back must still have its record."""
        oldest = self.ledger.oldest_offset("bulk")
        keep = self.position if oldest is None else min(oldest, self.position)
        if keep > self.trimmed:
            self.trimmed = keep
            for value in self.state.values():
                record = STATE.decode(value)
                if isinstance(record, ParkedState | DeliveryState):
                    assert record.offset >= keep, record

    def commit(self) -> list[Grant]:
        decided = self.ledger.take()
        for id_, entry in decided.deliveries.items():
            self._write(b"d/" + id_.encode(), None if entry is None else encode(entry))
        for pair in decided.pairs:
            self._write(state_key(pair), encode(pair))
        for unit, parked in decided.parked.items():
            key = repr(unit).encode()
            self._write(key, None if parked is None else encode(parked))
        self._write(b"meta", encode(Meta(now_ns=self.now, positions={"bulk": self.position})))
        for event in decided.events:
            if event.final:
                self.ended[event.delivery or ""] += 1
        return [granted.grant for granted in decided.granted]

    def _write(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self.state.pop(key, None)
        else:
            self.state[key] = value

    def drain(self) -> None:
        """Turn until everything has ended."""
        for _ in range(20 * len(self.log) + 200):
            if len(self.ended) == len(self.log) and not len(self.ledger.intake.parking):
                return
            self.turn()
        raise AssertionError(
            f"{len(self.log) - len(self.ended)} have no end, {len(self.ledger.intake.parking)} units are parked"
        )


def test_a_dead_destination_does_not_hold_up_another_of_the_same_class() -> None:
    world = World()
    world.pause("dead")
    for _ in range(10 * BOUND):
        world.append("dead")
    for _ in range(20):
        world.append("quick")
    for _ in range(60):
        world.turn()
    assert {id_ for id_ in world.ended if "quick" in id_} == {
        record.id for record in world.log if record.provider == "quick"
    }
    assert world.most < BOUND
    assert sum(count for _, count in world.ledger.intake.parking.counts()) >= 9 * BOUND


def test_another_tenant_finds_room_at_the_same_destination() -> None:
    world = World()
    for _ in range(10 * BOUND):
        world.append("dead", "loud")
    for _ in range(3):
        world.append("dead", "quiet")
    world.pause("dead")
    for _ in range(60):
        world.turn()
    held = {entry.tenant for entry in world.ledger.entries.values()}
    assert held == {"loud", "quiet"}
    assert {unit.tenant for unit, _ in world.ledger.intake.parking.counts()} == {"loud"}


def test_what_was_parked_goes_in_its_order_when_its_destination_is_back() -> None:
    world = World()
    world.pause("dead")
    for _ in range(5 * BOUND):
        world.append("dead")
    for _ in range(40):
        world.turn()
    world.pause("dead", "resume")
    world.drain()
    assert world.granted == [record.id for record in world.log]
    assert set(world.ended.values()) == {1}


def test_a_crash_in_the_middle_of_a_scan_takes_nothing_twice() -> None:
    world = World()
    world.pause("dead")
    for _ in range(5 * BOUND):
        world.append("dead")
    for _ in range(40):
        world.turn()
    world.pause("dead", "resume")
    ended = len(world.ended)
    while not (world.ledger.intake.parking.scanning("bulk") and len(world.ended) > ended + BOUND):
        world.turn(portion=3)
    world.crash()
    world.drain()
    assert set(world.ended.values()) == {1}
    assert len(world.granted) == len(world.log)


def test_mail_that_was_attempted_where_it_was_before_is_never_passed_over() -> None:
    world = World()
    world.pause("dead")
    for _ in range(5 * BOUND):
        world.append("dead")
    world.append("dead", n=1, hop=1)
    for _ in range(40):
        world.turn()
    assert world.log[-1].id in world.ledger.entries


def test_the_log_is_kept_from_the_first_record_that_was_passed_over() -> None:
    world = World()
    world.pause("dead")
    for _ in range(5 * BOUND):
        world.append("dead")
    for _ in range(40):
        world.turn()
    in_memory = {entry.offset for entry in world.ledger.entries.values()}
    assert world.ledger.oldest_offset("bulk") == 0
    world.pause("dead", "resume")
    world.drain()
    assert max(in_memory) < len(world.log)
    assert world.ledger.oldest_offset("bulk") is None


@pytest.mark.parametrize("bound", [1, 10, 64, 125_000])
def test_the_fuller_the_memory_the_smaller_the_share(bound: int) -> None:
    shares = [share(held, bound) for held in range(0, bound + 1, max(1, bound // 100))]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 1
    assert all(1 <= room(held, bound) <= share(held, bound) for held in range(0, bound, 7))


_STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("append"),
            st.sampled_from(["dead", "quick", "other", "third"]),
            st.sampled_from(["acme", "loud"]),
            st.integers(1, 90),
        ),
        st.tuples(st.just("turn"), st.integers(1, 60), st.booleans()),
        st.tuples(st.just("crash")),
        st.tuples(st.sampled_from(["pause", "resume"]), st.sampled_from(["dead", "quick"])),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(_STEPS)
def test_each_delivery_ends_once_whatever_comes_between(
    steps: list[tuple[object, ...]],
) -> None:
    world = World()
    for step in steps:
        match step:
            case ("append", str(provider), str(tenant), int(count)):
                for _ in range(count):
                    world.append(provider, tenant)
            case ("turn", int(portion), bool(deliver)):
                world.turn(portion, deliver=deliver)
            case ("crash",):
                world.crash()
            case (str(action), str(provider)):
                world.pause(provider, action)
            case _:
                raise AssertionError(step)
    for provider in ("dead", "quick"):
        world.pause(provider, "resume")
    # What was granted and never answered for has its lease over.
    world.now += 600 * S
    world.ledger.on_log_time(world.now)
    world.ledger.begin(world.now)
    world.ledger.judge()
    world.drain()
    assert set(world.ended.values()) <= {1}
    assert world.most <= BOUND + 120
