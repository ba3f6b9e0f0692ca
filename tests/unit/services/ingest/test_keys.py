"""A key that was taken is known for a day, in whatever order it is asked for, and then forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from services.ingest.keys import Keys, Taken, fingerprint

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOW_MS = 1_795_532_400_000

names = st.sampled_from(["acme/1", "acme/2", "acme/", "other/1", "acme/\ud800"])
takings = st.lists(
    st.tuples(
        names,
        st.sampled_from(["transactional", "bulk"]),
        st.integers(0, (1 << 63) - 1),
        st.binary(min_size=8, max_size=8),
        st.integers(0, 30 * HOUR_MS),
    ),
    max_size=30,
)


@given(takings, st.integers(0, 60 * HOUR_MS))
def test_what_was_taken_in_the_last_day_is_known_and_nothing_of_an_hour_more(
    taken: list[tuple[str, str, int, bytes, int]], later_ms: int
) -> None:
    keys, last = Keys(), dict[str, tuple[Taken, int]]()
    at_ms = NOW_MS
    for name, class_, offset, of, after_ms in taken:
        at_ms += after_ms
        keys.forget(at_ms)
        keys.take(name, Taken(class_, offset, of), at_ms)
        last[name] = Taken(class_, offset, of), at_ms
    now_ms = at_ms + later_ms
    keys.forget(now_ms)
    for name, (was, was_ms) in last.items():
        found = keys.find(name)
        if now_ms - was_ms <= DAY_MS:
            assert found == was
        elif now_ms - was_ms >= DAY_MS + HOUR_MS:
            assert found is None
    assert keys.find("nobody/1") is None
    assert len(keys) == sum(keys.find(name) is not None for name in last)


def test_a_fingerprint_is_of_every_byte() -> None:
    assert fingerprint(b"a" * 1000) == fingerprint(b"a" * 1000)
    assert len({fingerprint(b"a" * at + b"b" + b"a" * (999 - at)) for at in range(1000)}) == 1000
    assert fingerprint(b"") != fingerprint(b"\0")
