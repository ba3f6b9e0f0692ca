"""Claims of the closed loops at providers that are hard to please: they come back in a bounded time, do not swing, and let no one starve.

The bounds are those of one seed's days with some room; what is bounded, and by which setting, is what each test says.
"""

import random

import pytest

from services.scheduler.policy import backoff
from services.scheduler.simulation import answers
from tests.unit.services.scheduler.policy.loops import HOUR, MINUTE, Counting, Loop, S

WHOLE = 3_600


@pytest.mark.parametrize("seed", range(2))
def test_false_alarms_are_over_some_hours_after_they_end(seed: int) -> None:
    """A provider that says 4.7.28 to one message in ten, for two hours, whatever it is sent."""
    rng = random.Random(seed)

    def judge(_: int, at_ns: int) -> answers.Answer:
        alarm = at_ns < 2 * HOUR and rng.random() < 0.1
        return answers.GMAIL_SOURCE if alarm else answers.ACCEPTED

    loop = Loop("gmail", 2, judge)
    loop.run(9)
    for slot in (0, 1):
        # Ten minutes of nothing are asked for each time, and no stop is longer than ``hold_max``.
        assert sum(loop.hours(slot, 0, 2)) >= 10
        # Never less than the floor from then on: one a minute.
        assert min(loop.hours(slot, 3, 9)) >= 50
        assert loop.swings(slot, 2, 9) == 0
        # ``hold_max`` at the floor, then up again: twice as much each quarter of an hour.
        assert loop.hours(slot, 8, 9)[0] >= 0.95 * WHOLE


def test_a_quota_that_changes_twice_a_day_is_followed() -> None:
    def quota(_: int, at_ns: int) -> int:
        return 100 if at_ns // (12 * HOUR) % 2 == 0 else 25

    loop = Loop("gmail", 2, Counting(quota, 10 * MINUTE, answers.GMAIL_SOURCE))
    loop.run(36)
    for slot in (0, 1):
        # Little is lost to a quota that is tried ever more seldom, and what it takes less of is heeded within the first stop.
        assert min(loop.hours(slot, 1, 12)) >= 0.75 * 600
        assert min(loop.hours(slot, 13, 24)) >= 0.6 * 150
        # As much again within nine hours: a memory doubles at the same level, and a hundredth more goes each minute then.
        assert min(loop.hours(slot, 33, 36)) >= 0.75 * 600
        refused = sum(count[slot] for count in loop.refused.values())
        assert refused <= 40
        assert loop.swings(slot, 0, 36) <= 16


def test_answers_that_come_a_minute_late_are_too_late_for_no_limit() -> None:
    loop = Loop(
        "gmail", 3, Counting(lambda *_: 100, 10 * MINUTE, answers.GMAIL_SOURCE), trip_ns=60 * S
    )
    loop.run(6)
    for slot in range(3):
        assert min(loop.hours(slot, 1, 6)) >= 0.4 * 600
        assert loop.swings(slot, 0, 6) <= 12
    # What was under way when the first was refused, a minute of it, and no second wave.
    assert sum(sum(count.values()) for count in loop.refused.values()) <= 3 * 70


def test_a_network_that_is_blocked_comes_back_and_holds_up_nobody_else() -> None:
    """Two of three addresses are of the /24 that a provider blocks for three hours."""

    def judge(slot: int, at_ns: int) -> answers.Answer:
        blocked = slot < 2 and HOUR <= at_ns < 4 * HOUR
        return answers.YAHOO_VOLUME if blocked else answers.ACCEPTED

    loop = Loop("comcast", 3, judge)
    loop.run(8)
    assert min(loop.hours(2, 1, 8)) >= 0.98 * WHOLE
    for slot in range(2):
        # Some probes and no more are sent against the block.
        assert sum(loop.refused[minute][slot] for minute in range(65, 240)) <= 12
        # The last suspension was no longer than the block; the rate rises by a tenth a minute after it.
        assert loop.hours(slot, 7, 8)[0] >= 0.95 * WHOLE


def test_a_source_of_bad_reputation_slows_its_siblings_for_an_hour_at_most() -> None:
    counting = Counting(lambda slot, _: 10 if slot == 0 else 200, 10 * MINUTE, answers.GMAIL_SOURCE)
    loop = Loop("gmail", 3, counting)
    loop.run(5)
    for slot in (1, 2):
        assert min(loop.hours(slot, 1, 5)) >= 0.75 * 1200
    assert min(loop.hours(0, 1, 5)) >= 0.3 * 60


def test_what_rises_without_end_ends() -> None:
    """A pair that was told once that it had too many connections, and is busy from then on, until that is forgotten."""
    told = False

    def judge(_: int, __: int) -> answers.Answer:
        nonlocal told
        told, first = True, not told
        return answers.COMCAST_CONNECTIONS if first else answers.ACCEPTED

    loop = Loop("comcast", 1, judge)
    loop.run(0.1)
    pair = loop.pairs.known("comcast", 0)
    assert pair is not None
    back = pair.backoff
    assert back is not None
    assert back.connections is not None
    for minute in range(24 * 60):
        back, _ = backoff.on_good(back, loop.now, loop.now + minute * MINUTE, MINUTE, 1)
    assert back.connections is not None
    assert back.connections.level < 1 << 42
