from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.clockbound import HeldClock, bound

_S = 1_000_000_000
SKEW = 2 * _S
Offset = st.integers(-10 * _S, 10 * _S)
Trip = st.integers(0, 30 * _S)


@given(Offset, Trip, Trip)
def test_the_true_offset_always_lies_within_the_bound(offset: int, out: int, back: int) -> None:
    """The process's clock shows the broker's time plus the offset."""
    sent = 100 * _S
    found = bound(sent + offset, sent + out, sent + out + back + offset)
    assert found.low_ns <= offset <= found.high_ns


@given(Trip, Trip)
def test_a_slow_round_trip_alone_never_condemns_a_good_clock(out: int, back: int) -> None:
    assert bound(0, out, out + back).within(0)


@given(st.integers(SKEW + 1, 10 * _S))
def test_a_clock_beyond_the_skew_is_found_by_a_quick_round_trip(offset: int) -> None:
    assert not bound(offset, 0, offset).within(SKEW)
    assert not bound(-offset, 0, -offset).within(SKEW)


def test_a_clock_is_not_trusted_before_its_first_round_trip() -> None:
    assert not HeldClock().fits(0, 0, SKEW)


def test_a_clock_that_is_set_between_two_round_trips_is_not_trusted() -> None:
    clock = HeldClock()
    clock.heard(100 * _S, 100 * _S, 100 * _S, mono_ns=5 * _S)
    assert clock.fits(107 * _S, 12 * _S, SKEW)
    assert not clock.fits(707 * _S, 12 * _S, SKEW)
    assert not clock.fits(104 * _S, 12 * _S, SKEW)
    clock.heard(107 * _S, 107 * _S, 107 * _S, mono_ns=12 * _S)
    assert clock.fits(107 * _S, 12 * _S, SKEW)
