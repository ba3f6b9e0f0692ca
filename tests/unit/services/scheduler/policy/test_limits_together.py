"""Every limit of every kind holds in every window of starts at once, while lanes change hands, partitions crash, and shares come late."""

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.protocol.spacing import WireLimiter
from shared.records.grant import Grant
from shared.records.lanemap import LaneMap, moved
from shared.records.shares import Shares, Want
from shared.runtime.settings import LimitRow, Pool, Provider, Rate, Settings, Source, Tenant
from shared.runtime.workings import Kafka
from tests.unit.services.scheduler.policy.partitions import BIG, START, S, World
from tests.unit.services.scheduler.policy.test_limits import most_in_a_window

MIN = 60 * S
MAP = LaneMap(version=1, partitions=3, buckets=1, lanes={BIG: 0, "provider:small": 1, "site:0": 2})
NEWS = "news.acme.example"
RATES = {
    "big": Rate(60, MIN, 5),
    "small": Rate(30, MIN),
    "tenant:acme": Rate(45, MIN, 8),
    "big/tenant:acme": Rate(30, MIN, 30),
    f"big/domain:{NEWS}": Rate(10, MIN, 3),
}
TOTAL = Rate(70, MIN, 10)


def config() -> Settings:
    sources = {
        f"ip-{slot}": Source(f"ip-{slot}", slot, "bind", "none", address=f"192.0.2.{slot + 1}")
        for slot in range(2)
    }
    rows = {
        name: LimitRow(rate=rate) if name in ("big", "small") else LimitRow(total_rate=rate)
        for name, rate in RATES.items()
    }
    return Settings(
        kafka=Kafka(partitions=3),
        sources=sources,
        pools={"main": Pool("main", dict.fromkeys(sources, 1))},
        tenants={
            name: Tenant(name, ("acme.example", NEWS), {"bulk": "main"})
            for name in ("acme", "other")
        },
        providers={name: Provider(name, (f".{name}.example",)) for name in ("big", "small")},
        limits={
            "default": LimitRow(50, 100),
            **rows,
            "big": replace(rows["big"], total_rate=TOTAL),
        },
    )


@dataclass
class Wire:
    """One sender's pair: it spaces what it starts, and starts nothing after t1."""

    limiter: WireLimiter
    last: int = START

    def start(self, grant: Grant, wanted: int) -> int | None:
        self.limiter.change(grant.spacing_ns, grant.burst)
        at = self.limiter.earliest(max(wanted, grant.t0_ns, self.last))
        if at >= grant.t1_ns:
            return None
        self.limiter.spend(at)
        self.last = at
        return at


@dataclass
class Cluster:
    """Three partitions that read mail.control each at its own pace, and the senders."""

    rng: random.Random
    trouble: float
    world: World = field(init=False)
    map: LaneMap = MAP
    control: list[Want | Shares | LaneMap] = field(default_factory=list)
    read: list[int] = field(default_factory=lambda: [0, 0, 0])
    wires: dict[tuple[str, int], Wire] = field(default_factory=dict)
    starts: list[tuple[int, Grant]] = field(default_factory=list)
    count: int = 0
    #: Delivery -> the domain of its From.
    domains: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.world = World(config(), MAP)
        for part in self.world.parts:
            part.own(1)

    def arrive(self) -> None:
        key, tenant, domain = (
            self.rng.choice(each)
            for each in (("big", "big", "small"), ("acme", "acme", "other"), ("acme.example", NEWS))
        )
        self.count += 1
        self.domains[f"d{self.count}"] = domain
        more = {
            "tenant": tenant,
            "header_domain": domain,
            "provider": key,
            "site": f"mx.{key}.example",
        }
        lane = self.map.lane(key, None, "x.example")
        self.world.deliver(self.map.partition(lane), f"d{self.count}", map=self.map.version, **more)

    def step(self) -> None:
        for _ in range(self.rng.randint(0, 6)):
            self.arrive()
        if self.rng.random() < self.trouble:
            self.map = moved(self.map, {BIG: self.rng.randint(0, 2)})
            self.control.append(self.map)
        for part in self.world.parts:
            behind = self.control[self.read[part.number] :]
            for record in behind[: self.rng.choice([0, 3, 100, 100])]:
                part.view.feed(part.view.position, self.world.now, record)
                self.read[part.number] += 1
        for part in self.world.parts:
            if self.rng.random() < self.trouble:
                # It decides, and cannot commit.
                part.ledger.begin(self.world.now + S // 10)
                part.ledger.plan(1000, 1 << 30)
                part.ledger.take()
                part.restart()
        self.world.grants.clear()
        self.world.turn(seconds=0.25)
        for _, grant in self.world.grants:
            self.send(grant)
        for part in self.world.parts:
            want = part.ledger.want()
            if want is not None:
                self.control.append(want)
        for shares in self.world.dealt:
            if self.rng.random() >= self.trouble:
                self.control.append(shares)
        self.world.dealt.clear()

    def send(self, grant: Grant) -> None:
        wire = self.wires.setdefault(
            (grant.limit_key, grant.slot),
            Wire(WireLimiter(grant.spacing_ns, grant.burst, START - S)),
        )
        wanted = self.rng.choice([grant.t0_ns, self.rng.randint(grant.t0_ns, grant.t1_ns)])
        at = wire.start(grant, wanted)
        if at is not None:
            self.starts.append((at, grant))
            self.world.say(grant.part, grant, "delivered")


def times(cluster: Cluster, of: Callable[[Grant], bool]) -> list[int]:
    return [at for at, grant in cluster.starts if of(grant)]


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from([0.0, 0.03, 0.1]))
def test_all_limits_hold_at_once_over_hand_overs_crashes_and_late_shares(
    seed: int, trouble: float
) -> None:
    cluster = Cluster(random.Random(seed), trouble)
    for _ in range(320):
        cluster.step()
    by_pair: dict[tuple[str, int], list[int]] = defaultdict(list)
    for at, grant in cluster.starts:
        by_pair[grant.limit_key, grant.slot].append(at)
    for (key, slot), starts in by_pair.items():
        rate = RATES[key]
        assert most_in_a_window(starts, rate.period_ns) <= rate.count, (key, slot)
    of = {
        "big": (TOTAL, times(cluster, lambda g: g.limit_key == "big")),
        "tenant:acme": (None, times(cluster, lambda g: g.tenant == "acme")),
        "big/tenant:acme": (
            None,
            times(cluster, lambda g: g.limit_key == "big" and g.tenant == "acme"),
        ),
    }
    for name, (given_, starts) in of.items():
        limit = given_ or RATES[name]
        assert most_in_a_window(starts, limit.period_ns) <= limit.count, name
    domains = cluster.domains
    news = times(cluster, lambda g: g.limit_key == "big" and domains[g.id] == NEWS)
    assert most_in_a_window(news, MIN) <= 10
    assert len(cluster.starts) >= 40, "and it does send"
