"""Two deciders' memories of a pair, when its lane comes back to one that has had it: the more careful of both holds, and is written."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.policy import backoff, growth, pauses
from services.scheduler.policy.pair import pause_of
from services.scheduler.policy.pairs import Pairs
from services.scheduler.policy.room import Full
from shared.protocol.control import ControlView
from shared.records.backoff import Allowance, Backoff, Suspension
from shared.records.state import NO_PAUSE, PairState, TotalState
from shared.runtime.settings import Rate
from tests.unit.services.scheduler.policy.slots import live
from tests.unit.services.scheduler.policy.test_pairs import NOW, S, make

TIMES = st.integers(NOW - 100 * S, NOW + 100 * S)
PAUSES = st.none() | st.one_of(
    st.builds(pauses.Paused, TIMES, st.just(S)),
    st.builds(pauses.Ramp, st.integers(2, 64), st.just(S), TIMES),
)
ALLOWANCES = st.builds(
    Allowance,
    level=st.integers(1, 50),
    hurt=st.integers(50, 99),
    careful_ns=TIMES,
    memory_ns=st.just(S),
    raised_ns=TIMES,
)
BACKOFFS = st.builds(
    Backoff,
    mark_ns=TIMES,
    gravity=st.integers(0, 2),
    hold_ns=TIMES,
    pace=st.none() | ALLOWANCES,
    connections=st.none() | ALLOWANCES,
    suspension=st.none()
    | st.builds(Suspension, until_ns=TIMES, length_ns=st.just(S), left=st.integers(1, 3)),
)


@st.composite
def states(draw: st.DrawFn) -> PairState:
    pause = draw(PAUSES)
    return PairState(
        key="big",
        slot=0,
        limiter=draw(TIMES),
        pause=NO_PAUSE if pause is None else msgspec.Raw(msgspec.json.encode(pause)),
        epoch=draw(st.integers(0, 3)),
        backoff=draw(st.none() | BACKOFFS),
        volume=draw(TIMES),
        heard=draw(st.tuples(st.integers(-1, 3), st.integers(0, 9))),
        good=draw(st.integers(0, 20)),
    )


def joined(own: PairState, handed: PairState) -> tuple[Pairs, PairState]:
    """Let a partition that knows ``own`` be handed the pair; gives it, and what it writes."""
    pairs = make(ControlView(), rate=Rate(60, 60 * S))
    pairs.restore(own)
    pairs.merge((handed,), ())
    [written] = pairs.take()[0]
    return pairs, written


def severity(record: PairState) -> tuple[int, int]:
    return pauses._severity(pause_of(record))


@given(states(), states())
def test_the_more_careful_of_both_holds_and_is_written(own: PairState, handed: PairState) -> None:
    both = own, handed
    _, written = joined(own, handed)
    assert written.limiter == max(each.limiter for each in both)
    assert written.volume == max(each.volume for each in both)
    assert severity(written) == max(map(severity, both))
    assert written.heard == max(each.heard for each in both)
    assert written.epoch == max(each.epoch for each in both)
    assert written.good == growth.merged(own.good, handed.good)
    known = [each.backoff for each in both if each.backoff is not None]
    assert (written.backoff is None) == (not known)
    for each in known:
        assert written.backoff is not None
        assert no_more(written.backoff, each)


def no_more(after: Backoff, before: Backoff) -> bool:
    """Say whether nothing goes that would not have gone ``before``."""
    never = 1 << 62
    stops = [(backoff.until_ns(each, NOW - 100 * S) or 0, each.mark_ns) for each in (after, before)]
    levels = [
        tuple(never if a is None else a.level for a in (each.pace, each.connections))
        for each in (after, before)
    ]
    return all(a >= b for a, b in zip(*stops, strict=True)) and all(
        a <= b for a, b in zip(*levels, strict=True)
    )


@settings(max_examples=50)
@given(states(), states(), TIMES)
def test_whatever_kept_a_grant_back_at_one_of_them_keeps_it_back_now(
    own: PairState, handed: PairState, now_ns: int
) -> None:
    pairs, _ = joined(own, handed)
    view = ControlView()
    epoch = live(view, 0, NOW)
    room = pairs.room(None, "big", 0, epoch, now_ns)
    for record in (own, handed):
        alone = make(view, rate=Rate(60, 60 * S))
        alone.restore(record)
        if isinstance(alone.room(None, "big", 0, epoch, now_ns), Full):
            assert isinstance(room, Full)


@given(TIMES, TIMES)
def test_a_total_has_spent_what_either_has_spent_and_that_is_written(own: int, handed: int) -> None:
    pairs = make(ControlView())
    pairs.restore_total(TotalState(key="big", limiter=own))
    pairs.merge((), (TotalState(key="big", limiter=handed),))
    [written] = pairs.take()[1]
    assert written.limiter == max(own, handed)


@settings(max_examples=50)
@given(states(), states())
def test_what_is_written_is_what_is_known(own: PairState, handed: PairState) -> None:
    _, written = joined(own, handed)
    again = make(ControlView(), rate=Rate(60, 60 * S))
    again.restore(written)
    again.complained("big", 0, NOW)
    [read] = again.take()[0]
    assert msgspec.structs.replace(read, health=None) == written
