"""Budgets of a partition: whose they are, that they go with their lanes, and that no hand-over and no crash lets a day pass its budget."""

import random
from collections import Counter, defaultdict
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.policy.warmup import DAY_NS
from shared.records.grant import Grant
from shared.records.lanemap import LaneMap, moved
from shared.records.outcome import Outcome, Result
from shared.runtime import defaults
from shared.runtime.settings import LimitRow, Pool, Provider, Settings, Source
from shared.runtime.warmups import Warmup
from tests.unit.services.scheduler.policy.partitions import BIG, START, S, World, make_settings

H = 3_600 * S
SCHEDULE = Warmup("slow", (25, 40, 60, 80), hours=2)
BUCKETS = 3
MAP = LaneMap(
    version=1,
    partitions=3,
    buckets=BUCKETS,
    lanes={BIG: 0, "site:0": 0, "site:1": 1, "site:2": 2},
)
#: Of the day that these tests begin in, the end.
MIDNIGHT = (START // DAY_NS + 2) * DAY_NS


def warming(schedule: Warmup = SCHEDULE, *, warm_too: bool = False) -> Settings:
    """One pool: a source that is warmed up, and one that is not, where that is wanted."""
    base = make_settings(LimitRow(100, 100))
    new = replace(base.sources["ip"], warmup="slow")
    old = Source("old", 1, "bind", "none", ehlo="n.example.com", address="127.0.0.12")
    sources = {"ip": new, "old": old} if warm_too else {"ip": new}
    return replace(
        base,
        sources=sources,
        pools={"main": Pool("main", dict.fromkeys(sources, 1))},
        providers={"big": Provider("big", (".big.example",))},
        warmups={"slow": schedule},
        classes=defaults.CLASSES,
    )


def bucket(grant: Grant) -> str:
    return MAP.lane_of(grant.limit_key)


class Warming(World):
    """A world whose mail waits for days, and whose rounds may be lost before they are committed."""

    def __init__(self, config: Settings) -> None:
        """Begin with the map of three buckets."""
        super().__init__(config, MAP)
        self.map = MAP
        self.named = self.answered = 0
        self.now = MIDNIGHT - DAY_NS

    def mail(self, count: int, site: str | None = None) -> None:
        """Accept so much for the provider, or for a site of the name, where it is decided about."""
        for _ in range(count):
            self.named += 1
            lane = self.map.lane(None if site else "big", site, "x.example")
            more: dict[str, object] = {"provider": None, "site": site} if site else {}
            more |= {"map": self.map.version, "expires_ns": self.now + 5 * DAY_NS}
            self.deliver(self.map.partition(lane), f"d{self.named}", **more)

    def move(self, lane: str, partition: int) -> None:
        """Put a map in force that gives a lane to another partition."""
        self.map = moved(self.map, {lane: partition})
        self.publish(self.map)

    def lose(self, partition: int) -> None:
        """Let a partition decide, and die before its commit: what it decided never was."""
        part = self.parts[partition]
        kept, read = dict(part.state), part.read
        part.round(self.now, 1000)
        part.state, part.read = kept, read
        part.restart()

    def answer(self, result: Result = "delivered", category: str = "", scope: str = "") -> None:
        """Let every grant that was made be answered, each where it was made."""
        for number, grant in self.grants[self.answered :]:
            outcome = Outcome(
                id=grant.id,
                n=grant.n,
                slot=grant.slot,
                epoch=grant.epoch,
                result=result,
                category=category,
                scope=scope,
            )
            self.parts[number].ledger.on_outcome(self.now, outcome)
        self.answered = len(self.grants)


Steps = st.lists(
    st.one_of(
        st.tuples(st.just("turn"), st.sampled_from([1, 300, 3 * 3600, 11 * 3600])),
        st.tuples(st.just("lose"), st.integers(0, 2)),
        st.tuples(
            st.just("move"), st.tuples(st.sampled_from(sorted(MAP.lanes)), st.integers(0, 2))
        ),
        st.tuples(st.just("delivered"), st.just(("", ""))),
        st.tuples(st.just("deferred"), st.just(("rate", "pair"))),
        st.tuples(st.just("bounced"), st.just(("block", "pair"))),
    ),
    max_size=30,
)


@settings(max_examples=60)
@given(Steps)
def test_no_day_passes_its_budget_over_any_hand_overs_and_crashes(
    steps: list[tuple[str, object]],
) -> None:
    world = Warming(warming())
    world.mail(120)
    for number in range(30):
        for _ in range(3):
            world.mail(1, f"mx{number}.example")
    for what, value in steps:
        match what, value:
            case "turn", int(seconds):
                world.turn(seconds=seconds)
                for _ in range(20):
                    world.turn(seconds=40)
            case "lose", int(partition):
                world.lose(partition)
            case "move", (str(lane), int(partition)):
                world.move(lane, partition)
            case "delivered" | "deferred" | "bounced", (str(category), str(scope)):
                world.answer(what, category, scope)
            case _:
                raise AssertionError(what)
    days: defaultdict[str, Counter[int]] = defaultdict(Counter)
    skew = world.parts[0].config.timing.skew_ns
    for _, grant in world.grants:
        day = grant.t0_ns // DAY_NS
        assert day * DAY_NS + skew <= grant.t0_ns < grant.t1_ns <= (day + 1) * DAY_NS - skew
        days[bucket(grant)][day] += 1
    for lane, counts in days.items():
        part, parts = (0, 1) if lane == BIG else (int(lane[-1]), BUCKETS)
        best = 0
        for number, (_, used) in enumerate(sorted(counts.items())):
            assert used <= SCHEDULE.budget(number, best, part, parts)
            best = max(best, used)


def test_a_budget_goes_with_its_lane_and_what_was_spent_stays_spent() -> None:
    world = Warming(warming())
    world.mail(60)
    for _ in range(10):
        world.turn(seconds=300)
    spent = len(world.grants)
    assert 5 <= spent < 25
    world.move(BIG, 1)
    world.turn()
    world.parts[1].restart()
    for _ in range(60):
        world.turn(seconds=300)
        if world.now > MIDNIGHT - H:
            break
    assert len(world.grants) == 25
    assert {number for number, _ in world.grants[spent:]} == {1}
    [(key, slot, status)] = [
        each for part in world.parts for each in part.ledger.warmups() if each[0] == "big"
    ]
    assert (key, slot, status.used, status.budget) == ("big", 0, 25, 25)


def test_sites_share_one_budget_wherever_their_buckets_are_decided_about() -> None:
    world = Warming(warming())
    for number in range(60):
        world.mail(2, f"mx{number}.example")
    used: Counter[int] = Counter()
    for _ in range(5):
        for _ in range(60):
            world.turn(seconds=120)
    for number, grant in world.grants:
        if grant.t0_ns < MIDNIGHT:
            used[number] += 1
    assert used.total() == 25
    assert set(used) == {0, 1, 2}
    assert max(used.values()) == 9


def test_the_bucket_of_a_site_goes_with_its_lane() -> None:
    world = Warming(warming())
    for number in range(40):
        world.mail(1, f"mx{number}.example")
    for _ in range(100):
        world.turn(seconds=120)
    spent = len(world.grants)
    world.move("site:0", 1)
    for _ in range(30):
        world.turn(seconds=120)
    assert world.now < MIDNIGHT
    assert (len(world.grants), spent) == (25, 25)


def test_what_a_warming_source_may_not_send_goes_to_the_warm_ones_of_its_pool() -> None:
    world = Warming(warming(warm_too=True))
    for part in world.parts:
        part.own(1)
    world.mail(40)
    world.turn()
    world.turn()
    by_slot = Counter(grant.slot for _, grant in world.grants)
    assert by_slot[0] <= 2
    assert by_slot[0] + by_slot[1] == 40


def test_without_a_warm_source_it_waits_and_says_so() -> None:
    world = Warming(warming())
    world.mail(10)
    world.turn()
    world.turn()
    reasons = [reason for _, reason in world.parts[0].ledger.reasons()]
    assert Counter(reasons) == {"granted": len(world.grants), "warmup": 10 - len(world.grants)}


def test_a_source_that_is_not_warmed_up_has_no_budget_and_writes_none() -> None:
    world = Warming(replace(warming(), sources={"ip": make_settings().sources["ip"]}))
    world.mail(100)
    world.turn()
    assert len(world.grants) == 100
    assert list(world.parts[0].ledger.warmups()) == []
    assert not any(b'"warmup"' in value for value in world.parts[0].state.values())


def test_what_becomes_of_it_is_told_once_and_with_the_round_that_writes_it() -> None:
    world = Warming(warming())
    world.mail(5)
    for _ in range(5):
        world.turn(seconds=600)
    world.answer("bounced", "block", "pair")
    part = world.parts[0]
    part.ledger.judge()
    told = part.round(world.now, 1000).warmups
    assert [(news.key, news.slot, news.kind) for news in told] == [("big", 0, "stepped_back")]
    assert part.round(world.now, 1000).warmups == []


def test_a_retry_that_greylisting_ties_to_a_source_is_let_go_when_its_budget_is_spent() -> None:
    world = Warming(warming(warm_too=True))
    for part in world.parts:
        part.own(1)
    world.mail(300)
    while not any(grant.slot == 0 for _, grant in world.grants):
        world.turn(seconds=60)
    [grant, *_] = [grant for _, grant in world.grants if grant.slot == 0]
    refused = Outcome(
        id=grant.id,
        n=grant.n,
        slot=0,
        epoch=grant.epoch,
        result="deferred",
        category="greylist",
        scope="recipient",
    )
    world.parts[0].ledger.on_outcome(world.now, refused)
    world.turn()
    entry = world.parts[0].ledger.entries[grant.id]
    assert entry.pinned == 0
    # Whatever else wants the source takes its tokens meanwhile.
    for _ in range(SCHEDULE.days[0]):
        world.parts[0].ledger._pairs.budgets.spend("big", 0, world.now)
    world.turn(seconds=(entry.due_ns - world.now) / S + 200)
    assert entry.open is None
    # And not tomorrow, when its source has a budget again.
    assert world.parts[0].ledger.explain(entry).eta_ns == entry.due_ns + 300 * S
    world.turn(seconds=110)
    again = [grant_ for _, grant_ in world.grants if grant_.id == grant.id and grant_.n == 2]
    assert [each.slot for each in again] == [1]


def test_random_sites_are_spread_over_all_buckets() -> None:
    rng = random.Random(3)
    names = [f"mx{rng.random()}.example" for _ in range(300)]
    assert {MAP.lane_of(name) for name in names} == {"site:0", "site:1", "site:2"}
    assert MAP.lane_of("site:2") == "site:2"


def test_a_retry_that_greylisting_ties_to_a_source_is_let_go_when_that_is_away() -> None:
    world = Warming(replace(warming(warm_too=True), warmups={}))
    world.mail(1)
    world.turn()
    [(_, grant)] = world.grants
    assert grant.slot == 0
    for part in world.parts:
        part.own(1)
    world.answer("deferred", "greylist", "recipient")
    world.turn()
    entry = world.parts[0].ledger.entries[grant.id]
    for part in world.parts:
        part.slots.remove(0)
    world.turn(seconds=(entry.due_ns - world.now) / S + 200)
    assert entry.open is None
    world.turn(seconds=110)
    assert world.grants[-1][1].slot == 1


def test_a_source_that_fares_badly_at_a_destination_gets_less_of_its_mail() -> None:
    world = Warming(replace(warming(warm_too=True), warmups={}))
    for part in world.parts:
        part.own(1)
    world.mail(40)
    world.turn()
    for number, grant in world.grants:
        said = Outcome(
            id=grant.id,
            n=grant.n,
            slot=grant.slot,
            epoch=grant.epoch,
            result="delivered" if grant.slot == 1 else "deferred",
            category="" if grant.slot == 1 else "other",
            scope="" if grant.slot == 1 else "pair",
        )
        world.parts[number].ledger.on_outcome(world.now, said)
    world.turn()
    world.grants.clear()
    world.mail(150)
    world.turn()
    by_slot = Counter(grant.slot for _, grant in world.grants)
    assert by_slot[0] + by_slot[1] >= 150
    assert 0 < by_slot[0] < by_slot[1]


def test_complaints_hold_a_warm_up() -> None:
    world = Warming(warming())
    world.mail(5)
    world.turn()
    world.answer()
    for _ in range(3):
        world.parts[0].ledger._pairs.complained("big", 0, world.now)
    [(_, _, status)] = world.parts[0].ledger.warmups()
    assert status.stage == "held"


def test_what_is_granted_late_in_a_day_may_not_begin_on_the_next() -> None:
    """Its lease would reach beyond midnight, and it would be of a budget that is not counted any more."""
    world = Warming(warming())
    skew_ns = world.parts[0].config.timing.skew_ns
    world.now = MIDNIGHT - 30 * S
    world.mail(3)
    world.turn(seconds=0)
    assert world.grants
    assert {grant.t1_ns for _, grant in world.grants} == {MIDNIGHT - skew_ns}
    world.grants.clear()
    world.now = MIDNIGHT - skew_ns - S // 2
    world.mail(3)
    world.turn(seconds=0)
    assert world.grants == []
