"""Of a pair that says nothing any more nothing is kept, in memory and in mail.state; of one that does, all."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler import changelog
from services.scheduler.policy import pauses
from services.scheduler.policy.decisions import Decisions
from services.scheduler.policy.idle import Looking, rests
from services.scheduler.policy.pair import Pair
from shared.protocol.control import ControlView
from shared.records.backoff import Backoff
from shared.records.health import Health
from shared.records.state import PairState, WarmupState, pair_key
from shared.runtime.settings import LimitRow, Rate
from tests.unit.services.scheduler.policy.test_ledger import S, World, make_settings
from tests.unit.services.scheduler.policy.test_pairs import NOW, make

DAY = 86_400 * S


def idle_for(world: World, days: int) -> None:
    """Let time pass in which nothing is sent."""
    world.now += days * DAY
    for _ in range(3):
        world.turn(1)


def send(world: World, number: int, result: str = "delivered") -> None:
    """Send a message to each of so many sites that nobody knows."""
    for at in range(number):
        world.deliver(f"d{world.now}-{at}", provider=None, site=f"mx{at}.example", pool="one")
    world.turn(1)
    for grant in world.grants:
        world.answer(grant, result)  # type: ignore[arg-type]
    world.grants.clear()
    world.turn(1)


def written(world: World) -> set[str]:
    return {key for key in world.state if key.startswith("0/")}


@pytest.mark.parametrize(
    ("row", "days"), [(LimitRow(10, 100, Rate(60, 60 * S)), 3), (LimitRow(), 31)]
)
def test_sites_that_got_mail_once_are_forgotten(row: LimitRow, days: int) -> None:
    config = make_settings()
    world = World(replace(config, limits={**config.limits, "default": row}) if row.rate else config)
    send(world, 50)
    assert len(written(world)) == len(world.ledger._pairs._pairs) == 50
    idle_for(world, days)
    assert written(world) == set()
    assert not world.ledger._pairs._pairs
    send(world, 1)
    assert written(world) == {"0/mx0.example"}


def test_a_site_in_use_keeps_what_it_has_earned() -> None:
    world = World()
    for _ in range(40):
        send(world, 2)
        world.now += DAY
    assert written(world) == {"0/mx0.example", "0/mx1.example"}
    pairs = world.ledger._pairs
    assert {pair.good for pair in pairs._pairs.values()} == {40}


def test_what_is_forgotten_has_no_value_in_the_log() -> None:
    records = dict(changelog.writes(Decisions(forgotten={("mx.example", 3)}), NOW, {}))
    record = PairState(key="mx.example", slot=3)
    assert records[pair_key(record.key, record.slot)] is None
    assert bool(Decisions(forgotten={("mx.example", 3)}))


def test_one_that_is_used_again_in_the_same_round_is_written_and_not_forgotten() -> None:
    pairs = make(ControlView())
    pairs.restore(PairState(key="big", slot=0, limiter=NOW - 9 * DAY))
    pairs.tidy(NOW)
    assert not pairs._pairs
    pairs.complained("big", 0, NOW)
    assert pairs.take_forgotten() == set()
    assert [record.key for record in pairs.take()[0]] == ["big"]


def test_a_source_that_is_warmed_up_is_not_forgotten() -> None:
    pairs = make(ControlView())
    warmup = WarmupState(day=1, last=1, step=7)
    pairs.restore(PairState(key="big", slot=0, warmup=warmup))
    pairs.tidy(NOW)
    assert pairs.take_forgotten() == set()


AGES = st.integers(0, 40 * DAY)


@given(
    limiter=AGES,
    volume=AGES,
    heard=st.none() | AGES,
    window=AGES,
    good=st.integers(0, 2),
    open_=st.integers(0, 1),
    held=st.sampled_from(["", "paused", "warned"]),
)
def test_nothing_is_forgotten_that_still_says_something(
    limiter: int, volume: int, heard: int | None, window: int, good: int, open_: int, held: str
) -> None:
    pair = Pair("big", 0, limiter=NOW - limiter, good=good, open=open_, window_ns=NOW - window)
    pair.volume = NOW - volume
    if heard is not None:
        pair.health = Health(at_ns=NOW - heard)
    if held == "paused":
        pair.pause = pauses.Paused(NOW, S)
    if held == "warned":
        pair.backoff = Backoff()
    ages = [limiter, volume, window, *([] if heard is None else [heard])]
    alone = not open_ and not held
    assert rests(pair, NOW) == (alone and min(ages) > (30 if good else 2) * DAY)


@given(st.integers(0, 5_000))
def test_all_are_looked_at_once_within_ten_minutes_and_no_more_at_a_time_than_that_takes(
    count: int,
) -> None:
    pairs, looking = dict.fromkeys((f"mx{at}", 0) for at in range(count)), Looking()
    seen: list[tuple[str, int]] = []
    for second in range(601):
        here = list(looking.portion(pairs, NOW + second * S))
        assert len(here) <= max(100, count // 600 + 1)
        assert list(looking.portion(pairs, NOW + second * S)) == []
        seen += here
        if len(seen) >= count:
            break
    assert sorted(seen) == sorted(pairs)
