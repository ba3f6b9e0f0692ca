"""A pair: its turns, by a clock that only sleeping moves; its connections; when it is forgotten."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from services.sender.attempt import AttemptGate
from services.sender.ownership import Now, SlotOwner
from services.sender.pair import Job, Pair, Turns, Worked
from shared.protocol.spacing import WireLimiter
from tests.support.grants import grant

S = 1_000_000_000


@dataclass
class Sleeper:
    """Time goes on while somebody sleeps, and by what a step is said to take."""

    at_ns: int = 0
    slept: list[float] = field(default_factory=list)

    def now_ns(self) -> int:
        return self.at_ns

    def mono_ns(self) -> int:
        return self.at_ns

    async def sleep(self, seconds: float) -> None:
        self.at_ns += round(seconds * 1_000_000_000)
        self.slept.append(seconds)
        await asyncio.sleep(0)


@dataclass
class Door:
    """Lets everybody through who comes, and knows who came, and when."""

    open: bool = True
    came: list[tuple[int, int]] = field(default_factory=list)

    def ask(self, now: Now, who: int = 0) -> bool:
        self.came.append((now.mono_ns, who))
        return self.open


def always(now: Now) -> bool:
    return True


def turns(interval_ns: int, burst: int = 1) -> tuple[Turns, Sleeper]:
    clock = Sleeper()
    return Turns(WireLimiter(interval_ns, burst, 0), clock), clock


@given(st.integers(1, 10**10), st.integers(1, 5), st.lists(st.integers(0, 10**10), max_size=20))
async def test_whoever_asks_when_the_turns_of_any_stretch_are_as_many_as_the_rate_allows(
    interval_ns: int, burst: int, pauses: list[int]
) -> None:
    line, clock = turns(interval_ns, burst)
    door = Door()

    async def one() -> None:
        assert await line.next(door.ask, always)

    waiting = []
    for pause in pauses:
        clock.at_ns += pause
        waiting.append(asyncio.ensure_future(one()))
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    went = [at for at, _ in door.came]
    assert len(went) == len(pauses)
    for first, last in ((a, b) for b in range(len(went)) for a in range(b)):
        # burst + k tokens span at least k intervals.
        assert went[last] - went[first] >= (last - first + 1 - burst) * interval_ns


async def test_turns_come_in_the_order_of_asking() -> None:
    line, _ = turns(100)
    door = Door()
    await asyncio.gather(*(line.next(partial(door.ask, who=at), always) for at in range(5)))
    assert [who for _, who in door.came] == [0, 1, 2, 3, 4]


async def test_who_may_not_go_when_its_turn_comes_spends_nothing() -> None:
    line, clock = turns(1_000)
    assert not await line.next(Door(open=False).ask, always)
    first = clock.at_ns
    assert await line.next(Door().ask, always)
    assert clock.at_ns == first


async def test_nobody_waits_for_a_turn_that_it_may_no_longer_take() -> None:
    line, clock = turns(60 * S)
    door = Door()
    assert not await line.next(door.ask, lambda now: now.mono_ns < 5 * S)
    assert clock.at_ns < 6 * S
    assert door.came == []


def queued(pair: Pair, site: str, count: int) -> None:
    owner = cast("SlotOwner", None)
    for _ in range(count):
        of = grant(site=site)
        gate = AttemptGate(of, owner, fresh_ns=0, attempt_max_ns=0)
        pair.sites.setdefault(site, deque()).append(Job(of, b"", gate))


def test_a_site_has_as_many_connections_as_slow_start_and_the_pair_allow() -> None:
    pair = Pair.of(grant(connections=4), 0, Sleeper())
    queued(pair, "one", 50)
    queued(pair, "two", 50)
    opened = []
    while site := next((s for s in ("one", "two") if pair.may_have_another(s)), None):
        opened.append(site)
        pair.tasks[site] = pair.tasks.get(site, 0) + 1
    assert opened == ["one", "one", "two", "two"]
    pair.start("one").good(pair.connections)
    assert not pair.may_have_another("one"), "the pair is full"
    pair.leave("two")
    assert pair.may_have_another("one")


def test_a_connection_that_waits_for_mail_is_used_before_another_is_opened() -> None:
    pair = Pair.of(grant(connections=4), 0, Sleeper())
    pair.tasks["one"], pair.idle["one"] = 1, 1
    queued(pair, "one", 1)
    assert not pair.may_have_another("one")
    queued(pair, "one", 1)
    assert pair.may_have_another("one")


def test_a_pair_whose_limit_became_less_has_too_many_connections() -> None:
    pair = Pair.of(grant(connections=4), 0, Sleeper())
    pair.tasks = {"one": 2, "two": 1}
    assert not pair.too_many("one")
    pair.change(grant(connections=2))
    assert pair.too_many("one")
    pair.leave("one")
    assert not pair.too_many("one")


def test_a_site_with_a_bound_of_its_own_keeps_both_and_leaves_the_rest_to_others() -> None:
    pair = Pair.of(grant(connections=4), 0, Sleeper())
    pair.change(grant(connections=4, site="one", site_connections=1))
    queued(pair, "one", 50)
    queued(pair, "two", 50)
    for site in ("one", "two"):
        pair.start(site).good(pair.connections)
        pair.start(site).good(pair.connections)
    opened = []
    while site_ := next((s for s in ("one", "two") if pair.may_have_another(s)), None):
        opened.append(site_)
        pair.tasks[site_] = pair.tasks.get(site_, 0) + 1
    assert opened == ["one", "two", "two", "two"]
    pair.tasks = {"one": 2, "two": 1}
    assert pair.too_many("one")
    assert not pair.too_many("two")
    # A later grant says that it is over.
    pair.change(grant(connections=4, site="one"))
    assert not pair.too_many("one")


async def test_connections_to_a_site_keep_its_rate_and_the_pairs() -> None:
    clock = Sleeper()
    pair = Pair.of(grant(connect_spacing_ns=S), 0, clock)
    pair.change(grant(connect_spacing_ns=S, site="one", site_connect_spacing_ns=10 * S))
    opened: list[tuple[int, str]] = []
    for site in ("one", "two", "two", "one", "two", "one"):
        assert await pair.may_connect(site, always, always)
        opened.append((clock.at_ns, site))
    times = [at for at, _ in opened]
    ones = [at for at, site in opened if site == "one"]
    assert all(after - before >= S for before, after in pairwise([0, *times]))
    assert all(after - before >= 10 * S for before, after in pairwise([0, *ones]))
    # Whom the site's turn lets go, and nobody else, uses one of the pair's.
    shut = Door(open=False)
    assert not await pair.may_connect("one", shut.ask, always)
    assert await pair.may_connect("two", always, always)
    # A pair that begins anew counts as just used: it may, when this one is rested.
    assert not pair.forgettable(max(ones) + 605 * S)
    assert pair.forgettable(clock.at_ns + 700 * S)


async def test_while_one_connection_waits_for_its_sites_turn_no_other_takes_a_place() -> None:
    pair = Pair.of(grant(connections=4), 0, Sleeper())
    pair.change(grant(connections=4, site="one", site_connect_spacing_ns=10 * S))
    queued(pair, "one", 50)
    queued(pair, "two", 50)
    assert pair.may_have_another("one")
    async with pair.site_connects["one"].lock:
        assert not pair.may_have_another("one")
        assert pair.may_have_another("two")


def test_a_pair_is_forgotten_only_when_a_new_one_would_be_no_other() -> None:
    clock = Sleeper()
    pair = Pair.of(grant(spacing_ns=3600 * S, connections=1), 0, clock)
    pair.rcpts.limiter.spend(3600 * S)
    assert not pair.forgettable(2 * 3600 * S)
    assert pair.forgettable(2 * 3600 * S + 600 * S)
    queued(pair, "one", 1)
    assert not pair.forgettable(10 * 3600 * S)


async def test_mail_wakes_the_connection_that_slept_last_and_nobody_else() -> None:
    pair, woken = Pair.of(grant(connections=4), 0, Sleeper()), list[str]()

    async def sleeper(site: str, name: str) -> None:
        await pair.sleep(site, 600)
        woken.append(name)

    tasks = []
    for site, name in (("one", "a"), ("one", "b"), ("two", "c"), ("two", "d")):
        tasks.append(asyncio.create_task(sleeper(site, name)))
        await asyncio.sleep(0)
    pair.wake("one")
    await tasks[1]
    assert woken == ["b"]
    tasks[2].cancel()
    pair.wake("two")
    await tasks[3]
    # Mail for which nobody waits: one of the others may have to make room.
    pair.wake("three")
    await tasks[0]
    assert woken == ["b", "d", "a"]
    assert not any(pair.sleepers.values())
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_sleeps_looks_again_after_a_while() -> None:
    pair = Pair.of(grant(), 0, Sleeper())
    await pair.sleep("one", 0.001)
    assert pair.sleepers == {"one": []}


@given(
    st.integers(1, 6),
    st.integers(0, 6),
    st.dictionaries(st.sampled_from(("one", "two")), st.integers(1, 4)),
)
def test_connections_that_an_older_epoch_left_count_as_the_pairs_own(
    most: int, of_one: int, left: dict[str, int]
) -> None:
    pair = Pair.of(grant(connections=most), 0, Sleeper())
    if of_one:
        pair.change(grant(site="one", connections=most, site_connections=of_one))
    pair.count_elsewhere(left)
    queued(pair, "one", 50)
    queued(pair, "two", 50)
    for _ in range(50):
        for site in ("one", "two"):
            pair.start(site).good(most)
            if pair.may_have_another(site):
                pair.tasks[site] = pair.tasks.get(site, 0) + 1
                assert not pair.too_many(site)
    there = {site: pair.tasks.get(site, 0) + left.get(site, 0) for site in ("one", "two")}
    assert sum(pair.tasks.values()) + sum(left.values()) <= max(most, sum(left.values()))
    if of_one:
        assert there["one"] <= max(of_one, left.get("one", 0))
    assert pair.full()
    # When they have ended their places are free again.
    pair.count_elsewhere({})
    assert pair.full() == (sum(pair.tasks.values()) == most)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 100)), max_size=30),
    st.integers(0, 1000),
    st.sampled_from(["", "a", "b", "c"]),
)
def test_whether_a_pair_works_without_one_site_is_what_the_others_did(
    steps: list[tuple[str, int]], then: int, but: str
) -> None:
    worked, now, last = Worked(), 0, dict[str, int]()
    for site, pause in steps:
        now += pause
        worked.good(site, now)
        last[site] = now
    others = [at for site, at in last.items() if site != but]
    assert worked.since(then + 1, but=but) == (max(others, default=0) > then)
