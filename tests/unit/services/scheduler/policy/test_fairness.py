"""Claims of the queue: order, shares, what is kept back, release, and the bound on waiting."""

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.scheduler.policy.backlog import Order
from services.scheduler.policy.duequeue import DueQueue
from services.scheduler.policy.lines import FOREVER, Check, Line, Shut, Weights, together

CLASSES = ("transactional", "bulk")
TENANTS = ("a", "b", "c")
STREAMS = ("", "s")
_S = 1_000_000_000


def queue_of(**order: object) -> DueQueue:
    return DueQueue(Order(**order), random.Random(1))  # type: ignore[arg-type]


def line(class_: str = "bulk", tenant: str = "a", stream: str = "", domain: str = "") -> Line:
    return Line(class_, tenant, stream, domain)


def drain(queue: DueQueue, now: int = 0, check: Check | None = None) -> list[str]:
    found = []
    while (each := queue.pop_ready(now, check)) is not None:
        found.append(each)
    return found


def shutting(*shut: str, until: int | None = None, **more: bool) -> Check:
    """Shut the lines of these tenants."""

    def check(line: Line, now_ns: int) -> Shut | None:
        may = line.tenant not in shut or (until is not None and now_ns >= until)
        return None if may else Shut(until, "directive", **more)

    return check


# -- order


def test_nothing_is_given_before_it_is_due() -> None:
    queue = queue_of()
    queue.push("x", 100, line())
    assert queue.pop_ready(99) is None
    assert queue.next_ns() == 100
    assert queue.pop_ready(100) == "x"
    assert queue.next_ns() == FOREVER


def test_a_lines_deliveries_come_in_the_order_of_their_due_times() -> None:
    queue = queue_of()
    for due in (30, 10, 20):
        queue.push(f"at {due}", due, line())
    assert drain(queue, 30) == ["at 10", "at 20", "at 30"]


def test_equal_due_times_keep_the_order_of_arrival() -> None:
    queue = queue_of()
    for number in range(50):
        queue.push(f"{number}", 0, line())
    assert drain(queue) == [f"{number}" for number in range(50)]


def test_a_tenant_with_one_delivery_does_not_wait_for_one_with_thousands() -> None:
    queue = queue_of()
    for number in range(1_000):
        queue.push(f"big {number}", 0, line(tenant="big"))
    queue.push("small", 0, line(tenant="small"))
    assert "small" in [queue.pop_ready(0) for _ in range(2)]


def test_tenants_are_served_by_their_weights() -> None:
    queue = queue_of(weights=Weights({"a": 3}))
    for number in range(400):
        queue.push(f"a{number}", 0, line(tenant="a"))
        queue.push(f"b{number}", 0, line(tenant="b"))
    served = Counter(each[0] for each in drain(queue)[:400])
    assert served == {"a": 300, "b": 100}


def test_streams_of_a_tenant_are_served_by_their_weights_and_take_nothing_from_others() -> None:
    queue = queue_of(weights=Weights(streams={("a", "x"): 2}))
    for number in range(400):
        queue.push(f"x{number}", 0, line(tenant="a", stream="x"))
        queue.push(f"y{number}", 0, line(tenant="a", stream="y"))
        queue.push(f"b{number}", 0, line(tenant="b"))
    served = Counter(each[0] for each in drain(queue)[:600])
    assert served == {"x": 200, "y": 100, "b": 300}


def test_equal_tenants_are_served_alike() -> None:
    """Jain's index over what equal tenants got of a contended queue is at least 0.98, at any time, whatever each has waiting."""
    queue, rng = queue_of(), random.Random(3)
    for tenant in range(50):
        for number in range(rng.randint(40, 400)):
            stream = f"s{number % rng.randint(1, 4)}"
            queue.push(f"{tenant} {number}", 0, line(tenant=f"t{tenant}", stream=stream))
    served: Counter[str] = Counter()
    for _ in range(40):
        for _ in range(50):
            served[(queue.pop_ready(0) or "").split()[0]] += 1
        counts = [served[f"{tenant}"] for tenant in range(50)]
        assert sum(counts) ** 2 / (50 * sum(count * count for count in counts)) >= 0.98


def test_transactional_goes_first_and_bulk_has_its_floor() -> None:
    queue = queue_of(every=20)
    for number in range(400):
        queue.push(f"t{number}", 0, line("transactional"))
        queue.push(f"b{number}", 0, line("bulk"))
    first = "".join((queue.pop_ready(0) or "")[0] for _ in range(200))
    assert first == ("t" * 19 + "b") * 10


def test_a_class_that_had_nothing_is_owed_nothing() -> None:
    queue = queue_of()
    for number in range(300):
        queue.push(f"t{number}", 0, line("transactional"))
    for _ in range(200):
        queue.pop_ready(0)
    for number in range(50):
        queue.push(f"b{number}", 0, line("bulk"))
    first = [queue.pop_ready(0) or "" for _ in range(40)]
    assert sum(1 for each in first if each[0] == "b") == 2


# -- deadlines


def test_what_is_urgent_goes_before_its_tenants_turn_the_earliest_expiry_first() -> None:
    queue = queue_of()
    for tenant in TENANTS:
        for number in range(5):
            queue.push(f"{tenant}{number}", 0, line(tenant=tenant))
    queue.push("late", 0, line(tenant="c"))
    queue.push("soon", 0, line(tenant="b"))
    queue.urge("late", 900)
    queue.urge("soon", 500)
    assert [queue.pop_ready(0) for _ in range(3)] == ["soon", "late", "a0"]


def test_what_went_ahead_is_paid_for_with_the_next_turn() -> None:
    queue = queue_of()
    for number in range(9):
        queue.push(f"a{number}", 0, line(tenant="a"))
        queue.push(f"b{number}", 0, line(tenant="b"))
        queue.urge(f"a{number}", 500 + number)
    served = [(queue.pop_ready(0) or "")[0] for _ in range(12)]
    assert "".join(served) == "abaabbaabbaa"


def test_a_tenant_pays_for_what_went_ahead_and_no_more() -> None:
    """A heavy tenant with one urgent delivery now and then keeps its share beside light ones that are always urgent."""
    queue = queue_of(weights=Weights({"a": 3}))
    for tenant in TENANTS:
        for number in range(400):
            queue.push(f"{tenant}{number}", 0, line(tenant=tenant))
    served: Counter[str] = Counter()
    for pop in range(300):
        for tenant in TENANTS if pop % 5 == 0 else ("b", "c"):
            queue.push(f"{tenant}u{pop}", 0, line(tenant=tenant, stream="u"))
            queue.urge(f"{tenant}u{pop}", pop)
        served[(queue.pop_ready(0) or "")[0]] += 1
    assert abs(served["a"] - 180) <= 5


def test_urgent_mail_of_a_tenant_does_not_starve_its_other_streams() -> None:
    queue = queue_of()
    for number in range(50):
        queue.push(f"u{number}", 0, line(stream="otp"))
        queue.urge(f"u{number}", 500 + number)
        queue.push(f"n{number}", 0, line(stream="news"))
    first = Counter((queue.pop_ready(0) or "")[0] for _ in range(40))
    assert first["n"] >= 10
    assert first["u"] >= 20


def test_what_is_urgent_and_not_due_waits_until_it_is_due() -> None:
    queue = queue_of()
    for number in range(5):
        queue.push(f"{number}", 0, line())
    queue.push("u", 100, line())
    queue.urge("u", 500)
    assert queue.pop_ready(99) == "0"
    assert queue.pop_ready(100) == "u"


# -- what is kept back


def test_a_shut_line_waits_and_the_others_do_not() -> None:
    queue, check = queue_of(), shutting("a")
    queue.push("a1", 0, line(tenant="a"))
    queue.push("b1", 0, line(tenant="b"))
    assert drain(queue, 0, check) == ["b1"]
    assert queue.shut(line(tenant="a")) == Shut(None, "directive")
    assert queue.next_ns() == FOREVER
    assert queue.reopen(0)
    assert drain(queue) == ["a1"]


def test_a_shut_line_is_asked_again_when_its_time_has_come() -> None:
    queue, check = queue_of(), shutting("a", until=50)
    queue.push("a1", 0, line(tenant="a"))
    assert queue.pop_ready(0, check) is None
    assert queue.next_ns() == 50
    assert queue.pop_ready(49, check) is None
    assert queue.pop_ready(50, check) == "a1"


def test_a_tenant_is_shut_as_a_whole_by_one_answer() -> None:
    asked: list[Line] = []

    def check(line: Line, _now_ns: int) -> Shut | None:
        asked.append(line)
        return Shut(90, "tenant_rate", whole=True)

    queue = queue_of()
    for number in range(100):
        queue.push(f"{number}", 0, line(stream=f"{number}"))
    assert queue.pop_ready(0, check) is None
    assert len(asked) == 1
    assert sorted(drain(queue, 90), key=int) == [f"{number}" for number in range(100)]


def test_shut_lines_cost_nothing_however_many_messages_and_pops_there_are() -> None:
    asked: Counter[str] = Counter()

    def check(line: Line, _now_ns: int) -> Shut | None:
        asked[line.tenant] += 1
        return Shut(None, "directive") if line.tenant == "a" else None

    queue = queue_of()
    for number in range(5_000):
        queue.push(f"a{number}", 0, line(tenant="a", stream=f"{number % 10}"))
        queue.push(f"b{number}", 0, line(tenant="b"))
    assert len(drain(queue, 0, check)) == 5_000
    assert asked == {"a": 10, "b": 5_000}


def test_what_is_not_due_still_has_a_time_while_a_line_is_shut() -> None:
    queue = queue_of()
    queue.push("a1", 0, line(tenant="a"))
    queue.push("b1", 50, line(tenant="b"))
    assert queue.pop_ready(0, shutting("a")) is None
    assert queue.next_ns() == 50


def test_the_gate_that_shuts_for_longest_binds() -> None:
    both = together([lambda _l, _n: Shut(5, "window"), lambda _l, _n: Shut(None, "directive")])
    assert both is not None
    assert both(line(), 0) == Shut(None, "directive")
    assert together([]) is None


# -- release


@pytest.mark.parametrize("count", [1, 40, 500])
def test_what_was_held_back_for_long_is_given_evenly(count: int) -> None:
    """So many per time, from the beginning of the release to its end, from all lines alike."""
    queue = queue_of(release_ns=60 * _S)
    check = shutting("a", "b", until=100 * _S, spread=True)
    for number in range(count):
        for tenant in ("a", "b"):
            queue.push(f"{tenant}{number}", 0, line(tenant=tenant))
    over = min(60 * _S, (2 * count - 1) * 10_000_000)
    assert queue.pop_ready(0, check) is None
    given = len(drain(queue, 100 * _S, check))
    for step in range(1, 21):
        given += len(drain(queue, 100 * _S + over * step // 20, check))
        assert abs(given - 2 * count * step // 20) <= 3
    assert given == 2 * count


def test_a_release_is_over_when_its_time_is() -> None:
    queue = queue_of()
    for number in range(100):
        queue.push(f"{number}", 0, line())
    queue.pop_ready(0)
    queue.release(0, "no_source")
    assert len(drain(queue, 500_000_000)) <= 51
    drain(queue, 3 * _S)
    for number in range(100):
        queue.push(f"{number}", 0, line())
    assert len(drain(queue, 3 * _S)) == 100


def test_a_stall_in_a_release_is_not_caught_up_in_a_wave() -> None:
    queue = queue_of(release_ns=60 * _S)
    check = shutting("a", until=1, spread=True)
    for number in range(6_000):
        queue.push(f"{number}", 0, line())
    queue.pop_ready(0, check)
    assert len(drain(queue, 30 * _S, check)) <= 102


# -- cost and memory


def test_what_becomes_due_together_costs_nothing_until_it_goes() -> None:
    """Nothing is moved when it becomes due: however many, each pop asks about one line."""
    queue, asked = queue_of(), 0

    def check(_line: Line, _now_ns: int) -> Shut | None:
        nonlocal asked
        asked += 1
        return None

    for number in range(100_001):
        queue.push(f"{number}", 1_000, line(tenant="campaign"))
    campaign = queue._all()._lines[line(tenant="campaign")]
    queue.push("otp", 1_000, line("transactional", "b"))
    queue.push("mine", 1_000, line(tenant="b"))
    assert [queue.pop_ready(1_000, check) for _ in range(3)] == ["otp", "0", "mine"]
    assert asked == 3
    assert len(campaign.later) == 100_000


def test_counts_and_age_follow() -> None:
    queue = queue_of()
    queue.push("x", 5, line("bulk", "a"))
    queue.push("y", 7, line("transactional", "a"))
    queue.push("z", 90, line("bulk", "b"))
    assert queue.counts() == {"bulk": 2, "transactional": 1}
    assert queue.waiting("bulk", "a") == 1
    assert queue.oldest_due(4) is None
    assert queue.pop_ready(8) == "y"
    assert queue.oldest_due(5) == 5


def test_removed_deliveries_leave_no_memory() -> None:
    queue = queue_of()
    queue.push("stays", 10**9, line())
    for number in range(6_000):
        queue.push(f"{number}", 10**9 + number, line(tenant=f"t{number % 100}"))
        queue.remove(f"{number}")
    assert len(queue._all()._wakes) < 3_000
    assert list(queue._all()._lines) == [line()]
    assert list(queue._all()._classes["bulk"].tenants) == ["a"]
    assert drain(queue, 2 * 10**9) == ["stays"]


def test_what_goes_ahead_and_what_waits_far_off_leave_no_memory() -> None:
    queue = queue_of()
    queue.push("far", 10**15, line())
    for number in range(6_000):
        queue.push(f"{number}", number, line())
        queue.urge(f"{number}", 10**15)
        assert queue.pop_ready(number) == f"{number}"
    waiting = queue._all()._lines[line()]
    assert waiting.places() < 2_000
    assert len(queue._all()._wakes) < 2_000
    assert len(queue._all()._classes["bulk"].express) < 2_000
    assert len(queue._all()._near) == 0


# -- the bound

_WHO = st.tuples(
    st.sampled_from(CLASSES), st.sampled_from(TENANTS), st.sampled_from(STREAMS), st.booleans()
)
_EVERY = 5


def _bound(ahead: int, mine: Line, weights: Weights) -> int:
    """Say after how many pops it is given, by the module's docstring."""
    line_weights = [weights.streams.get((mine.tenant, stream), 1) for stream in STREAMS]
    v, all_v = weights.streams.get((mine.tenant, mine.stream), 1), sum(line_weights)
    w = weights.tenants.get(mine.tenant, 1)
    all_w = sum(weights.tenants.get(tenant, 1) for tenant in TENANTS)
    turns = -(-all_v * -(-(ahead + 1) // v) // w)
    inside = 2 * (turns + 2) * all_w
    if mine.class_ == "bulk":
        return (inside + 1) * _EVERY
    return inside + -(-inside // (_EVERY - 1)) + 1


@settings(max_examples=80, deadline=None)
@given(
    before=st.lists(_WHO, max_size=30),
    mine=st.builds(
        Line,
        st.sampled_from(CLASSES),
        st.sampled_from(TENANTS),
        st.sampled_from(STREAMS),
        st.just(""),
    ),
    tenants=st.dictionaries(st.sampled_from(TENANTS), st.integers(1, 4)),
    streams=st.dictionaries(
        st.tuples(st.sampled_from(TENANTS), st.sampled_from(STREAMS)), st.integers(1, 3)
    ),
    flood=st.lists(st.lists(_WHO, max_size=4), max_size=30),
    pops=st.integers(0, 20),
)
def test_no_delivery_waits_longer_than_the_bound(
    *,
    before: list[tuple[str, str, str, bool]],
    mine: Line,
    tenants: dict[str, int],
    streams: dict[tuple[str, str], int],
    flood: list[list[tuple[str, str, str, bool]]],
    pops: int,
) -> None:
    """Whatever others push between two pops, urgent or not, a ready delivery is given within the bound."""
    weights = Weights(tenants, streams)
    queue = queue_of(weights=weights, every=_EVERY)
    serial = 0

    def push(class_: str, tenant: str, stream: str, urgent: bool) -> None:
        nonlocal serial
        serial += 1
        queue.push(f"{serial}", 0, line(class_, tenant, stream))
        if urgent:
            queue.urge(f"{serial}", 10**6 + serial)

    for each in before:
        push(*each)
    for _ in range(pops):
        queue.pop_ready(0)
    ahead = queue._all()._lines[mine].count if mine in queue._all()._lines else 0
    queue.push("mine", 0, mine)
    bound = _bound(ahead, mine, weights)
    for pop in range(bound):
        if queue.pop_ready(0) == "mine":
            return
        for each in flood[pop % len(flood)] if flood else ():
            push(*each)
    raise AssertionError(f"still waiting after {bound} pops")


@settings(max_examples=40, deadline=None)
@given(
    flood=st.lists(st.lists(_WHO, min_size=1, max_size=6), min_size=1, max_size=20),
    weights=st.dictionaries(st.sampled_from(TENANTS), st.integers(1, 4)),
)
def test_a_near_deadline_gives_no_tenant_more_than_its_share(
    flood: list[list[tuple[str, str, str, bool]]], weights: dict[str, int]
) -> None:
    """While all tenants wait, each has its share of every stretch, but for the turns at its ends, whoever is urgent."""
    queue = queue_of(weights=Weights(weights))
    for tenant in TENANTS:
        for number in range(400):
            queue.push(f"{tenant} {number}", 0, line(tenant=tenant))
    served: Counter[str] = Counter()
    total = sum(weights.get(tenant, 1) for tenant in TENANTS)
    for pop in range(300):
        for _, tenant, stream, urgent in flood[pop % len(flood)]:
            id_ = f"{tenant} x{pop} {stream}"
            if urgent and id_ not in queue:
                queue.push(id_, 0, line(tenant=tenant, stream=stream))
                queue.urge(id_, 10**6 + pop)
        served[(queue.pop_ready(0) or "")[0]] += 1
        for tenant in TENANTS:
            fair = (pop + 1) * weights.get(tenant, 1) / total
            assert abs(served[tenant] - fair) <= 2 * total


class Queue(RuleBasedStateMachine):
    """The queue against the obvious: a dictionary that is searched."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = queue_of(weights=Weights({"b": 3}, {("a", "s"): 2}), every=4)
        self.model: dict[str, tuple[int, str, str]] = {}
        self.now = 0
        self.blocked: set[str] = set()

    def check(self, line: Line, _now_ns: int) -> Shut | None:
        if line.tenant not in self.blocked:
            return None
        return Shut(None, "directive", whole=line.tenant == "b")

    @rule(
        number=st.integers(0, 30),
        wait=st.integers(-5, 50),
        class_=st.sampled_from(CLASSES),
        tenant=st.sampled_from(TENANTS),
        stream=st.sampled_from(STREAMS),
    )
    def push(self, number: int, wait: int, class_: str, tenant: str, stream: str) -> None:
        line_ = line(class_, tenant, stream)
        self.queue.push(f"{number}", self.now + wait, line_, now_ns=self.now)
        self.model[f"{number}"] = (self.now + wait, class_, tenant)

    @rule(number=st.integers(0, 30))
    def urge(self, number: int) -> None:
        self.queue.urge(f"{number}", number)

    @rule(number=st.integers(0, 30))
    def remove(self, number: int) -> None:
        assert self.queue.remove(f"{number}") == (self.model.pop(f"{number}", None) is not None)

    @rule(blocked=st.sets(st.sampled_from(TENANTS), max_size=2))
    def block(self, blocked: set[str]) -> None:
        self.blocked = blocked
        self.queue.reopen(self.now)

    @rule(wait=st.integers(0, 20))
    def pop(self, wait: int) -> None:
        self.now += wait
        may = {
            id_
            for id_, (due, _, tenant) in self.model.items()
            if due <= self.now and tenant not in self.blocked
        }
        got = self.queue.pop_ready(self.now, self.check)
        assert (got in may) if may else got is None
        if got is not None:
            del self.model[got]
        else:
            later = [
                due
                for due, _, tenant in self.model.values()
                if due > self.now and tenant not in self.blocked
            ]
            assert self.queue.next_ns() <= min(later, default=FOREVER)

    @precondition(lambda self: self.model)
    @rule()
    def sweep(self) -> None:
        if self.queue._fair is not None:
            self.queue._fair._sweep()

    @invariant()
    def agree(self) -> None:
        assert len(self.queue) == len(self.model)
        counted = Counter(class_ for _, class_, _ in self.model.values())
        assert self.queue.counts() == dict(counted)
        for class_ in CLASSES:
            for tenant in TENANTS:
                mine = [1 for _, *who in self.model.values() if who == [class_, tenant]]
                assert self.queue.waiting(class_, tenant) == len(mine)


Queue.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestQueue: Callable[..., object] = Queue.TestCase
