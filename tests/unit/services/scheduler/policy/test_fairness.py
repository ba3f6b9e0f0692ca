"""Claims of the queue: order, shares, and the bound on waiting."""

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.scheduler.policy.fairness import SHARES, DueQueue

CLASSES = ("transactional", "bulk")
TENANTS = ("a", "b", "c")


def drain(queue: DueQueue, now: int = 0) -> list[str]:
    found = []
    while (each := queue.pop_ready(now)) is not None:
        found.append(each)
    return found


def test_nothing_is_given_before_it_is_due() -> None:
    queue = DueQueue()
    queue.push("x", 100, "bulk", "a")
    assert queue.pop_ready(99) is None
    assert queue.next_due() == 100
    assert queue.pop_ready(100) == "x"
    assert queue.next_due() is None


def test_a_tenants_deliveries_come_in_the_order_of_their_due_times() -> None:
    queue = DueQueue()
    for due in (30, 10, 20):
        queue.push(f"at {due}", due, "bulk", "a")
    assert drain(queue, 30) == ["at 10", "at 20", "at 30"]


def test_equal_due_times_keep_the_order_of_arrival() -> None:
    queue = DueQueue()
    for number in range(50):
        queue.push(f"{number}", 0, "bulk", "a")
    assert drain(queue) == [f"{number}" for number in range(50)]


def test_a_tenant_with_one_delivery_does_not_wait_for_one_with_thousands() -> None:
    queue = DueQueue()
    for number in range(1_000):
        queue.push(f"big {number}", 0, "bulk", "big")
    queue.push("small", 0, "bulk", "small")
    assert "small" in [queue.pop_ready(0) for _ in range(2)]


def test_transactional_goes_first_and_bulk_still_moves() -> None:
    queue = DueQueue()
    for number in range(400):
        queue.push(f"t{number}", 0, "transactional", "a")
        queue.push(f"b{number}", 0, "bulk", "a")
    first = [queue.pop_ready(0) for _ in range(170)]
    bulk = sum(1 for each in first if each is not None and each[0] == "b")
    assert 8 <= bulk <= 11


def test_a_class_that_had_nothing_is_owed_nothing() -> None:
    queue = DueQueue()
    for number in range(300):
        queue.push(f"t{number}", 0, "transactional", "a")
    for _ in range(200):
        queue.pop_ready(0)
    for number in range(50):
        queue.push(f"b{number}", 0, "bulk", "a")
    first = [queue.pop_ready(0) for _ in range(34)]
    assert sum(1 for each in first if each is not None and each[0] == "b") <= 3


def test_a_blocked_tenant_waits_and_the_others_do_not() -> None:
    queue = DueQueue()
    queue.push("a1", 0, "bulk", "a")
    queue.push("b1", 0, "bulk", "b")
    assert queue.pop_ready(0, {"a"}) == "b1"
    assert queue.pop_ready(0, {"a"}) is None
    assert len(queue) == 1
    assert queue.pop_ready(0) == "a1"


def test_what_is_not_due_still_has_a_time_while_a_blocked_tenant_waits() -> None:
    queue = DueQueue()
    queue.push("a1", 0, "bulk", "a")
    queue.push("b1", 50, "bulk", "b")
    assert queue.pop_ready(0, {"a"}) is None
    assert queue.next_due() == 50


def test_counts_and_age_follow() -> None:
    queue = DueQueue()
    queue.push("x", 5, "bulk", "a")
    queue.push("y", 7, "transactional", "a")
    queue.push("z", 90, "bulk", "b")
    assert queue.counts() == {"bulk": 2, "transactional": 1}
    assert queue.oldest_due() is None
    assert queue.pop_ready(8) == "y"
    assert queue.oldest_due() == 5


def test_removed_deliveries_leave_no_memory() -> None:
    queue = DueQueue()
    queue.push("stays", 10**9, "bulk", "a")
    for number in range(20_000):
        queue.push(f"{number}", 10**9 + number, "bulk", f"t{number % 100}")
        queue.remove(f"{number}")
    assert len(queue._later) < 3_000
    assert list(queue._lines) == [("bulk", "a")]
    assert drain(queue, 2 * 10**9) == ["stays"]


Push = tuple[str, str, int]


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from(TENANTS)), max_size=40),
    st.sampled_from(CLASSES),
    st.sampled_from(TENANTS),
    st.lists(
        st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from(TENANTS)), max_size=4),
        max_size=400,
    ),
)
def test_no_delivery_waits_longer_than_the_bound(
    before: list[tuple[str, str]], class_: str, tenant: str, flood: list[list[tuple[str, str]]]
) -> None:
    """Whatever others push between two pops, a ready delivery is given within the bound."""
    queue = DueQueue()
    for number, (each, who) in enumerate(before):
        queue.push(f"before {number}", 0, each, who)
    queue.push("mine", 0, class_, tenant)
    ahead = sum(1 for each in before if each == (class_, tenant))
    share, all_shares = SHARES[class_], sum(SHARES.values())
    bound = -(-(ahead + 1) * len(TENANTS) * all_shares // share) + len(CLASSES)
    given = ""
    for pops in range(1, bound + 1):
        given = queue.pop_ready(0) or ""
        if given == "mine":
            break
        for number, (each, who) in enumerate(
            flood[pops] if pops < len(flood) else [("transactional", "b"), ("bulk", "c")]
        ):
            queue.push(f"flood {pops} {number}", 0, each, who)
    assert given == "mine", f"still waiting after {bound} pops"


class Queue(RuleBasedStateMachine):
    """The queue against the obvious: a dictionary that is searched."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = DueQueue()
        self.model: dict[str, tuple[int, str, str]] = {}
        self.now = 0

    @rule(
        number=st.integers(0, 30),
        wait=st.integers(-5, 50),
        class_=st.sampled_from(CLASSES),
        tenant=st.sampled_from(TENANTS),
    )
    def push(self, number: int, wait: int, class_: str, tenant: str) -> None:
        self.queue.push(f"{number}", self.now + wait, class_, tenant)
        self.model[f"{number}"] = (self.now + wait, class_, tenant)

    @rule(number=st.integers(0, 30))
    def remove(self, number: int) -> None:
        assert self.queue.remove(f"{number}") == (self.model.pop(f"{number}", None) is not None)

    @rule(wait=st.integers(0, 20), blocked=st.sets(st.sampled_from(TENANTS), max_size=2))
    def pop(self, wait: int, blocked: set[str]) -> None:
        self.now += wait
        may = {
            id_
            for id_, (due, _, tenant) in self.model.items()
            if due <= self.now and tenant not in blocked
        }
        got = self.queue.pop_ready(self.now, blocked)
        assert (got in may) if may else got is None
        if got is not None:
            del self.model[got]

    @precondition(lambda self: self.model)
    @rule()
    def sweep(self) -> None:
        self.queue._sweep()

    @invariant()
    def agree(self) -> None:
        assert len(self.queue) == len(self.model)
        counted: dict[str, int] = {}
        for _, class_, _ in self.model.values():
            counted[class_] = counted.get(class_, 0) + 1
        assert self.queue.counts() == counted
        later = [due for due, _, _ in self.model.values() if due > self.queue._now_ns]
        assert self.queue.next_due() == min(later, default=None)


TestQueue: Callable[..., object] = Queue.TestCase
