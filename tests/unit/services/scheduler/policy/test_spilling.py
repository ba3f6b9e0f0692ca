"""Claims of the spill-over: what waits too long goes by another pool, so much and no more, and only whose tenant lets it."""

from collections import Counter
from dataclasses import replace

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cli.lanes import pools_of
from services.scheduler.policy.warmup import DAY_NS
from shared.records.lanemap import LaneMap, moved
from shared.records.state import DeliveryState
from shared.runtime.settings import LimitRow, Pool, Provider, Rate, Settings, Source, Spill, Tenant
from tests.unit.services.scheduler.policy.partitions import BIG, START, S, World, make_settings

MIN = 60 * S
MAP = LaneMap(
    version=1,
    partitions=3,
    buckets=2,
    lanes={BIG: 0, "site:0": 0, "site:1": 1, "smarthost:relay": 2},
)
SPILL = Spill("relay", after_ns=30 * MIN, daily=20)
MORNING = (START // DAY_NS + 1) * DAY_NS


def spilling(spill: Spill = SPILL, *, rate: Rate | None = None) -> Settings:
    """One address that a provider gets little from, and a smart host that acme may use and other may not."""
    base = make_settings(LimitRow(100, 100))
    relay = Source("relay", 1, "smarthost", "none", host="smtp.relay.example")
    return replace(
        base,
        sources={**base.sources, "relay": relay},
        pools={"main": Pool("main", {"ip": 1}, spill=spill), "relay": Pool("relay", {"relay": 1})},
        providers={"big": Provider("big", (".big.example",))},
        limits={
            **base.limits,
            "big": LimitRow(100, 100, rate or Rate(1, 86_400 * S)),
        },
        tenants={
            "acme": Tenant("acme", ("acme.example",), {"bulk": "main"}, spill_to=("relay",)),
            "other": Tenant("other", ("other.example",), {"bulk": "main"}),
        },
    )


class Backlog(World):
    """A world where mail waits since the morning."""

    def __init__(self, config: Settings, lane_map: LaneMap = MAP) -> None:
        """Begin with an owner for each source."""
        super().__init__(config, lane_map)
        self.now, self.map = MORNING, lane_map
        for part in self.parts:
            for source in config.sources.values():
                if source.slot:
                    part.own(source.slot)

    def mail(self, count: int, first: int = 0, **more: object) -> None:
        lane = self.map.partition(BIG)
        for number in range(first, first + count):
            self.deliver(
                lane, f"d{number}", expires_ns=self.now + 3 * DAY_NS, map=self.map.version, **more
            )

    def hours(self, count: float) -> None:
        for _ in range(int(count * 60)):
            self.turn(seconds=60)

    def relayed(self) -> list[str]:
        """Give the ids that the smart host got, each once, in the order in which they spilled."""
        return list(dict.fromkeys(grant.id for _, grant in self.grants if grant.slot == 1))

    def entry(self, id_: str) -> DeliveryState:
        return next(part.ledger.entries[id_] for part in self.parts if id_ in part.ledger.entries)


def test_what_has_waited_long_enough_goes_by_the_other_pool_the_longest_first() -> None:
    world = Backlog(spilling())
    world.mail(3)
    world.turn(seconds=60)
    world.mail(30, first=3)
    world.hours(0.4)
    assert world.relayed() == []
    world.hours(0.3)
    assert {"d1", "d2"} <= set(world.relayed())
    assert len(world.relayed()) == SPILL.daily
    number, grant = next(each for each in world.grants if each[1].slot == 1)
    assert (number, grant.limit_key) == (2, "smarthost:relay")


def test_what_does_not_wait_stays() -> None:
    world = Backlog(spilling(rate=Rate(1_000, S)))
    world.mail(100)
    world.hours(1)
    assert world.relayed() == []


def test_no_more_than_the_share_of_the_days_mail_goes() -> None:
    world = Backlog(spilling(replace(SPILL, daily=1_000, share=0.2)))
    world.mail(100)
    world.hours(2)
    assert len(world.relayed()) == 20


def test_the_daily_amount_begins_anew_each_day() -> None:
    world = Backlog(spilling())
    world.mail(100)
    world.hours(3)
    assert len(world.relayed()) == 20
    world.turn(seconds=22 * 3600)
    world.hours(0.2)
    assert len(world.relayed()) == 40


def test_a_tenant_that_may_not_use_the_pool_keeps_its_mail() -> None:
    world = Backlog(spilling())
    world.mail(10, tenant="other")
    world.mail(10, first=10)
    world.hours(2)
    assert set(world.relayed()) <= {f"d{number}" for number in range(10, 20)}
    assert len(world.relayed()) >= 9


def test_what_waits_for_its_lane_does_not_spill() -> None:
    world = Backlog(spilling())
    world.publish(moved(MAP, {BIG: 1}), 1)
    for number in range(5):
        world.deliver(1, f"d{number}", map=2, expires_ns=world.now + DAY_NS)
    for _ in range(60):
        world.turn(1, seconds=60)
    assert {each.pool for each in world.parts[1].ledger.entries.values()} == {"main"}


def test_what_spilled_is_written_with_it_and_survives_a_restart() -> None:
    world = Backlog(spilling())
    world.mail(100)
    world.hours(0.6)
    assert len(world.relayed()) == 20
    for part in world.parts:
        part.restart()
    world.hours(2)
    assert len(world.relayed()) == 20
    spills = [each for part in world.parts for each in part.ledger.spills()]
    assert [(key, pool, counts.spilled) for key, pool, counts in spills] == [("big", "main", 20)]


def test_what_spilled_is_told_with_the_round_that_writes_it() -> None:
    world = Backlog(spilling())
    world.mail(30)
    world.turn()
    world.now += 31 * MIN
    told = world.parts[0].round(world.now, 1000).spilled
    assert Counter((each.key, each.pool, each.to) for each in told) == {
        ("big", "main", "relay"): 20
    }
    assert world.parts[0].round(world.now + 60 * S, 1000).spilled == []


def test_sites_share_the_daily_amount() -> None:
    slow, quick = LimitRow(1, 1, Rate(1, 86_400 * S)), LimitRow(rate=Rate(1_000, S))
    world = Backlog(replace(spilling(), limits={"default": slow, "smarthost:relay": quick}))
    for number in range(80):
        site = f"mx{number % 8}.example"
        lane = MAP.partition(MAP.lane_of(site))
        life = world.now + DAY_NS
        world.deliver(lane, f"d{number}", provider=None, site=site, expires_ns=life)
    world.hours(4)
    assert len(world.relayed()) == SPILL.daily


def test_slot_groups_share_the_daily_amount() -> None:
    base = spilling()
    far = replace(base.sources["ip"], name="far", slot=128, address="127.0.0.12")
    main = replace(base.pools["main"], sources={"ip": 1, "far": 1})
    config = replace(base, sources={**base.sources, "far": far}, pools={**base.pools, "main": main})
    lanes = {**MAP.lanes, f"{BIG}@1": 1, "site:0@1": 1, "site:1@1": 1}
    world = Backlog(config, msgspec.structs.replace(MAP, lanes=lanes, pools=pools_of(config)))
    # A recipient's mail is of one group: of both there is much more than what may spill.
    for number in range(120):
        life = world.now + DAY_NS
        world.deliver(0, f"d{number}", to=f"u{number}@big.example", expires_ns=life)
    world.hours(4)
    assert len(world.relayed()) == SPILL.daily


Steps = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.sampled_from([5, 600, 3600])),
        st.tuples(st.just("move"), st.integers(0, 2)),
        st.tuples(st.just("lose"), st.integers(0, 2)),
        st.tuples(st.just("mail"), st.integers(1, 15)),
    ),
    max_size=25,
)


@settings(max_examples=40)
@given(Steps)
def test_the_daily_amount_holds_over_any_hand_overs_and_crashes(
    steps: list[tuple[str, int]],
) -> None:
    world, named = Backlog(spilling()), 30
    world.mail(30)
    days: Counter[int] = Counter()
    for what, value in steps:
        match what:
            case "pass":
                world.turn(seconds=value)
            case "mail":
                world.mail(value, first=named)
                named += value
            case "move":
                world.map = moved(world.map, {BIG: value})
                world.publish(world.map)
            case _:
                part = world.parts[value]
                kept, read = dict(part.state), part.read
                part.round(world.now, 1000)
                part.state, part.read = kept, read
                part.restart()
        before = len(world.relayed())
        world.turn(seconds=1)
        days[world.now // DAY_NS] += len(world.relayed()) - before
    assert all(count <= SPILL.daily for count in days.values())
    assert len(world.relayed()) <= SPILL.daily * (1 + world.now // DAY_NS - MORNING // DAY_NS)
    ids = [id_ for part in world.parts for id_ in part.ledger.entries]
    assert len(ids) == len(set(ids))
