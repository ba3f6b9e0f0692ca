import random

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.simulation import answers
from services.scheduler.simulation.models import Model, Quota
from services.scheduler.simulation.receiving import Receiver

S = 1_000_000_000
MIN = 60 * S


def receiver(**said: object) -> Receiver:
    model = Model(source="test", unknown_permille=0, full_permille=0, **said)  # type: ignore[arg-type]
    return Receiver("big", model, 0, random.Random(1))


def quota(count: int, **more: object) -> Quota:
    return Quota(count, 60 * S, answers.GMAIL_SOURCE, **more)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 3 * MIN), max_size=60), st.integers(1, 5))
def test_never_takes_more_than_the_quota_in_any_window(times: list[int], count: int) -> None:
    here = receiver(quotas=(quota(count),))
    taken = [
        at for at in sorted(times) if here.answer(0, "a@x", "b@y", 0, at)[0] is answers.ACCEPTED
    ]
    for first in taken:
        assert sum(first <= at < first + MIN for at in taken) <= count


def test_whoever_passes_a_quota_is_refused_until_the_stop_is_over() -> None:
    here = receiver(quotas=(quota(1, stop_ns=10 * MIN),))
    here.answer(0, "a@x", "b@y", 0, 0)
    said, window = here.answer(0, "a@x", "b@y", 0, S)
    assert said is answers.GMAIL_SOURCE
    assert window is not None
    assert window.stop_ns == S + 10 * MIN
    assert here.answer(0, "a@x", "b@y", 0, 10 * MIN)[0] is answers.GMAIL_SOURCE
    assert here.answer(0, "a@x", "b@y", 0, S + 10 * MIN)[0] is answers.ACCEPTED
    # Another source has its own.
    assert here.answer(1, "a@x", "b@y", 0, 2 * S)[0] is answers.ACCEPTED


def test_only_what_was_granted_after_the_warning_was_read_is_a_violation() -> None:
    here = receiver(quotas=(quota(1, stop_ns=10 * MIN),))
    here.answer(0, "a@x", "b@y", 0, 0)
    _, window = here.answer(0, "a@x", "b@y", 0, S)
    here.answer(0, "a@x", "b@y", 0, 2 * S)
    assert window is not None
    window.heard_ns = 3 * S
    here.answer(0, "a@x", "b@y", 2 * S, 4 * S)
    assert (here.told.warnings, here.told.under_way, here.told.violations) == (1, 2, 0)
    here.answer(0, "a@x", "b@y", 4 * S, 5 * S)
    assert here.told.violations == 1


def test_a_quota_of_a_domain_counts_all_sources() -> None:
    here = receiver(quotas=(quota(2, scope="domain"),))
    said = [here.answer(slot, "a@x", "b@y", 0, slot)[0] for slot in range(3)]
    assert said == [answers.ACCEPTED, answers.ACCEPTED, answers.GMAIL_SOURCE]
    assert here.answer(3, "a@z", "b@y", 0, 3)[0] is answers.ACCEPTED


def test_a_throttle_is_lowered_once_and_comes_back_within_a_day() -> None:
    here = receiver(quotas=(quota(8, floor_permille=250),))
    for at in range(20):
        here.answer(0, "a@x", "b@y", 0, at)
    after = [here.answer(0, "a@x", "b@y", 0, 2 * MIN + at)[0] for at in range(8)]
    assert after.count(answers.ACCEPTED) == 6
    day = 24 * 60 * MIN
    rested = [here.answer(0, "a@x", "b@y", 0, 2 * day + at)[0] for at in range(8)]
    assert rested.count(answers.ACCEPTED) == 8


def test_greylisting_knows_source_sender_and_recipient() -> None:
    here = receiver(greylist_ns=5 * MIN)
    assert here.answer(0, "a@x", "b@y", 0, 0)[0] is answers.GREYLISTED
    assert here.answer(1, "a@x", "b@y", 0, 6 * MIN)[0] is answers.GREYLISTED
    assert here.answer(0, "a@x", "b@y", 0, 5 * MIN)[0] is answers.ACCEPTED


def test_one_connection_too_many_is_refused_and_not_counted() -> None:
    here = receiver(connections=2)
    assert [here.connect(0, 0) for _ in range(3)] == [None, None, answers.BUSY]
    here.disconnect(0)
    assert here.connect(0, 0) is None
    assert here.connect(1, 0) is None
    assert here.told.refused == 1


def test_who_is_down_answers_nobody_until_the_end_of_it() -> None:
    here = receiver(down=((0, MIN),))
    assert here.connect(0, 0) is answers.SILENCE
    assert here.connect(0, MIN) is None
