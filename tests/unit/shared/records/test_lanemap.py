"""Which lane a delivery belongs to, over slot groups."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.records.codec import encode
from shared.records.control import CONTROL
from shared.records.lanemap import LaneMap, group_of, in_group, propose

RECIPIENTS = [f"u{number}@example.com" for number in range(4000)]


def over(pools: dict[str, dict[int, int]]) -> LaneMap:
    return propose(1, 4, ["gmail"], ["relay"], pools=pools)


def test_a_pool_in_the_first_group_has_lanes_without_a_number() -> None:
    lanes = over({})
    assert lanes.group("any", "u@example.com") == 0
    assert lanes.lane("gmail", "mx", "gmail.com") == "provider:gmail"
    assert lanes.groups == {0}


def test_a_pool_over_groups_is_shared_by_weight_and_each_recipient_stays_where_it_is() -> None:
    lanes = over({"big": {0: 3, 1: 1}})
    counts = Counter(lanes.group("big", recipient) for recipient in RECIPIENTS)
    assert counts[1] / len(RECIPIENTS) == pytest.approx(0.25, abs=0.03)
    assert lanes.groups == {0, 1}
    assert lanes.lane("gmail", None, "gmail.com", group=1) == "provider:gmail@1"
    assert lanes.lane(None, "mx.example", "example.com", group=1).endswith("@1")
    assert lanes.lane(None, None, "", "relay", group=1) == "smarthost:relay"


def test_another_group_moves_only_what_it_takes() -> None:
    before, after = over({"big": {0: 1, 1: 1}}), over({"big": {0: 1, 1: 1, 2: 1}})
    moves = [r for r in RECIPIENTS if before.group("big", r) != after.group("big", r)]
    assert {after.group("big", recipient) for recipient in moves} == {2}
    assert len(moves) / len(RECIPIENTS) == pytest.approx(1 / 3, abs=0.03)


@given(st.sampled_from(["gmail", "mx.example", "site:3", "smarthost:relay"]), st.integers(0, 500))
def test_the_lane_of_a_pair_is_one_of_its_keys(key: str, slot: int) -> None:
    lanes = over({"big": {0: 1, 1: 1, 2: 1, 3: 1}})
    lane = lanes.lane_of(key, group_of(slot))
    assert lane in lanes.lanes
    assert lanes.in_lane(key, lane)
    assert not lanes.in_lane(key, in_group("provider:another", group_of(slot)))


def test_a_map_with_groups_is_read_as_it_was_written() -> None:
    lanes = over({"big": {0: 3, 1: 1}})
    assert CONTROL.decode(encode(lanes)) == lanes
