"""No half-open window has more bytes than the limit, whatever sizes come when; and little of the limit is lost."""

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy import sizes
from services.scheduler.policy.sizes import Volume

S = 1_000_000_000
START = 1_700_000_000 * S


def most_bytes(sent: list[tuple[int, int]], period_ns: int) -> int:
    """Give the most bytes of any half-open window with two messages at least."""
    found = 0
    for at, (begins, _) in enumerate(sent):
        inside = [size for start, size in sent[at:] if start < begins + period_ns]
        if len(inside) > 1:
            found = max(found, sum(inside))
    return found


def send(volume: Volume, plan: list[tuple[int, int]]) -> list[tuple[int, int]]:
    state, now, sent = 0, START, []
    for size, wait in plan:
        now = sizes.earliest(state, volume, size, now + wait)
        state = sizes.spend(volume, size, now)
        sent.append((now, size))
    return sent


@given(
    st.integers(2, 10**6),
    st.sampled_from([S, 60 * S, 7]),
    st.lists(st.tuples(st.integers(1, 3 * 10**6), st.integers(0, 90 * S)), max_size=40),
    st.lists(st.integers(1, 60), max_size=60),
)
def test_no_window_has_more_than_the_limit_and_what_is_larger_goes_alone(
    count: int, period_ns: int, plan: list[tuple[int, int]], small: list[int]
) -> None:
    volume = Volume(count, period_ns)
    mixed = plan + [(1 + count // each, 0) for each in small] + plan
    assert most_bytes(send(volume, mixed), period_ns) <= count


@given(st.lists(st.integers(1, 1 << 20), min_size=20, max_size=20))
def test_of_small_messages_nearly_all_of_the_limit_goes(several: list[int]) -> None:
    volume = Volume(16 << 20, 60 * S)
    sent = send(volume, [(size, 0) for size in several * 10])
    took, bytes_ = sent[-1][0] - sent[0][0], sum(size for _, size in sent[:-1])
    assert bytes_ >= 0.93 * volume.count * took / volume.period_ns


def test_one_of_any_size_goes_at_once_where_nothing_went_before() -> None:
    volume = Volume(1000, 60 * S)
    assert sizes.earliest(0, volume, 5000, START) == START
    after = sizes.spend(volume, 5000, START)
    assert sizes.earliest(after, volume, 1, START) >= START + 60 * S
