"""Claims of hearsay: one warning spares the others theirs, a bad sibling slows nobody for long, and nobody is let above what was told."""

import itertools
import random
from bisect import bisect_right

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.policy import backoff, hearsay, limits
from services.scheduler.policy.entries import waiting
from services.scheduler.policy.learning import Answer, Learning
from services.scheduler.policy.meter import LONGEST_NS, Meter
from services.scheduler.policy.pair import Pair
from services.scheduler.policy.pairlimit import PairLimits
from services.scheduler.policy.pairs import Pairs
from services.scheduler.policy.pauses import Deferred
from services.scheduler.policy.room import Full, Room
from shared.protocol.control import ControlView
from shared.records.backoff import Allowance, Backoff, Hearsay
from shared.records.lanemap import propose
from shared.records.outcome import Outcome, Reply
from shared.records.state import Open
from shared.runtime import defaults
from shared.runtime.settings import Backoff as Rules
from shared.runtime.settings import Pool as SourcePool
from shared.runtime.settings import Provider, Settings, Source
from shared.runtime.warmups import Warmup
from shared.runtime.workings import Timing
from tests.unit.services.scheduler.policy.making import delivery
from tests.unit.services.scheduler.policy.slots import live
from tests.unit.services.scheduler.policy.test_ledger import START, S, make_settings

MINUTE = 60 * S
DAY = 86_400 * S
RULES = Rules()
RULES_FLOOR = limits.daily(RULES.floor)
#: As long as Apple asks to wait.
WINDOW = 15 * MINUTE


class Pool:
    """Some sources of a pool at a destination that asks to wait for fifteen minutes."""

    def __init__(self, count: int = 4, provider: str = "apple") -> None:
        self.provider = provider
        self.pairs = [Pair(provider, slot) for slot in range(count)]
        self.learning = Learning(RULES, Timing(), random.Random(1))
        self.limit = PairLimits(make_settings()).of("apple", 0, 0)
        self.now = START

    def answer(self, slot: int, outcome: Outcome, t0: int | None = None) -> list[int]:
        """Give the slots of the pairs that may do other than before."""
        others = [each for each in self.pairs if each.slot != slot]
        answer = Answer(
            self.provider,
            self.now if t0 is None else t0,
            outcome,
            lambda: (self.limit, self.limit),
            2 * S,
            lambda: others,
        )
        heard = self.learning.hear(self.pairs[slot], answer, self.now, list)
        return [each.slot for each in heard]

    def good(self, slot: int) -> list[int]:
        return self.answer(slot, Outcome(id="d", n=1, slot=slot, epoch=1, result="delivered"))

    def warn(self, slot: int, t0: int | None = None, said: Outcome | None = None) -> list[int]:
        return self.answer(slot, said or refused(slot), t0)

    def send(self, messages: int, *slots: int, seconds: int = 300) -> None:
        """Let each of the slots send so many, evenly."""
        for _ in range(messages):
            self.now += seconds * S // messages
            for slot in slots:
                self.good(slot)

    def told(self, slot: int) -> Hearsay | None:
        back = self.pairs[slot].backoff
        return back.hearsay if back else None

    def slowed(self) -> list[int]:
        return [each.slot for each in self.pairs if each.backoff and backoff.pace(each.backoff)]

    def until(self, slot: int) -> int:
        back = self.pairs[slot].backoff
        return (backoff.until_ns(back, self.now) if back else None) or self.now


def per_window(pace: Allowance | None) -> int:
    assert pace is not None
    return pace.level * WINDOW // DAY


def test_one_warning_slows_the_others_but_for_one_that_tries() -> None:
    pool = Pool()
    pool.send(300, 0, 1, 2, 3)
    pool.send(1, 2)
    changed = pool.warn(0)
    # The third did most, so it is the next to know.
    assert changed == [0, 1, 3, 2]
    assert pool.slowed() == [0, 1, 3]
    scout = pool.told(2)
    assert scout is not None
    assert scout.pace is None
    for slot in (1, 3):
        said = pool.told(slot)
        assert said is not None
        assert 285 <= per_window(said.pace) <= 300 * 0.97
        # What it has sent counts: until it has gone by, there is no room.
        assert START + WINDOW <= pool.until(slot) <= START + WINDOW + MINUTE
    told = [news for news in pool.learning.take() if news.kind == "slowed"]
    assert [(news.slot, bool(news.because)) for news in told] == [(0, False), (1, True), (3, True)]


def test_a_second_one_that_is_warned_at_the_same_level_confirms_it_for_all() -> None:
    pool = Pool()
    pool.send(300, 0, 1, 2, 3)
    pool.warn(0)
    pool.send(4, 1, seconds=2)
    assert pool.warn(1) == [1, 0, 2, 3]
    assert pool.slowed() == [0, 1, 2, 3]
    assert [pool.told(slot) is None for slot in range(4)] == [True, True, False, False]
    # Nobody tries it any more, whatever the others do.
    pool.now += 20 * MINUTE
    pool.send(2_000, 3)
    assert pool.slowed() == [0, 1, 2, 3]


def test_one_bad_source_slows_nobody_for_longer_than_another_takes_to_do_more() -> None:
    pool = Pool()
    pool.send(300, 0, 1, 2, 3)
    pool.warn(0)
    (scout,) = (slot for slot in (1, 2, 3) if slot not in pool.slowed())
    pool.send(55, scout, seconds=20)
    assert pool.slowed() != [0]
    pool.send(10, scout, seconds=4)
    assert pool.slowed() == [0]
    assert [pool.told(slot) for slot in (1, 2, 3)] == [None] * 3
    assert {news.slot for news in pool.learning.take() if news.kind == "resumed"} == {
        1,
        2,
        3,
    } - {scout}


def test_nobody_believes_what_one_of_them_has_disproved() -> None:
    pool = Pool()
    pool.send(200, 0, 1, 3)
    pool.send(400, 2, seconds=60)
    assert pool.warn(0) == [0]
    assert pool.slowed() == [0]


def test_a_warning_of_its_own_counts_more_than_what_others_were_told() -> None:
    pool = Pool()
    pool.send(300, 0, 1, 2, 3)
    pool.warn(0)
    pool.warn(3, pool.now - S)
    back = pool.pairs[3].backoff
    assert back is not None
    assert back.hearsay is None
    assert back.pace is not None
    # What it did itself when it was granted, not what it heard of in the meantime.
    assert back.pace.hurt >= 299 * DAY // WINDOW


def test_the_memories_of_a_pool_end_one_after_the_other_and_the_first_renews_the_rest() -> None:
    pool = Pool()
    pool.send(300, 0, 1, 2, 3)
    pool.warn(0)
    pool.warn(1)
    pool.warn(2)
    ends = []
    for each in pool.pairs:
        assert each.backoff is not None
        pace = backoff.pace(each.backoff)
        assert pace is not None
        ends.append(pace.careful_ns)
    ends.sort()
    assert all(after - before >= 10 * MINUTE for before, after in itertools.pairwise(ends))
    pool.now = ends[0] + 30 * MINUTE
    first = next(each.slot for each in pool.pairs if _careful(each) == ends[0])
    pool.send(310, first, seconds=290)
    pool.warn(first)
    for each in pool.pairs:
        assert _careful(each) > pool.now
        if each.slot != first:
            assert per_window(backoff.pace(each.backoff or Backoff())) <= 300


#: Which slot; is it warned, and of what; how many it sends before, in how many minutes.
Plays = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["", "", "rate", "rate", "connections", "ptr"]),
        st.integers(0, 120),
        st.integers(1, 20),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=50)
@given(Plays)
def test_whatever_comes_one_tries_at_most_and_nobody_is_let_above_what_was_told(
    plays: list[tuple[int, str, int, int]],
) -> None:
    pool = Pool()
    pool.send(60, 0, 1, 2, 3, seconds=60)
    for slot, category, messages, minutes in plays:
        if messages:
            pool.send(messages, slot, seconds=60 * minutes)
        else:
            pool.now += minutes * MINUTE
        if category:
            pool.warn(slot, said=refused(slot, "no", category))
        backs = [each.backoff for each in pool.pairs if each.backoff is not None]
        told = [each.hearsay for each in backs if each.hearsay is not None]
        assert all(each.pace is None for each in backs if each.hearsay is not None)
        assert sum(each.pace is None for each in told) <= 1
        for each in told:
            if each.pace is not None and pool.now < each.pace.careful_ns:
                assert each.pace.level <= max(1, each.hurt * 97 // 100, RULES_FLOOR)
                assert each.until_ns <= each.heard_ns + 2 * LONGEST_NS


def test_a_warning_of_something_else_leaves_what_was_heard() -> None:
    pool = Pool()
    pool.send(300, 0, 1, 2, 3)
    pool.warn(0)
    before = pool.told(3)
    assert before is not None
    pool.warn(3, said=refused(3, "no", "connections"))
    assert pool.told(3) == before


def _careful(pair: Pair) -> int:
    assert pair.backoff is not None
    pace = backoff.pace(pair.backoff)
    assert pace is not None
    return pace.careful_ns


def test_a_source_that_falls_below_what_it_was_told_before_slows_only_itself() -> None:
    pool = Pool()
    pool.send(300, 0, 1, 2, 3)
    pool.warn(0)
    pool.warn(1)
    levels = [pair.backoff and backoff.pace(pair.backoff) for pair in pool.pairs]
    pool.now += 20 * MINUTE
    pool.send(100, 0)
    pool.warn(0)
    assert [pair.backoff and backoff.pace(pair.backoff) for pair in pool.pairs[1:]] == levels[1:]


Sent = st.lists(st.tuples(st.integers(0, 120), st.integers(3, 60)), min_size=1, max_size=30)


@given(Sent, st.integers(1, 60), st.integers(20, 400), st.integers(0, 30))
def test_what_goes_on_evenly_never_makes_a_window_fuller_than_it_may_be(
    spans: list[tuple[int, int]], minutes: int, most: int, open_: int
) -> None:
    meter, now, came = Meter(), START, list[int]()
    for pause, count in spans:
        now += pause * 10 * S
        for _ in range(count):
            meter.add(now)
            came.append(now)
        now += 10 * S
    window = minutes * MINUTE
    free = meter.room_ns(now, window, most, open_)
    assert free >= now
    came += [now] * open_
    # What is under way ends now; from when there is room one goes after the other.
    went = [*came, *(free + number * window // most for number in range(2 * most))]
    # Of a span that began within a second one, some are kept as if they had come in the next.
    late = 10 * S
    for number, last in enumerate(went[len(came) :], len(came)):
        assert number + 1 - bisect_right(went, last - window + late) <= most + 1


def test_room_is_at_once_where_nothing_was_done_and_not_later_than_it_takes() -> None:
    meter = Meter()
    assert meter.room_ns(START, WINDOW, 100, 0) == START
    for at in range(100):
        meter.add(START + at * S)
    free = meter.room_ns(START + 100 * S, WINDOW, 100, 0)
    assert START + WINDOW <= free <= START + WINDOW + 30 * S
    assert meter.room_ns(START + 2 * WINDOW, WINDOW, 100, 0) == START + 2 * WINDOW


Hears = st.builds(
    Hearsay,
    hurt=st.integers(1, 10**6),
    window_ns=st.sampled_from([MINUTE, WINDOW]),
    heard_ns=st.integers(START, START + DAY),
    pace=st.none()
    | st.builds(
        Allowance,
        level=st.integers(1, 10**6),
        hurt=st.integers(1, 10**6),
        careful_ns=st.integers(START, START + DAY),
        memory_ns=st.integers(MINUTE, DAY),
        raised_ns=st.integers(START, START + DAY),
    ),
    until_ns=st.integers(0, START + DAY),
)
Backs = st.builds(
    Backoff,
    hearsay=st.none() | Hears,
    pace=st.none()
    | st.just(
        Allowance(
            level=5, hurt=10, careful_ns=START + 9, memory_ns=MINUTE, raised_ns=START, plateau=970
        )
    ),
)


@given(Backs, Backs)
def test_two_deciders_join_what_they_know_to_the_more_careful(one: Backoff, other: Backoff) -> None:
    joined = backoff.stricter(one, other)
    assert joined == backoff.stricter(other, one)
    assert backoff.stricter(joined, joined) == joined
    told = [pace.level for each in (one, other) if (pace := each.pace) is not None]
    heard = [
        each.hearsay.pace.level
        for each in (one, other)
        if each.hearsay is not None and each.hearsay.pace is not None
    ]
    # What it was told itself is what counts, where it was told anything.
    least = min(told or heard, default=None)
    pace = backoff.pace(joined)
    assert (None if pace is None else pace.level) == least
    if joined.hearsay is not None:
        match backoff.may_grant(joined, START, 0):
            case Deferred(until_ns=until):
                assert until == joined.hearsay.until_ns
            case _:
                assert joined.hearsay.until_ns <= START


@given(Backs)
def test_what_is_heard_is_kept_as_it_is(back: Backoff) -> None:
    assert msgspec.json.decode(msgspec.json.encode(back), type=Backoff) == back


def test_old_records_know_nothing_of_it() -> None:
    assert msgspec.json.decode(b'{"mark_ns":1}', type=Backoff).hearsay is None


def test_it_is_forgotten_as_a_warning_is() -> None:
    back = Backoff(hearsay=Hearsay(hurt=10, window_ns=WINDOW, heard_ns=START))
    assert not backoff.forgotten(back, START + RULES.forget_ns - 1, RULES)
    assert backoff.forgotten(back, START + RULES.forget_ns, RULES)


def test_sources_of_another_pool_or_slot_group_are_no_siblings() -> None:
    configured = make_settings()
    for source in configured.sources.values():
        found = {configured.source_name(slot) for slot in hearsay.mates(configured, source.slot)}
        pools = [
            set(pool.sources) for pool in configured.pools.values() if source.name in pool.sources
        ]
        assert found == set().union(*pools) - {source.name}
    assert hearsay.mates(configured, 99) == []


@pytest.mark.parametrize(
    ("provider", "text", "spread"),
    [
        ("yahoo", "[TSS04] Messages from 192.0.2.1 temporarily deferred", True),
        # Of the source, or of its reputation, and not of how much it sent.
        ("yahoo", "[BL21] Connections will not be accepted from 192.0.2.1", False),
        ("gmail", "very low reputation of the sending IP", False),
    ],
)
def test_a_suspension_says_something_of_others_only_where_it_is_for_volume(
    provider: str, text: str, *, spread: bool
) -> None:
    pool = Pool(provider=provider)
    pool.send(300, 0, 1, 2, 3)
    pool.warn(0, said=refused(0, text, "block"))
    assert len(pool.slowed()) == (3 if spread else 1)


def four(view: ControlView) -> Pairs:
    """Three warm sources and one that is being warmed up, all of one pool."""
    sources = {
        f"ip-{at}": Source(
            f"ip-{at}",
            at,
            "bind",
            "none" if at < 3 else "slow",
            ehlo=f"m{at}.example.com",
            address=f"192.0.2.{at + 1}",
        )
        for at in range(4)
    }
    configured = Settings(
        sources=sources,
        pools={"main": SourcePool("main", dict.fromkeys(sources, 1))},
        providers={"apple": Provider("apple", (".apple.example",))},
        limits=defaults.LIMITS,
        warmups={"slow": Warmup("slow", (1_000, 2_000), hours=2)},
    )
    return Pairs(configured, view, random.Random(1))


def test_what_one_source_is_told_is_written_for_the_others_and_goes_with_the_lane() -> None:
    view = ControlView()
    lane_map = propose(1, 1, {"apple": Provider("apple", (".apple.example",))}, [])
    view.feed(view.position, START, lane_map)
    epochs = [live(view, slot, START) for slot in range(4)]
    pairs = four(view)
    entry = waiting(delivery("d", START, DAY, provider="apple"), "bulk", 0)
    for at in range(400):
        now = START + at * S
        for slot in range(4):
            out = Open(n=1, slot=slot, epoch=epochs[slot], t0_ns=now, t1_ns=now + MINUTE)
            said = Outcome(id="d", n=1, slot=slot, epoch=epochs[slot], result="delivered")
            pairs.hear(entry, "apple", out, said, now)
    pairs.take()
    now = START + 400 * S
    out = Open(n=1, slot=0, epoch=epochs[0], t0_ns=now, t1_ns=now + MINUTE)
    assert pairs.hear(entry, "apple", out, refused(0), now)
    written = {record.slot: record for record in pairs.take()[0]}
    assert {slot for slot, record in written.items() if record.backoff} == {0, 1, 2}
    restored, taken_over = four(view), four(view)
    for record in written.values():
        restored.restore(record)
    taken_over.merge(*pairs.of_lane(lane_map.lane_of("apple", 0), lane_map, now))
    for slot in range(4):
        answers = {
            str(each.room("apple", "apple", slot, epochs[slot], now + 20 * S))
            for each in (pairs, restored, taken_over)
        }
        assert len(answers) == 1, answers
    # The third did no more than the second, so that one is the scout, and only the third waits.
    found = pairs.room("apple", "apple", 2, epochs[2], now)
    assert isinstance(found, Full)
    assert found.why == "suspended"
    assert isinstance(pairs.room("apple", "apple", 1, epochs[1], now), Room)


def refused(slot: int, text: str = "excessive volume", category: str = "rate") -> Outcome:
    reply = Reply(code=421, enhanced="4.7.1", text=text, stage="mail")
    return Outcome(
        id="d",
        n=1,
        slot=slot,
        epoch=1,
        result="pair_failed",
        category=category,
        scope="pair",
        reply=reply,
    )
