from dataclasses import replace

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.cli.lanes import AsItIs, Grown, Refused, grow
from shared.records.lanemap import LaneMap
from shared.runtime.settings import Pool, Provider, Settings, Source
from shared.runtime.workings import Kafka

NAMES = st.sets(st.sampled_from(["gmail", "yahoo", "apple", "gmx", "qq", "orange"]))
RELAYS = st.sets(st.sampled_from(["relay-1", "relay-2"]))


def settings(
    providers: set[str],
    relays: set[str],
    partitions: int = 4,
    lanes: dict[str, int] | None = None,
) -> Settings:
    return Settings(
        lanes=lanes or {},
        kafka=Kafka(partitions=partitions),
        providers={name: Provider(name) for name in providers},
        sources={
            name: Source(name, number, "smarthost", "none")
            for number, name in enumerate(sorted(relays))
        },
    )


def first(providers: set[str], relays: set[str], partitions: int = 4) -> LaneMap:
    grown = grow(None, settings(providers, relays, partitions))
    assert isinstance(grown, Grown)
    return grown.proposal


@given(NAMES, RELAYS)
def test_the_first_map_has_a_lane_for_everything_and_uses_every_partition(
    providers: set[str], relays: set[str]
) -> None:
    lanes = first(providers, relays).lanes
    assert {f"provider:{name}" for name in providers} <= set(lanes)
    assert {f"smarthost:{name}" for name in relays} <= set(lanes)
    assert set(lanes.values()) == set(range(4))


@given(NAMES, RELAYS)
def test_the_same_configuration_twice_changes_nothing(
    providers: set[str], relays: set[str]
) -> None:
    current = first(providers, relays)
    assert grow(current, settings(providers, relays)) == AsItIs(current)


@given(NAMES, RELAYS, NAMES, RELAYS, st.integers(1, 8))
def test_nothing_moves_when_the_map_grows(
    providers: set[str],
    relays: set[str],
    more: set[str],
    more_relays: set[str],
    partitions: int,
) -> None:
    before = first(providers, relays, partitions)
    match grow(before, settings(more, more_relays, partitions)):
        case AsItIs():
            assert more <= providers
            assert more_relays <= relays
        case Grown(proposal=after, added=added):
            assert after.version == before.version + 1
            assert before.lanes.items() <= after.lanes.items()
            assert set(added) == set(after.lanes) - set(before.lanes)
            for name in providers | more:
                # A provider decides under its own name, before it has a lane and after.
                place = [m.partition(m.lane(name, None, "")) for m in (before, after)]
                assert place[0] == place[1]
            for name in relays | more_relays:
                place = [m.partition(m.lane(None, None, "", name)) for m in (before, after)]
                assert place[0] == place[1]
        case Refused(reason=reason):
            raise AssertionError(reason)


def test_another_number_of_partitions_is_refused_with_what_to_set() -> None:
    match grow(first({"gmail"}, set()), settings({"gmail"}, set(), 8)):
        case Refused(reason=reason):
            assert "set kafka.partitions = 4" in reason
        case other:
            raise AssertionError(other)


def test_a_lane_that_is_no_longer_named_stays() -> None:
    before = first({"gmail", "yahoo"}, set())
    assert grow(before, settings({"gmail"}, set())) == AsItIs(before)


def test_a_map_with_more_buckets_keeps_them() -> None:
    before = msgspec.structs.replace(first({"gmail"}, set()), buckets=16)
    grown = grow(before, settings({"gmail", "yahoo"}, set()))
    assert isinstance(grown, Grown)
    assert grown.proposal.buckets == 16


def test_a_lane_moves_where_the_configuration_says_and_its_origin_is_kept() -> None:
    before = first({"gmail", "yahoo"}, set())
    place = before.lanes["provider:gmail"]
    pinned = settings({"gmail", "yahoo"}, set(), lanes={"provider:gmail": (place + 1) % 4})
    grown = grow(before, pinned)
    assert isinstance(grown, Grown)
    after = grown.proposal
    assert grown.moving == ("provider:gmail",)
    assert after.version == before.version + 1
    assert after.lanes == before.lanes | {"provider:gmail": (place + 1) % 4}
    assert after.origins == {"provider:gmail": place}
    assert grow(after, pinned) == AsItIs(after)
    back = grow(after, settings({"gmail", "yahoo"}, set(), lanes={"provider:gmail": place}))
    assert isinstance(back, Grown)
    assert back.proposal.began("provider:gmail") == place


def test_a_lane_that_is_not_named_stays_where_it_was_moved_to() -> None:
    before = first({"gmail"}, set())
    grown = grow(before, settings({"gmail"}, set(), lanes={"site:3": 0, "provider:gmail": 1}))
    assert isinstance(grown, Grown)
    assert grow(grown.proposal, settings({"gmail"}, set())) == AsItIs(grown.proposal)


def test_a_new_lane_that_is_put_elsewhere_at_once_is_handed_over_by_the_one_that_had_its_mail() -> (
    None
):
    before = first({"gmail"}, set())
    place = before.partition(before.lane("yahoo", None, "yahoo"))
    there = (place + 1) % 4
    grown = grow(before, settings({"gmail", "yahoo"}, set(), lanes={"provider:yahoo": there}))
    assert isinstance(grown, Grown)
    assert (grown.added, grown.moving) == (("provider:yahoo",), ("provider:yahoo",))
    assert grown.proposal.began("provider:yahoo") == place
    assert grown.proposal.partition("provider:yahoo") == there


def test_a_provider_whose_bucket_has_moved_stays_in_it() -> None:
    before = first({"gmail"}, set())
    bucket = before.lane("yahoo", None, "yahoo")
    moved = grow(before, settings({"gmail"}, set(), lanes={bucket: (before.lanes[bucket] + 1) % 4}))
    assert isinstance(moved, Grown)
    assert grow(moved.proposal, settings({"gmail", "yahoo"}, set())) == AsItIs(moved.proposal)
    match grow(moved.proposal, settings({"gmail", "yahoo"}, set(), lanes={"provider:yahoo": 0})):
        case Refused(reason=reason):
            assert f"its mail belongs to {bucket}, which has moved" in reason
        case other:
            raise AssertionError(other)


def test_a_bucket_that_is_not_there_is_refused() -> None:
    match grow(first({"gmail"}, set()), settings({"gmail"}, set(), lanes={"site:8": 0})):
        case Refused(reason=reason):
            assert "there are 8 site buckets" in reason
        case other:
            raise AssertionError(other)


def test_the_first_map_puts_lanes_where_the_configuration_says() -> None:
    grown = grow(None, settings({"gmail"}, set(), lanes={"provider:gmail": 3}))
    assert isinstance(grown, Grown)
    assert grown.proposal.lanes["provider:gmail"] == 3
    assert grown.proposal.origins == {}


def grouped(*slots: int, lanes: dict[str, int] | None = None) -> Settings:
    sources = {f"ip-{slot}": Source(f"ip-{slot}", slot, "bind", "none") for slot in slots}
    return Settings(
        lanes=lanes or {},
        kafka=Kafka(partitions=4, slots=1024),
        providers={name: Provider(name) for name in ("apple", "gmail")},
        sources=sources,
        pools={"all": Pool("all", dict.fromkeys(sources, 2))},
    )


def test_sources_beyond_the_first_group_get_lanes_of_their_own() -> None:
    grown = grow(None, grouped(0, 1, 130))
    assert isinstance(grown, Grown)
    assert grown.proposal.pools == {"all": {0: 4, 1: 2}}
    bases = {lane for lane in grown.proposal.lanes if "@" not in lane}
    assert {f"{lane}@1" for lane in bases} == grown.proposal.lanes.keys() - bases


def test_a_new_group_begins_where_the_first_is_decided_about_and_moves_on() -> None:
    before = grow(None, grouped(0, 1))
    assert isinstance(before, Grown)
    grown = grow(before.proposal, grouped(0, 1, 130))
    assert isinstance(grown, Grown)
    after = grown.proposal
    for lane, partition in before.proposal.lanes.items():
        assert after.partition(lane) == partition
        assert after.began(f"{lane}@1") == partition
        assert after.partition(f"{lane}@1") == (partition + 1) % 4
    assert grow(after, grouped(0, 1, 130)) == AsItIs(after)
    less = grow(after, grouped(0, 1))
    assert isinstance(less, Grown)
    assert less.proposal.lanes == after.lanes
    assert less.proposal.pools == {}


def test_a_first_group_that_moves_is_not_split_in_the_same_version() -> None:
    before = grow(None, grouped(0, 1))
    assert isinstance(before, Grown)
    there = (before.proposal.partition("provider:gmail") + 1) % 4
    refused = grow(before.proposal, grouped(0, 1, 130, lanes={"provider:gmail": there}))
    assert isinstance(refused, Refused)
    assert "provider:gmail is to move" in refused.reason


def test_a_new_provider_gets_a_lane_in_every_group_where_its_mail_goes_already() -> None:
    before = grow(None, grouped(0, 130))
    assert isinstance(before, Grown)
    more = grouped(0, 130)
    more = replace(more, providers={**more.providers, "gmx": Provider("gmx")})
    grown = grow(before.proposal, more)
    assert isinstance(grown, Grown)
    assert set(grown.added) == {"provider:gmx", "provider:gmx@1"}
    for group in (0, 1):
        old = before.proposal.lane("gmx", None, "gmx", group=group)
        new = grown.proposal.lane("gmx", None, "gmx", group=group)
        assert grown.proposal.partition(new) == before.proposal.partition(old)
