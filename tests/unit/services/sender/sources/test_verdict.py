from hypothesis import given
from hypothesis import strategies as st

from services.sender.sources.verdict import Verdict

S = 1_000_000_000
H = 3600 * S
OURS, OTHER = "198.51.100.7", "198.51.100.8"


def test_nothing_leaves_before_the_right_address_was_seen() -> None:
    verdict = Verdict(OURS, H)
    assert verdict.due_ns == 0, "it is asked at once"
    assert verdict.trouble(0) == f"address {OURS} is not confirmed: not asked yet"
    verdict.silent("the echo is away", 1 * S)
    assert verdict.trouble(1 * S) == f"address {OURS} is not confirmed: the echo is away"
    assert verdict.due_ns == 61 * S
    verdict.observed(OURS, 61 * S)
    assert verdict.trouble(61 * S) is None
    assert verdict.due_ns == 61 * S + H


def test_another_address_is_trouble_until_the_right_one_is_seen() -> None:
    verdict = Verdict(OURS, H)
    verdict.observed(OURS, 0)
    verdict.observed(OTHER, H)
    said = f"observed address {OTHER} is not {OURS}"
    assert verdict.trouble(H) == said
    assert verdict.due_ns == H + 60 * S, "it is asked again soon"
    verdict.silent("the echo is away", H + 60 * S)
    assert verdict.trouble(9 * H) == said, "silence mends nothing"
    verdict.observed(OURS, 9 * H)
    assert verdict.trouble(9 * H) is None


def test_a_silent_echo_keeps_what_it_said_for_three_rounds() -> None:
    verdict = Verdict(OURS, H)
    verdict.observed(OURS, 0)
    verdict.silent("the echo is away", H)
    assert verdict.trouble(3 * H - 1) is None
    assert verdict.trouble(3 * H) == f"address {OURS} is not confirmed any more: the echo is away"


@given(
    st.integers(1, 2 * H),
    st.lists(st.tuples(st.integers(0, H), st.sampled_from([OURS, OTHER, None])), max_size=30),
)
def test_whatever_is_observed_what_leaves_was_confirmed_not_long_ago(
    every: int, answers: list[tuple[int, str | None]]
) -> None:
    verdict, now = Verdict(OURS, every), 0
    seen, seen_ns = "", 0
    for later, answer in answers:
        now += later
        if answer is None:
            verdict.silent("away", now)
        else:
            verdict.observed(answer, now)
            seen, seen_ns = answer, now
        assert now < verdict.due_ns <= now + every
        right = seen == OURS and now < seen_ns + 3 * every
        assert (verdict.trouble(now) is None) == right
