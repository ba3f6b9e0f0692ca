import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.cli.lanes import AsItIs, Grown, Refused, grow
from shared.records.lanemap import LaneMap
from shared.runtime.settings import Kafka, Provider, Settings, Source

NAMES = st.sets(st.sampled_from(["gmail", "yahoo", "apple", "gmx", "qq", "orange"]))
RELAYS = st.sets(st.sampled_from(["relay-1", "relay-2"]))


def settings(providers: set[str], relays: set[str], partitions: int = 4) -> Settings:
    return Settings(
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
