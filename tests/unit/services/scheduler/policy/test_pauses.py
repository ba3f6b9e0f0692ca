"""Claims of the pause of a pair."""

import random
from dataclasses import dataclass

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy import pauses
from services.scheduler.policy.pauses import CLEAR, Allowed, Clear, Deferred, Pause, Paused, Ramp

_MINUTE = 60_000_000_000


@dataclass(frozen=True)
class Times:
    pair_pause_first_ns: int = _MINUTE
    pair_pause_max_ns: int = 30 * _MINUTE


TIMES = Times()
Events = st.lists(
    st.tuples(st.sampled_from(["fail", "ok"]), st.integers(0, 5 * _MINUTE)), max_size=80
)


def failed_probes(count: int, seed: int = 1) -> tuple[Pause, int, list[int]]:
    """Fail at once whenever something may go; gives the pause, the time and the pauses' lengths."""
    rng, pause, now, lengths = random.Random(seed), CLEAR, 0, []
    held: Pause = pause
    for _ in range(count):
        held = pauses.on_failure(held, now, TIMES, rng)
        until = pauses.until_ns(held)
        assert until is not None
        lengths.append(until - now)
        now = until
    return held, now, lengths


def test_pauses_double_from_one_minute_to_thirty() -> None:
    _, _, lengths = failed_probes(9)
    for length, planned in zip(lengths, [1, 2, 4, 8, 16, 30, 30, 30, 30], strict=True):
        assert planned * _MINUTE <= length <= planned * _MINUTE * 1.1


def test_after_the_pause_one_delivery_probes_and_the_others_wait_for_it() -> None:
    pause, now, _ = failed_probes(1)
    assert pauses.may_grant(pause, now - 1, 0) == Deferred(now)
    assert pauses.may_grant(pause, now, 0) == Allowed()
    assert pauses.may_grant(pause, now, 1) == Deferred(None)


def test_connections_that_fail_together_make_one_pause() -> None:
    rng = random.Random(1)
    first = pauses.on_failure(CLEAR, 0, TIMES, rng)
    assert pauses.on_failure(first, 30 * _MINUTE // 60, TIMES, rng) == first


def test_what_began_before_a_pause_does_not_end_it() -> None:
    paused = pauses.on_failure(CLEAR, 0, TIMES, random.Random(1))
    assert pauses.on_success(paused, 1) == paused


def test_a_probe_that_succeeds_releases_two_then_one_more_for_each_success() -> None:
    pause, now, _ = failed_probes(3)
    pause = pauses.on_success(pause, now)
    most = []
    while not isinstance(pause, Clear):
        open_grants = 0
        while isinstance(pauses.may_grant(pause, now, open_grants), Allowed):
            open_grants += 1
        most.append(open_grants)
        pause = pauses.on_success(pause, now)
    assert most == list(range(2, 2 + len(most)))
    assert len(most) > 30


def test_the_ramp_ends_with_time_although_little_is_sent() -> None:
    pause, now, _ = failed_probes(1)
    pause = pauses.on_success(pause, now)
    assert isinstance(pause, Ramp)
    assert pauses.may_grant(pause, pause.until_ns - 1, 2) == Deferred(None)
    assert pauses.may_grant(pause, pause.until_ns, 2) == Allowed()
    assert pauses.on_success(pause, pause.until_ns) == CLEAR


def test_a_failure_in_the_ramp_doubles_and_one_after_it_begins_anew() -> None:
    pause, now, _ = failed_probes(2)
    ramp = pauses.on_success(pause, now)
    assert isinstance(ramp, Ramp)
    rng = random.Random(1)
    again = pauses.on_failure(ramp, now + 1, TIMES, rng)
    later = pauses.on_failure(ramp, ramp.until_ns, TIMES, rng)
    assert isinstance(again, Paused)
    assert isinstance(later, Paused)
    assert (again.length_ns, later.length_ns) == (4 * _MINUTE, _MINUTE)


def test_pairs_that_failed_together_probe_apart() -> None:
    ends = {
        pauses.until_ns(pauses.on_failure(CLEAR, 0, TIMES, random.Random(seed)))
        for seed in range(50)
    }
    assert len(ends) == 50


@given(Events, st.integers(0, 2**32))
def test_a_pair_is_never_held_longer_than_the_longest_pause(
    events: list[tuple[str, int]], seed: int
) -> None:
    """Whatever came before, an idle pair may be tried again within the longest pause."""
    rng, now = random.Random(seed), 0
    pause: Pause = CLEAR
    for kind, wait in events:
        now += wait
        pause = (
            pauses.on_failure(pause, now, TIMES, rng)
            if kind == "fail"
            else pauses.on_success(pause, now)
        )
        match pauses.may_grant(pause, now, 0):
            case Allowed():
                pass
            case Deferred(until_ns=until):
                assert until is not None
                assert until - now <= TIMES.pair_pause_max_ns * 1.1
                assert pauses.may_grant(pause, until, 0) == Allowed()


@given(Events, st.integers(0, 2**32))
def test_every_pause_survives_its_record(events: list[tuple[str, int]], seed: int) -> None:
    rng, now = random.Random(seed), 0
    pause: Pause = CLEAR
    for kind, wait in events:
        now += wait
        pause = (
            pauses.on_failure(pause, now, TIMES, rng)
            if kind == "fail"
            else pauses.on_success(pause, now)
        )
        assert msgspec.json.decode(msgspec.json.encode(pause), type=pauses.Pause) == pause
