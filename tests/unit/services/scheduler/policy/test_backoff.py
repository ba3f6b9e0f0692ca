"""Claims of the back-off: never earlier than it should, one reaction a burst, bounded, and everything comes back."""

import random
from dataclasses import dataclass, field

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.policy import backoff
from services.scheduler.policy.backoff import Heard
from services.scheduler.policy.pauses import Allowed, Deferred
from services.scheduler.policy.reaction import Caution, Fewer, Slow, Suspend
from shared.records.backoff import NO_BACKOFF, Backoff, Hearsay
from shared.runtime.settings import Backoff as Rules

S = 1_000_000_000
MINUTE = 60 * S
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 1_700_000_000 * S
HORIZON = 2 * S
RULES = Rules()
CONNECTIONS = 8

Cautions = st.sampled_from(
    [
        Slow(),
        Slow(10 * MINUTE, 1),
        Slow(15 * MINUTE),
        Slow(lasts=True),
        Fewer(),
        Suspend(),
        Suspend(2 * HOUR),
        Suspend(slower=False),
    ]
)
#: (what is heard; None: a good answer), how long after the last, is it of an attempt granted before the last reaction.
Events = st.lists(
    st.tuples(st.one_of(st.none(), Cautions), st.integers(0, 3 * HOUR), st.booleans()), max_size=8
)


@dataclass
class World:
    """One pair, from the side of whoever grants."""

    limit: int | None = None
    seed: int = 1
    now: int = START
    back: Backoff = NO_BACKOFF
    rng: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    @property
    def rate(self) -> int | None:
        pace = self.back.pace
        found = [each for each in (self.limit, pace.level if pace else None) if each is not None]
        return min(found, default=None)

    @property
    def connections(self) -> int:
        few = self.back.connections
        return min(CONNECTIONS, few.level) if few else CONNECTIONS

    def heard(self, t0: int, did: int, counted: int | None, *, measured: bool) -> Heard:
        return Heard(
            now_ns=self.now,
            t0_ns=t0,
            did=did,
            measured=measured,
            counted=counted,
            rate=self.rate,
            limit=self.limit,
            connections=self.connections,
            open=CONNECTIONS,
            horizon_ns=HORIZON,
        )

    def warn(
        self,
        caution: Caution,
        t0: int | None = None,
        *,
        did: int = 0,
        measured: bool = False,
        counted: int | None = None,
    ) -> str:
        heard = self.heard(self.now if t0 is None else t0, did, counted, measured=measured)
        self.back, news = backoff.on_warning(self.back, caution, heard, RULES, self.rng)
        return news

    def good(self, t0: int | None = None, did: int | None = None) -> bool:
        """Take a good answer of a pair that does ``did`` messages a day; None: all that it may."""
        did = (self.rate or 1) if did is None else did
        self.back, resumed = backoff.on_good(
            self.back, self.now if t0 is None else t0, self.now, RULES.step_ns, did
        )
        return resumed

    def go_on(self) -> None:
        """Wait until something is granted."""
        until = backoff.until_ns(self.back, self.now)
        self.now = until if until is not None else self.now

    def play(self, events: list[tuple[Caution | None, int, bool]]) -> None:
        for caution, wait, old in events:
            self.now += wait
            if not old:
                self.go_on()
            t0 = min(self.now, self.back.mark_ns) if old else max(self.now, self.back.mark_ns + 1)
            self.good(t0) if caution is None else self.warn(caution, t0)


def asked_ns(caution: Caution) -> int:
    match caution:
        case Slow(hold_ns=hold):
            return RULES.hold_ns if hold is None else hold
        case Suspend(first_ns=first):
            return RULES.suspend_first_ns if first is None else first
        case Fewer():
            return HORIZON


@given(Events, Cautions, st.integers(0, 2**32))
def test_it_never_resumes_before_what_a_warning_asks_for(
    events: list[tuple[Caution | None, int, bool]], caution: Caution, seed: int
) -> None:
    world = World(seed=seed)
    world.play(events)
    world.go_on()
    world.warn(caution)
    heard = world.now
    # Whatever else is heard meanwhile, good or bad, of attempts that were under way.
    for each in (None, Slow(), Fewer(), Suspend(), None):
        world.good(heard) if each is None else world.warn(each, heard)
    for at in (heard, heard + asked_ns(caution) // 2, heard + asked_ns(caution) - 1):
        assert isinstance(backoff.may_grant(world.back, at, 0), Deferred)
    # No grant after a reaction can be taken for one before it.
    first = backoff.until_ns(world.back, heard)
    assert first is not None
    assert first >= world.back.mark_ns or first >= heard + HORIZON


@given(Events, Cautions, st.booleans(), st.integers(1, 10**8), st.booleans())
def test_a_warning_never_gives_a_higher_rate_or_more_connections(
    events: list[tuple[Caution | None, int, bool]],
    caution: Caution,
    old: bool,
    did: int,
    measured: bool,
) -> None:
    for limit in (None, 10_000):
        world = World(limit)
        world.play(events)
        rate, connections = world.rate, world.connections
        t0 = world.back.mark_ns if old else world.now + DAY
        world.warn(caution, t0, did=did, measured=measured)
        assert rate is None or (world.rate is not None and world.rate <= rate)
        assert world.connections <= connections


@given(Events, Cautions, st.lists(st.integers(0, MINUTE), max_size=20))
def test_a_burst_counts_once(
    events: list[tuple[Caution | None, int, bool]], caution: Caution, waits: list[int]
) -> None:
    """Replies to what was under way make no cut, no step of a suspension, no doubled wait."""
    world = World(500_000)
    world.play(events)
    world.go_on()
    world.now = max(world.now, world.back.mark_ns + 1)
    world.warn(caution)
    first, at = world.back, world.now
    for wait in waits:
        world.now += wait
        assert world.warn(caution, at + HORIZON) == ""
    assert world.back.pace == first.pace
    assert world.back.connections == first.connections
    assert world.back.held_ns == first.held_ns
    if first.suspension is not None and world.back.suspension is not None:
        assert world.back.suspension.length_ns == first.suspension.length_ns


def test_a_graver_reply_of_the_same_burst_is_heard() -> None:
    world = World()
    assert world.warn(Slow()) == "slowed"
    pace = world.back.pace
    world.now += S
    assert world.warn(Suspend(2 * HOUR), START) == "suspended"
    assert world.back.pace == pace
    assert world.warn(Slow(), START) == ""
    until = backoff.until_ns(world.back, world.now)
    assert until is not None
    assert until >= START + 2 * HOUR


@given(Events, st.integers(0, 2**32))
def test_every_wait_is_bounded(events: list[tuple[Caution | None, int, bool]], seed: int) -> None:
    world = World(seed=seed)
    for event in events:
        world.play([event])
        until = backoff.until_ns(world.back, world.now)
        assert until is None or until - world.now <= 1.1 * RULES.suspend_max_ns
        assert world.rate is None or world.rate >= 1
        assert world.connections >= 1


@given(Events, st.sampled_from([None, 1, 1_200, 10**6]))
def test_good_answers_bring_everything_back_within_two_days(
    events: list[tuple[Caution | None, int, bool]], limit: int | None
) -> None:
    world = World(limit)
    world.play(events)
    world.go_on()
    world.now = max(world.now, world.back.mark_ns + 1)
    for _ in range(RULES.probes):
        assert isinstance(backoff.may_grant(world.back, world.now, 0), Allowed)
        world.good()
        world.now += MINUTE
    assert backoff.may_grant(world.back, world.now, 1_000) == Allowed()
    end = world.now + DAY
    while world.now < end:
        world.good()
        world.now += 10 * MINUTE
    assert backoff.forgotten(world.back, world.now + DAY, RULES)


@given(st.integers(0, 3), st.booleans())
def test_a_rate_of_which_little_is_used_does_not_rise(shrunk: int, heard: bool) -> None:
    """A trickle between two campaigns says nothing of what the destination takes in one: the level that hurt is as well known after it."""
    world = World()
    world.warn(Slow(), did=8_640_000, measured=True)
    assert world.back.pace is not None
    level = world.back.pace.level
    if heard:
        said = Hearsay(hurt=level, window_ns=MINUTE, heard_ns=START, pace=world.back.pace)
        world.back = Backoff(hearsay=said)
    world.now += 10 * MINUTE
    for _ in range(12 * 60):
        world.good(did=level // 2 - 1 - shrunk * level // 10)
        world.now += MINUTE
    pace = backoff.pace(world.back)
    assert pace is not None
    assert pace.level == level
    world.good(did=level // 2 + 1)
    pace = backoff.pace(world.back)
    assert pace is not None
    assert pace.level > level


def test_suspensions_double_and_are_probed_one_at_a_time() -> None:
    world, lengths = World(), []
    for _ in range(9):
        world.now = max(world.now, world.back.mark_ns + 1)
        assert world.warn(Suspend()) == "suspended"
        until = backoff.until_ns(world.back, world.now)
        assert until is not None
        lengths.append(until - world.now)
        assert backoff.may_grant(world.back, until - 1, 0) == Deferred(until)
        assert backoff.may_grant(world.back, until, 0) == Allowed()
        assert backoff.may_grant(world.back, until, 1) == Deferred(None)
        world.now = until
    planned = [15, 30, 60, 120, 240, 480, 960, 1440, 1440]
    for length, minutes in zip(lengths, planned, strict=True):
        assert minutes * MINUTE <= length <= 1.1 * minutes * MINUTE
    assert [world.good() for _ in range(4)] == [False, False, True, False]
    assert backoff.may_grant(world.back, world.now, 50) == Allowed()
    assert world.connections == 1
    # It is not forgotten with the probes: the next one goes on where the last was.
    world.now += MINUTE
    world.warn(Suspend())
    until = backoff.until_ns(world.back, world.now)
    assert until is not None
    assert until - world.now >= DAY


def test_a_stop_is_longer_where_nothing_was_taken_since_the_last() -> None:
    world, lengths = World(), []
    for good in (False, False, False, True):
        world.go_on()
        world.now += 3 * S
        if good:
            world.good()
        world.warn(Slow())
        lengths.append(world.back.held_ns // MINUTE)
    assert lengths == [1, 2, 4, 1]


def test_the_rate_is_cut_by_what_the_pair_did_and_without_a_limit_too() -> None:
    for limit, did, left in (
        (None, 86_400, 43_200),
        (10**6, 86_400, 43_200),
        (10_000, 86_400, 5_000),
    ):
        world = World(limit)
        world.warn(Slow(), did=did, measured=True)
        assert world.rate == left
    # Few answers say nothing about the rate: then what was allowed is cut.
    world = World(10_000)
    world.warn(Slow(), did=8_640, measured=False)
    assert world.rate == 5_000
    world = World(None)
    world.warn(Slow(), did=8_640, measured=False)
    assert world.rate == 4_320


def test_what_was_counted_over_the_wait_is_what_hurt_and_is_approached_closely() -> None:
    """Ten minutes' quota, sent in two: the rate of the seconds would be five times of what is taken."""
    world = World()
    world.warn(Slow(10 * MINUTE), did=7_200_000, measured=True, counted=1_440_000)
    pace = world.back.pace
    assert pace is not None
    assert (pace.hurt, pace.level, pace.plateau) == (1_440_000, 720_000, 970)
    world.go_on()
    for _ in range(40):
        world.now += MINUTE
        world.good()
    assert world.rate == 1_440_000 * 97 // 100


def test_what_was_counted_never_cuts_to_nothing_and_never_gives_more_than_what_was_measured() -> (
    None
):
    for counted, hurt in ((14_400, 90_000), (720_000, 720_000), (900_000, 720_000)):
        world = World()
        world.warn(Slow(), did=720_000, measured=True, counted=counted)
        assert world.back.pace is not None
        assert world.back.pace.hurt == hurt


def test_a_reputation_that_has_suffered_is_remembered_for_a_day_and_not_tried() -> None:
    world = World()
    world.warn(Slow(lasts=True), did=86_400, measured=True)
    world.go_on()
    for _ in range(20 * 60):
        world.now += MINUTE
        world.good()
    assert world.rate == 86_400 * 725 // 1000


def test_a_rate_is_cut_to_the_floor_and_no_further() -> None:
    for limit, floor in ((None, 1_440), (10**6, 1_440), (1_600, 100)):
        world = World(limit)
        for _ in range(40):
            world.go_on()
            world.now += 3 * S
            world.warn(Slow())
        assert world.rate == floor


def test_the_steps_up_begin_when_the_stop_or_the_suspension_is_over() -> None:
    for caution in (Slow(10 * MINUTE, 1), Suspend()):
        world = World()
        world.warn(caution)
        world.go_on()
        for _ in range(RULES.probes):
            world.good()
        assert (world.connections, world.rate) == (1, 1_440)
        world.now += RULES.step_ns
        world.good()
        assert world.connections == 2


def test_too_many_connections_are_halved_by_what_was_open_and_nothing_stops_for_long() -> None:
    world = World()
    assert world.warn(Fewer()) == "slowed"
    assert (world.connections, world.rate) == (4, None)
    assert backoff.until_ns(world.back, world.now) == world.now + HORIZON


def test_an_unprobed_suspension_is_not_forgotten() -> None:
    world = World()
    world.warn(Suspend())
    assert not backoff.forgotten(world.back, START + 30 * DAY, RULES)
    assert backoff.may_grant(world.back, START + 30 * DAY, 1) == Deferred(None)


@given(Events, Events)
def test_two_deciders_join_to_the_more_careful(
    left: list[tuple[Caution | None, int, bool]], right: list[tuple[Caution | None, int, bool]]
) -> None:
    one, other = World(seed=1), World(seed=2)
    one.play(left)
    other.play(right)
    joined = backoff.stricter(one.back, other.back)
    assert joined == backoff.stricter(other.back, one.back)
    at = max(one.now, other.now)
    for back in (one.back, other.back):
        for when in (at, at + MINUTE, at + HOUR, at + DAY):
            if isinstance(backoff.may_grant(back, when, 1), Deferred):
                assert isinstance(backoff.may_grant(joined, when, 1), Deferred)
        assert back.pace is None or (joined.pace and joined.pace.level <= back.pace.level)
        assert joined.mark_ns >= back.mark_ns


@given(Events)
def test_every_state_survives_its_record(events: list[tuple[Caution | None, int, bool]]) -> None:
    world = World()
    world.play(events)
    assert msgspec.json.decode(msgspec.json.encode(world.back), type=Backoff) == world.back


@settings(max_examples=30)
@given(st.integers(2, 400))
def test_a_fixed_limit_is_found_with_few_warnings_however_low_it_is(limit: int) -> None:
    """Rates below what the meter can measure too: what hurts is then the level that was in force."""
    world, warnings, below = World(), 0, 0
    world.warn(Slow(), did=600 * 1_440, measured=True)
    for _ in range(1_000):
        world.go_on()
        world.now += MINUTE
        world.good()
        level = world.rate
        assert level is not None
        if level > limit * 1_440:
            warnings += 1
            world.warn(Slow())
        elif level < limit * 1_440 // 2:
            below += 1
    assert warnings <= 16
    assert below <= 200
