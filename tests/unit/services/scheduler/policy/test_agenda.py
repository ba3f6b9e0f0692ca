"""An agenda gives each id at its time, whatever was put in, and holds nothing of those that left."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.scheduler.policy.agenda import Agenda

S = 1_000_000_000
ids = st.sampled_from([f"d{at}" for at in range(8)])


class Against(RuleBasedStateMachine):
    """Beside a dictionary of times."""

    def __init__(self) -> None:
        """Begin at a time that is not nought."""
        super().__init__()
        self.now = 1_000 * S
        self.times: dict[str, int] = {}
        self.agenda = Agenda(self.times.get, lambda ids: [id_ for id_ in ids if id_ in self.times])

    @rule(id_=ids, after=st.integers(0, 120 * S))
    def put(self, id_: str, after: int) -> None:
        if id_ in self.times:
            self.leave(id_)
        self.times[id_] = self.now + after
        self.agenda.add(self.now + after, id_)

    @rule(id_=ids)
    def leave(self, id_: str) -> None:
        if id_ in self.times:
            self.agenda.leave(self.times.pop(id_))

    @rule(passed=st.integers(0, 60 * S), most=st.integers(1, 30))
    def ask(self, passed: int, most: int) -> None:
        self.now += passed
        over = {id_ for id_, at in self.times.items() if at <= self.now}
        given_ = []
        for id_ in self.agenda.due(self.now, most):
            given_.append(id_)
            del self.times[id_]
        assert len(given_) == len(set(given_))
        assert set(given_) <= over
        if set(given_) != over:
            assert most <= 30, "only a portion was looked at"
            rest = self.agenda.next_ns()
            assert rest is not None
            assert rest <= self.now

    @invariant()
    def nobody_sleeps_too_long(self) -> None:
        if self.times:
            due = self.agenda.next_ns()
            assert due is not None
            assert due <= max(self.now, min(self.times.values()))


TestAgainst = Against.TestCase
TestAgainst.settings = settings(max_examples=40, stateful_step_count=30)


@given(st.integers(1, 40))
def test_of_a_million_that_are_due_together_a_portion_is_looked_at(most: int) -> None:
    asked: list[str] = []

    def time_of(id_: str) -> int:
        asked.append(id_)
        return 90 * S

    agenda = Agenda(time_of, list)
    for at in range(100):
        agenda.add(90 * S, str(at))
    given_: list[str] = []
    rounds = 0
    while len(given_) < 100:
        asked.clear()
        given_ += agenda.due(90 * S, most)
        rounds += 1
        assert len(asked) <= most
    assert len(set(given_)) == 100
    assert rounds <= 2 + 2 * 100 // most
    assert list(agenda.due(90 * S, most)) == []


def test_those_that_left_are_not_held_until_their_time() -> None:
    there: set[str] = set()
    agenda = Agenda(lambda _: 90 * S, lambda ids: [id_ for id_ in ids if id_ in there])
    for at in range(10_000):
        id_ = str(at)
        there.add(id_)
        agenda.add(90 * S, id_)
        if at >= 10:
            there.discard(str(at - 10))
            agenda.leave(90 * S)
    (bucket,) = agenda._buckets.values()
    assert len(bucket.ids) < 100
    assert set(bucket.ids) >= there
