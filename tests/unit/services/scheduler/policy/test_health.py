"""Claims of the health: whose fault it is counts, it fades by half, whole numbers, and a few bad answers say little."""

from typing import cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy import health
from services.scheduler.policy.health import Kind
from shared.records.health import Health
from shared.records.outcome import Outcome, Result

HOUR = 3_600_000_000_000
START = 10**18
Kinds: st.SearchStrategy[Kind] = st.sampled_from(
    ["answer", "delivered", "deferred", "blocked", "complained"]
)
Traces = st.lists(st.tuples(Kinds, st.integers(0, HOUR)), min_size=1, max_size=40)


def counted(now: int = START, **kinds: int) -> Health:
    """Count so many of each kind at ``now``."""
    found: Health | None = None
    for kind, count in kinds.items():
        for _ in range(count):
            found = health.after(found, cast("Kind", kind), now, HOUR)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("result", "category", "scope", "kind"),
    [
        ("delivered", "", "", "delivered"),
        ("bounced", "invalid_mailbox", "recipient", "answer"),
        ("deferred", "mailbox_full", "recipient", "answer"),
        ("deferred", "greylist", "recipient", "answer"),
        ("deferred", "rate", "recipient", "answer"),
        ("bounced", "spam", "message", "answer"),
        ("deferred", "rate", "pair", "deferred"),
        ("pair_failed", "connection", "pair", "deferred"),
        ("deferred", "auth", "domain", "deferred"),
        ("bounced", "block", "pair", "blocked"),
        ("pair_failed", "ptr", "pair", "blocked"),
        ("deferred", "host", "provider", ""),
        ("unknown", "connection", "pair", ""),
    ],
)
def test_what_a_source_cannot_help_does_not_count_against_it(
    result: Result, category: str, scope: str, kind: Kind
) -> None:
    outcome = Outcome(id="d", n=1, slot=0, epoch=1, result=result, category=category, scope=scope)
    assert health.kind_of(outcome) == kind


def test_rates_are_shares_of_the_answers() -> None:
    of = counted(delivered=90, deferred=6, blocked=2, answer=2)
    rates = health.rates([of, counted(delivered=100)])
    assert rates == health.Rates(200.0, 0.95, 0.03, 0.01, 0.0)


def test_half_is_left_after_the_half_life_and_nothing_after_long() -> None:
    of = counted(delivered=1000)
    for hours, left in ((1, 500), (2, 250), (3, 125)):
        assert health.faded(of, START + hours * HOUR, HOUR).delivered == left << 16
    assert health.faded(of, START + 200 * HOUR, HOUR).answers == 0


@given(Traces, st.integers(1, 50))
def test_looking_often_changes_no_more_than_rounding(
    trace: list[tuple[Kind, int]], looks: int
) -> None:
    often, seldom, now = None, None, START
    for kind, wait in trace:
        for look in range(1, looks):
            if often is not None:
                often = health.faded(often, now + wait * look // looks, HOUR)
        now += wait
        often = health.after(often, kind, now, HOUR)
        seldom = health.after(seldom, kind, now, HOUR)
    assert often is not None
    assert seldom is not None
    for name in ("answers", "delivered", "deferred", "blocked", "complained"):
        one, other = getattr(often, name), getattr(seldom, name)
        assert abs(one - other) <= 64 + other // 1000


@given(Traces)
def test_parts_never_exceed_the_answers_and_survive_their_record(
    trace: list[tuple[Kind, int]],
) -> None:
    found, now = None, START
    for kind, wait in trace:
        now += wait
        found = health.after(found, kind, now, HOUR)
        assert found.delivered + found.deferred + found.blocked <= found.answers + 40
        assert 0 < health.weight(found) <= 1
        assert msgspec.json.decode(msgspec.json.encode(found), type=Health) == found


def test_weights_tell_the_well_from_the_ill_and_forgive() -> None:
    well = counted(delivered=500)
    slow = counted(delivered=400, deferred=100)
    ill = counted(delivered=400, blocked=100)
    disliked = counted(delivered=500, complained=2)
    unlucky = counted(deferred=1)
    assert health.weight(well) == 1
    assert health.weight(unlucky) > 0.9
    assert 1 > health.weight(slow) > health.weight(ill) >= 1 / 64
    assert 0.6 < health.weight(disliked) < 0.8
    later = health.faded(ill, START + 15 * HOUR, HOUR)
    assert health.weight(later) > 0.95


def test_joined_it_has_the_answers_of_both() -> None:
    one, other = counted(delivered=8), counted(START + HOUR, blocked=1)
    joined = health.joined(one, other, HOUR)
    assert joined is not None
    assert (joined.answers >> 16, joined.delivered >> 16, joined.blocked >> 16) == (5, 4, 1)
    assert health.joined(one, None, HOUR) == one
