"""Claims of the limiter, most of them about every window of every trace."""

import itertools
from collections import deque
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy import limits
from shared.protocol.spacing import WireLimiter
from shared.runtime.settings import Rate

_S = 1_000_000_000
Waits = st.lists(st.integers(0, 40), max_size=120)


@st.composite
def rates(draw: st.DrawFn, most: int = 12) -> Rate:
    count = draw(st.integers(1, most))
    return Rate(count=count, period_ns=draw(st.integers(1, 200)), burst=draw(st.integers(1, count)))


def most_in_a_window(times: Sequence[int], period: int) -> int:
    """Give the most ``times`` in any half-open window; the fullest begins with one of them."""
    window: deque[int] = deque()
    most = 0
    for at in sorted(times):
        while window and at - window[0] >= period:
            window.popleft()
        window.append(at)
        most = max(most, len(window))
    return most


def spend_greedily(
    rate: Rate, waits: Sequence[int], state: int = limits.UNUSED, now: int = 1_000
) -> tuple[list[int], int]:
    """Spend a token as soon as each caller comes; a caller comes ``wait`` after the last token."""
    times = []
    for wait in waits:
        now = limits.earliest(state, rate, now + wait)
        state = limits.spend(state, rate, now)
        times.append(now)
    return times, state


@given(rates(), Waits)
def test_no_window_holds_more_than_the_count(rate: Rate, waits: list[int]) -> None:
    times, _ = spend_greedily(rate, waits)
    assert most_in_a_window(times, rate.period_ns) <= rate.count


@given(rates(), st.integers(0, 50))
def test_a_full_burst_goes_at_once_and_the_next_waits_one_interval(rate: Rate, start: int) -> None:
    times, _ = spend_greedily(rate, [start] + [0] * rate.burst)
    assert times[: rate.burst] == [times[0]] * rate.burst
    assert times[rate.burst] == times[0] + limits.interval_ns(rate)


@given(rates())
def test_a_backlog_is_sent_at_the_whole_rate(rate: Rate) -> None:
    times, _ = spend_greedily(rate, [0] * 100)
    assert times[-1] - times[0] == (100 - rate.burst) * limits.interval_ns(rate)


@given(rates(), Waits)
def test_earliest_is_the_first_time_that_spends_without_moving(
    rate: Rate, waits: list[int]
) -> None:
    _, state = spend_greedily(rate, waits)
    at = limits.earliest(state, rate, 0)
    assert limits.earliest(state, rate, at) == at
    assert limits.earliest(state, rate, at + 7) == at + 7


def test_a_third_token_of_three_is_not_refused_by_rounding() -> None:
    rate = Rate(count=3, period_ns=10 * _S, burst=1)
    times, _ = spend_greedily(rate, [0, 0, 0, 0])
    assert times[3] - times[0] >= rate.period_ns
    assert times[3] - times[0] <= rate.period_ns + 3


@given(rates(), rates(), Waits, Waits, st.integers(0, 300))
def test_windows_that_begin_after_a_change_keep_the_new_rate(
    old: Rate, new: Rate, before: list[int], after: list[int], pause: int
) -> None:
    times, state = spend_greedily(old, before)
    changed = (times[-1] if times else 1_000) + pause
    later, _ = spend_greedily(new, after, state, changed)
    assert most_in_a_window(later, new.period_ns) <= new.count


@given(rates(), rates(), Waits, Waits)
def test_without_bursts_the_last_token_before_a_change_counts(
    old: Rate, new: Rate, before: list[int], after: list[int]
) -> None:
    old, new = (Rate(count=each.count, period_ns=each.period_ns, burst=1) for each in (old, new))
    times, state = spend_greedily(old, [0, *before])
    later, _ = spend_greedily(new, after, state, times[-1])
    assert most_in_a_window([times[-1], *later], new.period_ns) <= new.count


@given(rates(), st.integers(1, 3), Waits, Waits)
def test_a_higher_rate_takes_effect_within_one_old_burst(
    rate: Rate, factor: int, before: list[int], after: list[int]
) -> None:
    higher = Rate(count=rate.count * factor, period_ns=rate.period_ns, burst=rate.burst)
    times, state = spend_greedily(rate, [0, *before])
    later, _ = spend_greedily(higher, [0, *after], state, times[-1])
    assert later[0] - times[-1] <= rate.burst * limits.interval_ns(rate)


@given(rates(), Waits, Waits, st.integers(0, 30))
def test_a_new_owner_after_a_used_up_burst_keeps_the_windows_of_both(
    rate: Rate, before: list[int], after: list[int], pause: int
) -> None:
    times, _ = spend_greedily(rate, [0, *before])
    ready = times[-1] + pause
    later, _ = spend_greedily(rate, after, limits.used_up(rate, ready), ready)
    assert most_in_a_window(times + later, rate.period_ns) <= rate.count


@given(rates(), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 400)), max_size=100))
def test_the_wire_keeps_the_rate_whatever_the_grants_delays_are(
    rate: Rate, plan: list[tuple[int, int]]
) -> None:
    tokens, _ = spend_greedily(rate, [wait for wait, _ in plan])
    wire = WireLimiter(limits.interval_ns(rate), rate.burst, since_ns=0)
    now, starts = 0, []
    for token, (_, delay) in zip(tokens, plan, strict=True):
        now = wire.earliest(max(now, token + delay))
        wire.spend(now)
        starts.append(now)
    assert most_in_a_window(starts, rate.period_ns) <= rate.count


@given(rates(), st.integers(1, 1_000))
def test_a_stalled_wire_does_not_catch_up_beyond_its_burst(rate: Rate, stall: int) -> None:
    wire = WireLimiter(limits.interval_ns(rate), rate.burst, since_ns=0)
    now = wire.earliest(stall * rate.period_ns)
    starts = []
    for _ in range(rate.burst + 3):
        now = wire.earliest(now)
        wire.spend(now)
        starts.append(now)
    gaps = [after - before for before, after in itertools.pairwise(starts)]
    assert gaps[rate.burst - 1 :] == [limits.interval_ns(rate)] * 3


@given(rates(), Waits, Waits, st.integers(0, 30))
def test_two_owners_of_an_address_keep_the_rate_together(
    rate: Rate, first: list[int], second: list[int], pause: int
) -> None:
    starts: list[int] = []
    now = 0
    for waits in (first, second):
        now += pause
        wire = WireLimiter(limits.interval_ns(rate), rate.burst, since_ns=now)
        for wait in waits:
            now = wire.earliest(now + wait)
            wire.spend(now)
            starts.append(now)
    assert most_in_a_window(starts, rate.period_ns) <= rate.count


@given(
    rates(),
    st.integers(0, 60),
    st.lists(st.tuples(st.integers(0, 40), st.floats(0, 1)), max_size=120),
)
def test_a_widened_total_holds_at_the_wire_for_every_delay_within_the_window(
    rate: Rate, window: int, plan: list[tuple[int, float]]
) -> None:
    tokens, _ = spend_greedily(limits.widened(rate, window), [wait for wait, _ in plan])
    starts = [token + round(part * window) for token, (_, part) in zip(tokens, plan, strict=True)]
    assert most_in_a_window(starts, rate.period_ns) <= rate.count


def test_a_total_that_is_not_widened_is_broken_by_delays() -> None:
    """The rule is needed: this is what happens without it."""
    rate = Rate(count=2, period_ns=100, burst=1)
    tokens, _ = spend_greedily(rate, [0, 0, 0])
    starts = [tokens[0] + 60, tokens[1] + 30, tokens[2]]
    assert most_in_a_window(starts, rate.period_ns) > rate.count


@given(
    rates(),
    st.integers(1, 60),
    st.integers(1, 9),
    st.lists(st.tuples(st.integers(0, 40), st.integers(-9, 69)), max_size=120),
)
def test_clocks_within_the_skew_do_not_break_a_widened_total(
    rate: Rate, window: int, skew: int, plan: list[tuple[int, int]]
) -> None:
    """A start lies within [t0 - skew, t0 + window + skew] of the broker's time."""
    spread = limits.spread_ns(window, skew)
    tokens, _ = spend_greedily(limits.widened(rate, spread), [wait for wait, _ in plan])
    starts = [
        token + min(max(move, -skew), window + skew)
        for token, (_, move) in zip(tokens, plan, strict=True)
    ]
    assert most_in_a_window(starts, rate.period_ns) <= rate.count


@given(
    rates(most=40),
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 200)), max_size=150),
)
def test_shares_keep_the_total_whatever_the_delays_are(
    rate: Rate, addresses: int, plan: list[tuple[int, int]]
) -> None:
    share = limits.share(rate, addresses)
    if share is None:
        assert rate.count < addresses
        return
    wires = [
        WireLimiter(limits.interval_ns(share), share.burst, since_ns=0) for _ in range(addresses)
    ]
    clocks, starts = [0] * addresses, []
    for which, wait in plan:
        owner = which % addresses
        clocks[owner] = wires[owner].earliest(clocks[owner] + wait)
        wires[owner].spend(clocks[owner])
        starts.append(clocks[owner])
    assert most_in_a_window(starts, rate.period_ns) <= rate.count


def test_a_changed_spacing_counts_from_the_last_start() -> None:
    wire = WireLimiter(interval_ns=10, burst=1, since_ns=0)
    wire.spend(wire.earliest(100))
    wire.change(interval_ns=50, burst=1)
    assert wire.earliest(110) == 150
    wire.change(interval_ns=2, burst=1)
    assert wire.earliest(101) == 102
