"""A limit that several partitions keep together is never passed, whoever crashes, stalls or comes late."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.policy import shares
from services.scheduler.policy.shares import Dealer, Hand
from services.scheduler.policy.totals import Totals
from shared.protocol.control import ControlView
from shared.records.codec import Unreadable, encode
from shared.records.control import CONTROL, Control, Directive, OrderedRate
from shared.records.shares import Shares
from shared.records.state import STATE, TotalState
from shared.runtime.settings import LimitRow, Rate, Settings
from shared.runtime.workings import Kafka, Timing
from tests.unit.services.scheduler.policy.test_limits import most_in_a_window

S = 1_000_000_000
NAME = "tenant:acme"
START = 1_700_000_000 * S
TIMING = Timing()


@dataclass
class Kept:
    """mail.state of one partition, and the latest time that was committed."""

    records: dict[str, bytes] = field(default_factory=dict)
    now: int = 0

    def commit(self, totals: Totals, now: int) -> None:
        self.records |= {name: encode(totals.state(name)) for name in totals.take()}
        self.now = max(self.now, now)

    def restore(self) -> Totals:
        totals = Totals()
        for value in self.records.values():
            record = STATE.decode(value)
            assert isinstance(record, TotalState), record
            totals.restore(record)
        return totals


@dataclass
class Log:
    """mail.control, and how far each process has read it."""

    records: list[tuple[int, bytes]] = field(default_factory=list)

    def append(self, now: int, record: Control) -> None:
        self.records.append((now, encode(record)))

    def read(self, view: ControlView, most: int) -> None:
        for at in range(view.position, min(len(self.records), view.position + most)):
            stamp, value = self.records[at]
            record = CONTROL.decode(value)
            assert not isinstance(record, Unreadable), record
            view.feed(at, stamp, record)


@dataclass
class Partition:
    """One partition's worker, as far as it deals and uses."""

    number: int
    config: Settings
    skew: int
    #: What operators have ordered.
    orders: tuple[Directive, ...] = ()
    kept: Kept = field(default_factory=Kept)
    now: int = 0
    view: ControlView = field(default_factory=ControlView)

    def __post_init__(self) -> None:
        self.crash(same_process=False)

    def crash(self, *, same_process: bool) -> None:
        """Begin anew: another process reads mail.control from its start."""
        if not same_process:
            self.view = ControlView()
        self.totals = self.kept.restore()
        self.now = self.kept.now
        self.hand = Hand(self.number, self.view, self.totals)
        self.dealer = Dealer(self.config, self.view, self.totals)
        self.dealer.overrule(self.orders)

    def round(
        self, true_now: int, log: Log, ready: int, rng: random.Random, *, fails: bool
    ) -> tuple[list[int], Shares | None]:
        """Run a round: gives the true times at which attempts start, and what was dealt; nothing where its commit fails."""
        self.now = max(self.now, true_now + self.skew)
        log.read(self.view, rng.choice([0, 1, 5, 1000]))
        self.hand.receive(self.now)
        starts = []
        for _ in range(ready):
            if not self.hand.has(NAME, self.now):
                break
            until = self.hand.use(NAME, self.now)
            # t0 may lie ahead, and the sender begins whenever it likes until t1, by its own clock.
            last = until + TIMING.total_window_ns + rng.choice([-1, 1]) * TIMING.skew_ns
            starts.append(
                rng.choice(
                    [true_now, max(true_now, last), rng.randint(true_now, max(true_now, last))]
                )
            )
        given_ = self.dealer.deal(self.now) if self.number == shares.DEALER else None
        if fails:
            self.crash(same_process=rng.random() < 0.5)
            return [], None
        self.kept.commit(self.totals, self.now)
        want = self.hand.want(self.now)
        if want is not None:
            log.append(true_now, want)
        return starts, given_


def config(rate: Rate, partitions: int) -> Settings:
    return Settings(
        kafka=Kafka(partitions=partitions), limits={NAME: LimitRow(total_rate=rate)}, timing=TIMING
    )


def ordered(rate: Rate) -> Directive:
    """Order that the tenant has this rate."""
    total = OrderedRate(count=rate.count, period_ns=rate.period_ns, burst=rate.burst)
    return Directive(
        id="o", action="limit", tenant="acme", total_rate=total, reason="why", author="ada"
    )


def run(
    rate: Rate,
    partitions: int,
    seed: int,
    steps: int,
    trouble: float,
    ready: Callable[[int, random.Random], int],
    order: Directive | None = None,
) -> tuple[list[int], int]:
    """Let all partitions work; gives the starts, and how long it took."""
    rng, log, starts = random.Random(seed), Log(), list[int]()
    skews = [rng.choice([-1, 0, 1]) * TIMING.skew_ns if trouble else 0 for _ in range(partitions)]
    all_ = [
        Partition(
            number, config(rate, partitions), skews[number], () if order is None else (order,)
        )
        for number in range(partitions)
    ]
    #: What was committed and not said yet, by an owner that may be gone.
    unsaid: deque[Shares] = deque()
    now = START
    for _ in range(steps):
        now += rng.choice([S // 10, S // 10, S // 4, *([20 * S] if rng.random() < trouble else [])])
        for one in all_:
            if rng.random() < trouble:
                continue  # It stalls.
            began, given_ = one.round(
                now, log, ready(one.number, rng), rng, fails=rng.random() < trouble
            )
            starts += began
            if given_ is not None and rng.random() >= trouble:
                unsaid.append(given_)
            if rng.random() < trouble:
                one.crash(same_process=rng.random() < 0.5)
        while unsaid and rng.random() >= trouble:
            # What is late is said late, and sometimes twice, or after what came after it.
            shares_ = unsaid.popleft() if rng.random() >= trouble else unsaid.pop()
            log.append(now, shares_)
            if rng.random() < trouble:
                log.append(now, shares_)
    return starts, now - START


RATES = st.sampled_from(
    [
        Rate(5, 60 * S),
        Rate(60, 60 * S, 10),
        Rate(600, 60 * S),
        Rate(40, 3600 * S),
        Rate(3, 3600 * S, 3),
    ]
)


@settings(max_examples=30, deadline=None)
@given(
    RATES,
    st.integers(2, 5),
    st.integers(0, 10**9),
    st.sampled_from([0.0, 0.1, 0.3]),
    st.booleans(),
)
def test_no_window_holds_more_than_the_limit_whoever_crashes_or_comes_late(
    rate: Rate, partitions: int, seed: int, trouble: float, by_order: bool
) -> None:
    """The limit is the configuration's, or an operator's in its place."""
    row = replace(rate, count=10 * rate.count) if by_order else rate
    order = ordered(rate) if by_order else None
    starts, _ = run(
        row, partitions, seed, 250, trouble, lambda _, rng: rng.choice([0, 3, 1000]), order
    )
    assert most_in_a_window(starts, rate.period_ns) <= rate.count


def test_tokens_that_are_used_twice_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The property can fail: here a restart forgets what was used."""
    monkeypatch.setattr(Kept, "commit", lambda self, totals, now: totals.take())
    rate = Rate(60, 60 * S, 10)
    over = False
    for seed in range(4):
        starts, _ = run(rate, 3, seed, 300, 0.1, lambda _, rng: 1000)
        over |= most_in_a_window(starts, rate.period_ns) > rate.count
    assert over


@pytest.mark.parametrize(
    ("rate", "least"), [(Rate(600, 60 * S), 0.75), (Rate(6000, 3600 * S), 0.9)]
)
@pytest.mark.parametrize("busy", [(0,), (3,), (0, 1, 2, 3)])
def test_nearly_all_of_it_is_used_wherever_the_mail_is(
    rate: Rate, least: float, busy: tuple[int, ...]
) -> None:
    """Less than the whole by what delays could move: (period + spread)."""
    starts, took = run(rate, 4, 1, 1500, 0.0, lambda number, _: 1000 if number in busy else 0)
    possible = rate.count * took / rate.period_ns
    assert least * possible <= len(starts) <= possible + rate.count


def test_partitions_that_are_all_busy_get_about_the_same() -> None:
    rate, log, rng = Rate(600, 60 * S), Log(), random.Random(1)
    all_ = [Partition(number, config(rate, 4), 0) for number in range(4)]
    counts, now = [0] * 4, START
    for _ in range(800):
        now += S // 10
        for one in all_:
            began, given_ = one.round(now, log, 1000, rng, fails=False)
            counts[one.number] += len(began)
            if given_ is not None:
                log.append(now, given_)
    assert min(counts) > 0.9 * max(counts)


def test_what_one_partition_cannot_use_goes_to_the_others() -> None:
    """A partition whose destination was suspended holds tokens until they lapse, asks for no more, and the rest is used elsewhere."""
    rate = Rate(600, 60 * S)
    alone, _ = run(rate, 2, 1, 1000, 0.0, lambda number, _: 1000 if number else 0)
    rounds = [0]

    def suspended(number: int, _: random.Random) -> int:
        rounds[0] += not number
        return 1000 if number or rounds[0] < 100 else 0

    beside, _ = run(rate, 2, 1, 1000, 0.0, suspended)
    assert len(beside) > 0.9 * len(alone)


def test_with_one_partition_nothing_is_divided() -> None:
    assert shares.crossing(config(Rate(5, 60 * S), 1)) == {}
    assert shares.crossing(config(Rate(5, 60 * S), 2)) == {NAME: Rate(5, 60 * S)}


def test_what_is_ordered_is_divided_where_the_settings_say_nothing() -> None:
    nothing = Settings(kafka=Kafka(partitions=2), timing=TIMING)
    assert shares.crossing(nothing) == {}
    assert shares.crossing(nothing, [ordered(Rate(5, 60 * S))]) == {NAME: Rate(5, 60 * S)}


def test_nobody_deals_what_nobody_wants() -> None:
    one = Partition(0, config(Rate(600, 60 * S), 2), 0)
    for at in range(100):
        _, given_ = one.round(START + at * S, Log(), 0, random.Random(1), fails=False)
        assert given_ is None
    assert one.kept.records == {}
