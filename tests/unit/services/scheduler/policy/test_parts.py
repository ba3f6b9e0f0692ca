"""A tenant's and a sending domain's limits hold in every window, over restarts and hand-overs, and hold back nobody else."""

import random
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.policy.lines import Line
from services.scheduler.policy.parts import Parts
from services.scheduler.policy.shares import Hand
from services.scheduler.policy.totals import Totals
from shared.protocol.control import ControlView
from shared.records.control import Directive, OrderedRate
from shared.records.lanemap import propose
from shared.records.shares import Want
from shared.runtime.settings import LimitRow, Rate, Settings, Tenant
from shared.runtime.workings import Kafka, Timing
from tests.unit.services.scheduler.policy.test_ledger import START, World, make_settings
from tests.unit.services.scheduler.policy.test_limits import most_in_a_window
from tests.unit.services.scheduler.policy.test_orders import order

S = 1_000_000_000
MIN = 60 * S
HOUR = 60 * MIN
TIMING = Timing()
RATES = st.sampled_from([Rate(3, MIN), Rate(60, MIN, 20), Rate(1000, MIN), Rate(9, HOUR, 4)])
ROWS = ("tenant:acme", "big/tenant:acme", "big/domain:news.acme.example")
LINES = st.builds(
    Line,
    st.just("bulk"),
    st.sampled_from(["acme", "other"]),
    st.just(""),
    st.sampled_from(["acme.example", "news.acme.example"]),
)


def parts(config: Settings, totals: Totals) -> Parts:
    return Parts(config, totals, Hand(0, ControlView(), totals), random.Random(1))


def counts(name: str, key: str, line: Line) -> bool:
    """Say whether a row counts mail of ``line`` to ``key``."""
    return {
        "tenant:acme": line.tenant == "acme",
        "big/tenant:acme": key == "big" and line.tenant == "acme",
        "big/domain:news.acme.example": key == "big" and line.domain == "news.acme.example",
    }[name]


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries(dict.fromkeys(ROWS, RATES)),
    st.lists(
        st.tuples(
            st.sampled_from(["big", "mx.small.example"]),
            LINES,
            st.sampled_from([0, S // 100, S, 20 * S]),
            st.sampled_from(["go", "go", "go", "restart", "hand over"]),
        ),
        max_size=150,
    ),
    st.randoms(use_true_random=False),
)
def test_every_row_is_kept_in_every_window_of_starts_over_restarts_and_hand_overs(
    rates: dict[str, Rate],
    plan: list[tuple[str, Line, int, str]],
    rng: random.Random,
) -> None:
    config = Settings(
        kafka=Kafka(partitions=1),
        limits={name: LimitRow(total_rate=rate) for name, rate in rates.items()},
    )
    lane_map, totals, now = propose(1, 1, ["big"], []), Totals(), START
    gate = parts(config, totals)
    starts: dict[str, list[int]] = {name: [] for name in rates}
    for key, line, wait, event in plan:
        now += wait
        if event != "go":
            before, totals = totals, Totals()
            if event == "restart":
                for name in before.names():
                    totals.restore(before.state(name))
            else:
                lanes = {lane_map.lane_of(each) for each in ("big", "mx.small.example")}
                # What is of no lane stays where it is: here both are the same partition.
                names = {name for name in before.names() if name.startswith("tenant:")}
                names.update(*(before.of_lane(lane, lane_map) for lane in lanes))
                for name in names:
                    totals.merge(before.state(name))
            gate = parts(config, totals)
        check = gate.at(key, None)
        while check is not None and check(line, now) is None:
            start = gate.spend(key, line, now)
            if start is None:
                break
            assert now <= start.first_ns <= start.last_ns
            # Each clock may be off, and the sender begins when it likes.
            at = rng.choice([start.first_ns - TIMING.skew_ns, start.last_ns + TIMING.skew_ns])
            for name, times in starts.items():
                if counts(name, key, line):
                    times.append(at)
    for name, times in starts.items():
        assert most_in_a_window(times, rates[name].period_ns) <= rates[name].count


def test_what_shuts_a_line_names_its_limit_and_opens_it_with_the_next_token() -> None:
    config = Settings(limits={"big/domain:a.example": LimitRow(total_rate=Rate(60, HOUR))})
    gate = parts(config, Totals())
    line = Line("bulk", "acme", "", "a.example")
    check = gate.at("big", "big")
    assert check is not None
    assert check(line, START) is None
    gate.spend("big", line, START)
    shut = check(line, START)
    assert shut is not None
    assert (shut.why, shut.whole) == ("domain_rate", False)
    assert shut.until_ns is not None
    assert check(line, shut.until_ns) is None
    assert check(line, shut.until_ns - 2 * S) is not None
    assert check(Line("bulk", "acme", "", "b.example"), START) is None
    assert gate.at("mx.small.example", None) is None


def world(**rows: LimitRow) -> World:
    base = make_settings(**rows)
    tenants = {
        name: Tenant(name, (f"{name}.example",), {"transactional": "main", "bulk": "main"})
        for name in ("acme", "other")
    }
    return World(replace(base, tenants=tenants, kafka=Kafka(partitions=1)))


def deliver(one: World, count: int, tenant: str, domain: str = "acme.example") -> None:
    for at in range(count):
        one.deliver(f"{tenant}-{domain}-{at}", tenant=tenant, header_domain=domain)


def test_a_tenant_at_its_limit_waits_alone_and_says_why() -> None:
    one = world(**{"big/tenant:acme": LimitRow(total_rate=Rate(60, MIN))})
    deliver(one, 20, "acme")
    deliver(one, 20, "other")
    one.turn()
    assert Counter(grant.tenant for grant in one.grants) == {"other": 20, "acme": 1}
    reasons = Counter(
        (entry.tenant, why) for entry, why in one.ledger.reasons() if why != "granted"
    )
    assert reasons == {("acme", "tenant_rate"): 19}


def test_of_several_limits_each_is_kept_and_every_grant_starts_within_its_window() -> None:
    rows = {
        "tenant:acme": Rate(40, MIN),
        "big/tenant:acme": Rate(30, MIN),
        "big/domain:news.acme.example": Rate(10, MIN),
    }
    one = world(**{name: LimitRow(total_rate=rate) for name, rate in rows.items()})
    deliver(one, 100, "acme")
    deliver(one, 100, "acme", "news.acme.example")
    for _ in range(600):
        one.turn(0.25)
        for grant in one.grants[-50:]:
            assert grant.t0_ns <= grant.t1_ns <= grant.t0_ns + TIMING.total_window_ns
    latest = [grant.t1_ns for grant in one.grants]
    assert most_in_a_window(latest, MIN) <= 30
    # 150 s of the strictest, less what delays could move.
    assert len(latest) >= 0.8 * 30 * 2.5


def test_a_tenants_own_total_holds_over_all_destinations() -> None:
    one, answered = world(**{"tenant:acme": LimitRow(total_rate=Rate(30, MIN))}), 0
    for at in range(40):
        one.deliver(f"b{at}")
        one.deliver(
            f"s{at}", provider=None, site=f"mx{at % 3}.example", domain=f"s{at % 3}.example"
        )
    for _ in range(480):
        one.turn(0.25)
        # Nothing but the total holds any of them back.
        for grant in one.grants[answered:]:
            one.answer(grant, "delivered")
        answered = len(one.grants)
    keys = Counter(grant.limit_key for grant in one.grants)
    assert set(keys) == {"big", "mx0.example", "mx1.example", "mx2.example"}
    assert min(keys.values()) >= max(keys.values()) / 3, "none of them is always the first"
    assert most_in_a_window([grant.t1_ns for grant in one.grants], MIN) <= 30
    assert len(one.grants) >= 0.8 * 60


def test_what_was_spent_survives_a_restart() -> None:
    one = world(**{"big/tenant:acme": LimitRow(total_rate=Rate(10, HOUR, 10))})
    deliver(one, 30, "acme")
    one.turn()
    assert len(one.grants) == 10
    one.restart()
    one.turn(1)
    assert len(one.grants) == 10


def test_a_site_of_a_provider_keeps_its_own_rates_beside_the_providers() -> None:
    site = "mx1.big.example"
    one = world(
        big=LimitRow(rate=Rate(600, MIN)),
        **{site: LimitRow(rate=Rate(20, MIN), total_rate=Rate(30, MIN))},
    )
    for at in range(60):
        one.deliver(f"a{at}", site=site)
        one.deliver(f"b{at}")
    answered = 0
    for _ in range(480):
        one.turn(0.25)
        for grant in one.grants[answered:]:
            one.answer(grant, "delivered")
        answered = len(one.grants)
    here = [grant for grant in one.grants if grant.site == site]
    for slot in (0, 1):
        mine = [grant.t1_ns for grant in here if grant.slot == slot]
        assert most_in_a_window(mine, MIN) <= 20
    assert most_in_a_window([grant.t1_ns for grant in here], MIN) <= 30
    assert len(here) >= 0.7 * 60
    assert len(one.grants) - len(here) == 60, "nobody else of the provider waits for it"


@given(
    st.lists(st.integers(0, S // 5), min_size=1, max_size=60),
    st.tuples(*[st.sampled_from([Rate(400, MIN), Rate(900, MIN), Rate(2000, MIN, 3)])] * 3),
)
def test_an_attempt_starts_within_the_window_of_the_token_of_each_of_its_limits(
    waits: list[int], rates: tuple[Rate, Rate, Rate]
) -> None:
    """Tokens lie up to a tenth of a second ahead, and not at the same time: the first ends the window, the last begins it."""
    config = Settings(
        kafka=Kafka(partitions=1),
        limits={name: LimitRow(total_rate=rate) for name, rate in zip(ROWS, rates, strict=True)},
    )
    gate, now = parts(config, Totals()), START
    line = Line("bulk", "acme", "", "news.acme.example")
    check = gate.at("big", "big")
    assert check is not None
    for wait in waits:
        now += wait
        if check(line, now) is not None:
            continue
        tokens = [bound.first_ns for bound in gate.bounds("big", line, now)]
        assert len(tokens) == 3
        start = gate.spend("big", line, now)
        assert start is not None
        assert start.first_ns == max(now, *tokens)
        assert start.last_ns == min(tokens) + TIMING.total_window_ns


def test_what_was_dealt_by_another_rate_than_the_ordered_one_is_not_spent() -> None:
    config = Settings(
        kafka=Kafka(partitions=3),
        limits={
            f"tenant:{name}": LimitRow(total_rate=Rate(600, MIN)) for name in ("acme", "other")
        },
    )
    totals = Totals()
    gate = parts(config, totals)
    for name in ("tenant:acme", "tenant:other"):
        totals.give(name, START, START + MIN, 9)
    slower = Directive(
        id="limit-1",
        action="limit",
        tenant="acme",
        total_rate=OrderedRate(count=6, period_ns=MIN),
        reason="complaints",
        author="ada",
    )
    gate.overrule([slower])
    assert (totals.left("tenant:acme", START), totals.left("tenant:other", START)) == (0, 9)
    totals.give("tenant:acme", START + S, START + MIN, 2)
    gate.overrule([slower])
    assert totals.left("tenant:acme", START) == 2, "nothing is dropped while nothing changes"
    gate.overrule([])
    assert totals.left("tenant:acme", START) == 0


def test_an_order_holds_for_what_is_dealt_to_all_partitions_as_soon_as_it_is_read() -> None:
    world = World(make_settings(**{"tenant:acme": LimitRow(total_rate=Rate(6000, MIN))}))

    def dealt(seconds: int) -> int:
        """Let another partition want more than there is, and count what it is dealt."""
        tokens = 0
        for _ in range(4 * seconds):
            world.control(Want(partition=1, of={"tenant:acme": 1000}))
            shares = world.turn(0.25).shares
            if shares is not None:
                tokens += sum(shares.of["tenant:acme"].tokens.values())
        return tokens

    assert dealt(20) > 1000
    slower = order(world, "limit", tenant="acme", total_rate=OrderedRate(count=60, period_ns=MIN))
    assert dealt(60) <= 60
    order(
        world,
        "limit",
        id=slower.id,
        tenant="acme",
        total_rate=OrderedRate(count=6000, period_ns=MIN),
    )
    assert dealt(20) > 1000


@given(st.tuples(RATES, RATES, RATES), st.integers(1, 5))
def test_tokens_leave_room_for_when_each_attempt_may_start_and_for_two_clocks(
    rates: tuple[Rate, Rate, Rate], deciders: int
) -> None:
    """Starts of one period had their tokens in a window that is longer by that much; of what is divided each has a part."""
    config = Settings(
        kafka=Kafka(partitions=1),
        limits={name: LimitRow(total_rate=rate) for name, rate in zip(ROWS, rates, strict=True)},
    )
    gate = parts(config, Totals())
    gate.divide(deciders)
    bounds = gate.bounds("big", Line("bulk", "acme", "", "news.acme.example"), START)
    spread = TIMING.total_window_ns + 2 * TIMING.skew_ns
    for rate, bound, of in zip(rates, bounds, (1, deciders, deciders), strict=True):
        most = of * (1 + (rate.period_ns + spread) // bound.interval_ns)
        assert most <= max(rate.count, of) + of * rate.burst
        assert bound.interval_ns * rate.count >= of * (rate.period_ns + spread) - rate.count
