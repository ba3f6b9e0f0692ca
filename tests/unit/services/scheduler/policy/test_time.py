"""A partition's time never goes back: not with its clock, and not when another process, whose clock is behind, takes it over."""

from hypothesis import given
from hypothesis import strategies as st

from shared.records.state import META_KEY, STATE, Meta
from tests.unit.services.scheduler.policy.partitions import START, Partition, S, make_settings


@given(st.lists(st.tuples(st.integers(-20, 20), st.booleans()), max_size=12))
def test_now_is_the_latest_that_was_committed_whoever_takes_over(
    steps: list[tuple[int, bool]],
) -> None:
    part, latest = Partition(0, make_settings()), 0
    for seconds, restart in steps:
        if restart:
            part.restart()
            assert part.ledger.now_ns >= latest
        latest = max(latest, START + seconds * S)
        part.round(START + seconds * S, 1000)
        assert part.ledger.now_ns == latest
        meta = STATE.decode(part.state[META_KEY])
        assert isinstance(meta, Meta)
        assert meta.now_ns == latest
