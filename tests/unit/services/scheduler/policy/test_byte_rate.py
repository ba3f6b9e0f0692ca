"""Bytes keep their limit in every window of starts, and what is large goes in its turn: through the whole ledger."""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.records.grant import Grant
from shared.records.lanemap import LaneMap, moved
from shared.runtime import defaults
from shared.runtime.settings import (
    ByteRate,
    DkimKey,
    LimitRow,
    Pool,
    Provider,
    Rate,
    Settings,
    Source,
    Tenant,
)
from tests.unit.services.scheduler.policy.partitions import BIG, START, S, World
from tests.unit.services.scheduler.policy.test_sizes import most_bytes

MIN = 60 * S
KIB, MIB = 1 << 10, 1 << 20
RATE = ByteRate(50 * MIB, MIN)
MAP = LaneMap(version=1, partitions=3, buckets=1, lanes={BIG: 0, "provider:small": 1, "site:0": 2})
SIZES = (1, 2 * KIB, 50 * KIB, 3 * MIB, 4 * MIB, 25 * MIB, 50 * MIB, 50 * MIB + 1)


def config(row: LimitRow, sources: int = 2) -> Settings:
    found = {
        f"ip-{slot}": Source(f"ip-{slot}", slot, "bind", "none", address=f"192.0.2.{slot + 1}")
        for slot in range(sources)
    }
    return Settings(
        sources=found,
        pools={
            "main": Pool("main", dict.fromkeys(found, 1)),
            "first": Pool("first", {"ip-0": 1}),
        },
        tenants={"acme": Tenant("acme", ("acme.example",), {"bulk": "main"})},
        classes=defaults.CLASSES,
        providers={name: Provider(name, (f".{name}.example",)) for name in ("big", "small")},
        limits={"default": LimitRow(50, 100), "big": row},
    )


@dataclass
class Sending:
    """A cluster whose senders start each grant at some time that it lets them."""

    rng: random.Random
    world: World
    map: LaneMap = MAP
    starts: list[tuple[int, Grant]] = field(default_factory=list)
    count: int = 0

    def arrive(self, size: int, **more: object) -> str:
        self.count += 1
        lane = self.map.lane("big", None, "x.example")
        said: dict[str, object] = {"size_bytes": size, "map": self.map.version} | more
        self.world.deliver(self.map.partition(lane), f"d{self.count}", **said)
        return f"d{self.count}"

    def step(self, trouble: float = 0.0, seconds: float = 0.5) -> None:
        if self.rng.random() < trouble:
            self.map = moved(self.map, {BIG: self.rng.randint(0, 2)})
            self.world.publish(self.map)
        for part in self.world.parts:
            if self.rng.random() < trouble:
                # It decides, and cannot commit.
                part.ledger.begin(self.world.now + S // 10)
                part.ledger.plan(1000, 1 << 30)
                part.ledger.take()
                part.restart()
        self.world.grants.clear()
        self.world.turn(seconds=seconds)
        for number, grant in self.world.grants:
            at = self.rng.choice([grant.t0_ns, self.rng.randrange(grant.t0_ns, grant.t1_ns)])
            self.starts.append((at, grant))
            bad = self.rng.random() < trouble
            self.world.say(number, grant, "deferred" if bad else "delivered")

    def of_pairs(self) -> dict[tuple[str, int], list[tuple[int, int]]]:
        found = defaultdict(list)
        for at, grant in sorted(self.starts, key=lambda each: each[0]):
            found[grant.limit_key, grant.slot].append((at, grant.size_bytes))
        return found


def sending(row: LimitRow, seed: int, sources: int = 2) -> Sending:
    one = Sending(random.Random(seed), World(config(row, sources), MAP))
    for part in one.world.parts:
        for slot in range(1, sources):
            part.own(slot)
    return one


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 10**9),
    st.sampled_from([0.0, 0.03, 0.1]),
    st.lists(st.sampled_from(SIZES), min_size=1, max_size=8),
    st.sampled_from([None, Rate(60, MIN, 5)]),
)
@example(1, 0.0, list(SIZES), None)
def test_no_window_has_more_bytes_than_the_limit_over_hand_overs_and_crashes(
    seed: int, trouble: float, sizes: list[int], rate: Rate | None
) -> None:
    one = sending(LimitRow(rate=rate, bytes=RATE), seed)
    for _ in range(200):
        for _ in range(one.rng.randint(0, 2)):
            one.arrive(one.rng.choice(sizes))
        one.step(trouble)
    assert one.starts
    for pair, starts in one.of_pairs().items():
        assert most_bytes(starts, RATE.period_ns) <= RATE.count, pair


@pytest.mark.parametrize("pool", ["main", "first"])
def test_a_large_message_never_starves_behind_small_ones_of_its_group_or_another(
    pool: str,
) -> None:
    one = sending(LimitRow(bytes=RATE), 1, sources=1)
    for _ in range(20):
        one.arrive(MIB)
    one.step()
    large = one.arrive(45 * MIB)
    # More comes than the limit lets go.
    while not any(grant.id == large for _, grant in one.starts):
        assert one.world.now < START + 120 * S
        for _ in range(4):
            one.arrive(one.rng.choice([1, KIB, MIB]), pool=pool)
        one.step()
    assert len(one.starts) > 20


def test_another_source_takes_what_does_not_fit() -> None:
    one = sending(LimitRow(bytes=RATE), 1)
    for _ in range(2):
        one.arrive(40 * MIB)
    one.step()
    assert {grant.slot for _, grant in one.starts} == {0, 1}
    waits = one.arrive(40 * MIB)
    one.step()
    part = one.world.parts[0]
    entry = part.ledger.entries[waits]
    assert part.ledger.reason(entry) == "byte_rate"
    found = part.ledger.explain(entry)
    assert found.bound.reason == "byte_rate"
    # Nothing before it: half of what the limit allows is lost between messages that are so large.
    assert found.eta_ns is not None
    assert one.world.now + 50 * S < found.eta_ns < one.world.now + 140 * S
    while not any(grant.id == waits for _, grant in one.starts):
        one.step()
    gone = one.world.grants[-1][1].t0_ns
    assert abs(gone - found.eta_ns) <= 0.2 * (found.eta_ns - START)


def test_those_behind_it_go_as_soon_as_the_large_one_is_cancelled_or_expires() -> None:
    one = sending(LimitRow(bytes=RATE), 1, sources=1)
    one.arrive(40 * MIB)
    one.step()
    one.arrive(49 * MIB, expires_ns=START + 20 * S)
    small = one.arrive(KIB)
    for _ in range(20):
        one.step()
    assert len(one.starts) == 1
    while small in one.world.parts[0].ledger.entries:
        assert one.world.now < START + 80 * S
        one.step()
    assert [grant.id for _, grant in one.starts] == ["d1", small]
    assert "expired" in one.world.said


def test_what_goes_with_a_message_is_counted() -> None:
    """The headers that are put before it, and what its signatures may add: what the sender says as SIZE."""
    made = config(LimitRow(bytes=ByteRate(64 * KIB, MIN)), 1)
    key = DkimKey("acme.example", "s1", Path("s1.pem"))
    tenant = Tenant("acme", ("acme.example",), {"bulk": "main"}, dkim=(key,))
    plain, more = made, {"prepend": "X: y\r\n" * 100}
    signed = Settings(
        **{name: getattr(made, name) for name in ("sources", "pools", "providers", "limits")},
        tenants={"acme": tenant},
    )
    taken = []
    for each, extra in ((plain, {}), (plain, more), (signed, more)):
        world = World(each, MAP)
        for at in range(200):
            world.deliver(0, f"d{at}", **extra)
        for _ in range(120):
            world.turn(seconds=0.5)
        taken.append(len(world.grants))
    # 1,000 bytes each; 1,600; 3,600: of 15/16 of 64 KiB in a minute and what starts may move, and two seconds ahead.
    assert [52 <= taken[0] <= 58, 32 <= taken[1] <= 37, 14 <= taken[2] <= 17] == [True] * 3, taken


def test_where_there_is_no_limit_of_bytes_a_size_matters_to_nobody() -> None:
    one = sending(LimitRow(), 1)
    for size in SIZES:
        one.arrive(size)
    for _ in range(3):
        one.step()
    assert len(one.starts) == len(SIZES)
