"""Claims of the vanguard: what one is warned at the others have not reached; nobody waits for one that cannot go; nobody is left behind."""

import random
from collections import Counter, deque
from dataclasses import dataclass, field, replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.policy.entries import waiting
from services.scheduler.policy.pair import FEW
from services.scheduler.policy.pairs import Pairs
from services.scheduler.policy.room import BEHIND, Full, Room
from services.scheduler.policy.vanguard import Vanguards
from shared.protocol.control import ControlView
from shared.records.outcome import Outcome, Reply
from shared.records.state import Open
from shared.runtime.settings import LimitRow, Pool, Provider, Rate, Settings, Source
from tests.unit.services.scheduler.policy.making import delivery
from tests.unit.services.scheduler.policy.slots import live
from tests.unit.services.scheduler.policy.test_ledger import START, S, make_settings

CONNECTIONS = 4
#: From a grant until its outcome is read.
TRIP = S
MINUTE = 60 * S
APPLE = Reply(
    code=421, text="temporarily deferred due to excessive volume", enhanced="4.7.1", stage="mail"
)
FINE = Outcome(id="d", n=1, slot=0, epoch=1, result="delivered")
TOO_MUCH = msgspec.structs.replace(
    FINE, result="pair_failed", category="rate", scope="pair", reply=APPLE
)


def config(pools: dict[str, tuple[int, ...]], **row: Rate | int) -> Settings:
    slots = sorted({slot for members in pools.values() for slot in members})
    sources = {
        f"ip-{slot}": Source(
            f"ip-{slot}",
            slot,
            "bind",
            "none",
            ehlo=f"m{slot}.example.com",
            address=f"192.0.2.{slot % 200 + 1}",
        )
        for slot in slots
    }
    base = make_settings(apple=replace(LimitRow(CONNECTIONS), **row))  # type: ignore[arg-type]
    return replace(
        base,
        sources=sources,
        pools={
            name: Pool(name, {f"ip-{slot}": 1 for slot in members})
            for name, members in pools.items()
        },
        providers={"apple": Provider("apple", (".apple.example",))},
    )


@dataclass
class Pressure:
    """Sources for which there is always mail, and a provider that counts ``quota`` a minute from each."""

    count: int
    quota: int = 1 << 40
    seed: int = 1
    #: Of a hundred rounds, how many a source sits out: its host is slow.
    slow: dict[int, int] = field(default_factory=dict)
    key: str = "apple"

    def __post_init__(self) -> None:
        """Own every slot."""
        self.now, self.view = START, ControlView()
        self.rng = random.Random(self.seed)
        self.pairs = Pairs(config({"main": tuple(range(self.count))}), self.view, random.Random(1))
        self.epochs = {slot: live(self.view, slot, self.now) for slot in range(self.count)}
        self.way: deque[tuple[int, Open]] = deque()
        self.sent: dict[int, deque[int]] = {slot: deque() for slot in range(self.count)}
        self.total: Counter[int] = Counter()
        self.most: Counter[int] = Counter()
        self.warned: dict[int, int] = {}
        record = delivery("d", self.now, 3600 * S, provider=self.key, site="mx.apple.example")
        self.entry = waiting(record, "bulk", 0)

    def room(self, slot: int) -> Room | Full:
        return self.pairs.room(self.key, self.key, slot, self.epochs[slot], self.now)

    def fill(self, *slots: int) -> None:
        """Grant what there is room for, as a turn does: to each in its turn, and where all are behind one goes first."""
        able = list(slots)
        while able:
            behind = []
            for slot in list(able):
                match self.room(slot):
                    case Room(t0_ns=t0, limit=limit):
                        grant = Open(
                            n=1, slot=slot, epoch=self.epochs[slot], t0_ns=t0, t1_ns=t0 + 60 * S
                        )
                        self.pairs.spend(self.key, slot, t0, limit)
                        self.pairs.opened(self.key, grant, 1000)
                        self.way.append((t0 + TRIP + self.rng.randrange(TRIP // 2), grant))
                        self.most[slot] = max(
                            self.most[slot], sum(each.slot == slot for _, each in self.way)
                        )
                    case full:
                        able.remove(slot)
                        behind += [slot] * (full is BEHIND)
            if not able and behind and self.pairs.go_first(self.key, behind, self.now):
                able = behind

    def settle(self) -> None:
        """Answer what has come back: as many at once as there are connections."""
        turns = Counter(dict.fromkeys(self.sent, CONNECTIONS))
        for slot, out_of_100 in self.slow.items():
            if self.rng.randrange(100) < out_of_100:
                turns[slot] = 0
        for _ in range(len(self.way)):
            at, grant = self.way.popleft()
            if at > self.now or not turns[grant.slot]:
                self.way.append((at, grant))
                continue
            turns[grant.slot] -= 1
            self.answer(grant)

    def answer(self, grant: Open) -> None:
        times = self.sent[grant.slot]
        while times and times[0] <= self.now - MINUTE:
            times.popleft()
        fine = len(times) < self.quota
        if fine:
            times.append(self.now)
            self.total[grant.slot] += 1
        else:
            self.warned.setdefault(grant.slot, self.now)
        said = msgspec.structs.replace(
            FINE if fine else TOO_MUCH, slot=grant.slot, epoch=grant.epoch
        )
        self.pairs.closed(self.key, grant, 1000)
        self.pairs.hear(self.entry, self.key, grant, said, self.now)

    def pass_(self, seconds: float, *slots: int) -> None:
        """Let time pass under pressure, four rounds a second."""
        for _ in range(int(4 * seconds)):
            self.now += S // 4
            self.settle()
            self.fill(*(slots or range(self.count)))


@given(st.integers(2, 8), st.integers(80, 900), st.integers(0, 999))
@settings(max_examples=10, deadline=None)
def test_of_sources_that_all_have_mail_one_is_warned_first_and_alone(
    count: int, quota: int, seed: int
) -> None:
    world = Pressure(count, quota, seed)
    while not world.warned and world.now < START + 10 * MINUTE:
        world.pass_(0.25)
    # Who is slower than the quota is never warned.
    assert len(world.warned) <= 1
    assert all(len(times) <= quota for times in world.sent.values())


@pytest.mark.parametrize("seed", range(3))
def test_a_campaign_costs_two_of_a_pool_a_warning(seed: int) -> None:
    """The first, and the one that goes on to see whether it holds for all."""
    world = Pressure(8, 300, seed)
    world.pass_(5 * 60)
    assert len(world.warned) == 2


def test_who_follows_is_as_fast_as_the_one_that_leads() -> None:
    world = Pressure(6)
    world.pass_(3 * 60)
    assert not world.warned
    # What its connections can take, which is all that there is.
    whole = 3 * 60 * 4 * CONNECTIONS
    assert world.total.total() >= 0.93 * 6 * whole
    assert min(world.total.values()) >= 0.9 * max(world.total.values())


def test_a_slow_source_that_leads_holds_up_the_others_for_a_minute_each() -> None:
    world = Pressure(4, slow={0: 90})
    world.fill(0)
    world.pass_(4 * 60)
    whole = 4 * 60 * 4 * CONNECTIONS
    assert min(world.total[slot] for slot in (1, 2, 3)) >= 0.7 * whole


def test_one_that_leads_has_no_more_under_way_than_some_seconds_of_what_it_does() -> None:
    world = Pressure(2)
    world.pass_(120)
    a_second = 4 * CONNECTIONS
    assert max(world.most.values()) <= max(FEW, 2 * CONNECTIONS + 6 * a_second)


def test_where_none_of_those_that_could_send_leads_one_of_them_does() -> None:
    """The mail of another pool is not for the one that leads."""
    world = Pressure(4)
    world.pass_(5, 0)
    assert world.pairs.vanguards.leads("apple", 0)
    world.pass_(60, 2, 3)
    assert min(world.total[2], world.total[3]) >= 0.8 * 60 * 4 * CONNECTIONS


def test_one_that_is_paused_leads_nobody() -> None:
    world = Pressure(2)
    world.pass_(5, 0)
    assert world.pairs.vanguards.leads("apple", 0)
    gone = Open(n=1, slot=0, epoch=world.epochs[0], t0_ns=world.now, t1_ns=world.now + S)
    failed = Outcome(id="d", n=1, slot=0, epoch=gone.epoch, result="pair_failed", category="connection", scope="pair")  # fmt: skip
    world.pairs.opened("apple", gone, 1)
    world.pairs.closed("apple", gone, 1)
    world.pairs.hear(world.entry, "apple", gone, failed, world.now)
    world.pass_(30)
    assert world.pairs.vanguards.leads("apple", 1)
    assert world.total[1] >= 0.8 * 30 * 4 * CONNECTIONS


def test_what_was_borne_before_holds_nobody_back() -> None:
    """The second campaign of a day may come to all sources at once."""
    world = Pressure(3)
    world.pass_(4 * 60)
    world.now += 3 * 3600 * S
    world.way.clear()
    for slot in range(3):
        pair = world.pairs.known("apple", slot)
        assert pair is not None
        pair.open = pair.slack = 0
        assert isinstance(world.room(slot), Room)
        assert pair.slack >= 500


def test_a_rate_that_is_set_is_taken_at_once() -> None:
    view = ControlView()
    pairs = Pairs(config({"main": (0, 1)}, rate=Rate(1000, S)), view, random.Random(1))
    epochs = [live(view, slot, START) for slot in (0, 1)]
    for _ in range(2 * FEW):
        for slot in (0, 1):
            room = pairs.room("apple", "apple", slot, epochs[slot], START + S)
            assert isinstance(room, Room)
            pairs.spend("apple", slot, room.t0_ns, room.limit)


def test_what_is_no_providers_and_a_source_without_mates_concern_nobody() -> None:
    vanguards = Vanguards(config({"main": (0, 1), "alone": (2,), "far": (3, 200)}))
    assert vanguards.concern("apple", 0)
    assert not vanguards.concern("mx.example", 0)
    assert not vanguards.concern("apple", 2)
    # They have different deciders.
    assert not vanguards.concern("apple", 3)


def test_pools_that_share_a_source_are_one_crew() -> None:
    vanguards = Vanguards(config({"a": (0, 1), "b": (3, 4), "both": (1, 3)}))
    assert len({vanguards._crews[slot] for slot in (0, 1, 3, 4)}) == 1
