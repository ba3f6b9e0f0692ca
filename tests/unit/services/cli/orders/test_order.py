"""An order as people read it."""

import pytest

from services.cli.orders.order import make_order, new_id, shown
from shared.records.control import OrderedRate
from shared.records.selector import Selector

S = 1_000_000_000
UNTIL = 1_800_000_000 * S
AT = "2027-01-15T08:00:00.000Z"


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({}, ""),
        ({"percent": 25}, " to 25%"),
        ({"rate": OrderedRate(count=600, period_ns=60 * S, burst=10)}, " to 600+10/min"),
        (
            {"bytes": OrderedRate(count=50 << 20, period_ns=60 * S), "connections": 3},
            " to 50MiB/min, 3 connections",
        ),
        (
            {"total_rate": OrderedRate(count=6000, period_ns=3600 * S)},
            " to 6000/h over all sources",
        ),
    ],
)
def test_an_orders_terms_are_written_as_they_are_typed(terms: dict[str, object], said: str) -> None:
    order = make_order("o-1", "limit", Selector(provider="gmail"), "why", "ada", UNTIL, **terms)
    assert shown(order) == f"provider=gmail{said}, until {AT}, by ada: why [o-1]"


def test_what_is_done_once_does_not_end_but_is_looked_at_until_then() -> None:
    order = make_order("o-1", "reroute", Selector(tag="a"), "why", "ada", UNTIL, pool="relay")
    assert shown(order) == f"tag=a to pool relay, looked at until {AT}, by ada: why [o-1]"


def test_a_pause_without_an_end_says_so() -> None:
    order = make_order("o-1", "pause", Selector(tag="a"), "why", "ada", None)
    assert shown(order) == "tag=a, until resumed, by ada: why [o-1]"


def test_no_two_orders_have_the_same_id() -> None:
    assert len({new_id("pause") for _ in range(100)}) == 100
