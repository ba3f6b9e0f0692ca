from collections.abc import Callable
from fractions import Fraction
from operator import mul

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.runtime import quantities
from shared.runtime.settings import ByteRate, Rate

S = 1_000_000_000
UNITS = {"ms": S // 1000, "s": S, "m": 60 * S, "min": 60 * S, "h": 3600 * S, "d": 86400 * S}


@given(st.integers(0, 360), st.sampled_from(sorted(UNITS)))
def test_a_whole_number_of_a_unit_is_exactly_that(count: int, unit: str) -> None:
    assert quantities.duration_ns(f"{count}{unit}") == count * UNITS[unit]


@given(st.integers(0, 300_000), st.sampled_from(sorted(UNITS)))
def test_thousandths_of_a_unit_are_exact_integers(thousandths: int, unit: str) -> None:
    text = f"{thousandths // 1000}.{thousandths % 1000:03}{unit}"
    assert quantities.duration_ns(text) == Fraction(thousandths * UNITS[unit], 1000)


@given(st.lists(st.tuples(st.integers(0, 80), st.sampled_from("dhms")), min_size=1, max_size=4))
def test_parts_that_stand_together_add_up(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{count}{unit}" for count, unit in parts)
    assert quantities.duration_ns(text) == sum(count * UNITS[unit] for count, unit in parts)


@pytest.mark.parametrize(
    "text", ["", "5", "m", "5 m", "-5m", "5m ", " 5m", "5x", "1h30", "1.2345s", "1e3s", "5M", "٣s"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match='expected a duration such as "90s" or "5m", got'):
        quantities.duration_ns(text)


def test_a_duration_of_more_than_a_year_is_a_slip() -> None:
    assert quantities.duration_ns("366d") == 366 * 86400 * S
    with pytest.raises(ValueError, match="at most 366d"):
        quantities.duration_ns("366d1ms")


@given(st.integers(1, 999_999_999), st.sampled_from(["s", "min", "h", "d"]))
def test_a_rate_is_its_count_in_its_period_one_at_a_time(count: int, unit: str) -> None:
    assert quantities.rate(f"{count}/{unit}") == Rate(count, UNITS[unit], 1)


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_a_burst_never_passes_the_count(count: int, burst: int) -> None:
    text = f"{count}+{burst}/min"
    if burst <= count:
        assert quantities.rate(text) == Rate(count, 60 * S, burst)
    else:
        with pytest.raises(ValueError, match="the burst must lie between 1 and the count"):
            quantities.rate(text)


@pytest.mark.parametrize("text", ["fast", "600", "600/m", "600 / min", "-1/s", "1.5/s", "1/2s", ""])
def test_what_is_no_rate_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=f'expected a rate such as "600/min", got "{text}"'):
        quantities.rate(text)


def test_a_rate_of_zero_is_a_pause_in_disguise() -> None:
    with pytest.raises(ValueError, match="use a pause instead"):
        quantities.rate("0/min")


@given(st.integers(0, 10**9))
def test_a_size_counts_in_powers_of_two(count: int) -> None:
    assert quantities.size_bytes(f"{count}KiB") == count * 1024
    assert quantities.size_bytes(f"{count}MiB") == count * 1024 * 1024


@pytest.mark.parametrize("text", ["10", "10KB", "10 KiB", "1.5MiB", ""])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match='expected a size such as "256KiB"'):
        quantities.size_bytes(text)


def refusal(read: Callable[[str], object], text: str) -> str | None:
    try:
        read(text)
    except ValueError as error:
        return str(error)
    return None


@given(st.text(max_size=30))
def test_no_text_does_worse_than_a_value_error(text: str) -> None:
    for read in (quantities.duration_ns, quantities.rate, quantities.size_bytes):
        assert refusal(read, text) != "", "whoever refuses says why"


#: What can be read in one of the units: twelve digits of it.
SIZES = st.builds(mul, st.integers(1, 10**12 - 1), st.sampled_from([1, 1 << 10, 1 << 20, 1 << 30]))


@given(SIZES.filter(lambda size: size >= 64 << 10), st.sampled_from(["min", "h", "d"]))
def test_a_rate_of_bytes_is_read_as_it_is_written(count: int, unit: str) -> None:
    rate = ByteRate(count, UNITS[unit])
    text = quantities.rate_text(rate)
    assert text.endswith(f"/{unit}")
    assert quantities.byte_rate(text) == rate
    assert quantities.size_bytes(quantities.size_text(count)) == count


@pytest.mark.parametrize("text", ["50MiB/s", "50MB/min", "50/min", "1+1KiB/min", "65535B/min", ""])
def test_what_is_no_rate_of_bytes_or_less_than_a_message_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        quantities.byte_rate(text)
