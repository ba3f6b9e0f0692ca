"""Topics become what is declared, and what cannot be made so is said with what to do about it."""

import asyncio

import pytest

from shared.kafka.admin import apply_topics, check_topics, forgotten_too_soon
from shared.kafka.errors import TopicProblem
from shared.records.topics import Topics, TopicSpec, declared
from tests.support.kafka import Log


async def _settings(log: Log, name: str) -> dict[str, str]:
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # noqa: PLC0415

    admin = await log.cluster.admin()
    responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    return {entry[0]: entry[1] for entry in responses[0].resources[0][4]}


async def test_everything_that_is_declared_is_created_and_then_well(log: Log) -> None:
    specs = declared(Topics(log.prefix), partitions=2, slots=3, replication=1, min_insync=1)
    assert len(await check_topics(log.cluster, specs)) == len(specs)
    applied = await apply_topics(log.cluster, specs)
    assert sorted(applied.created) == sorted(spec.name for spec in specs)
    assert (applied.altered, applied.problems) == ([], [])
    assert await check_topics(log.cluster, specs) == []
    again = await apply_topics(log.cluster, specs)
    assert (again.created, again.altered, again.problems) == ([], [], [])


async def test_settings_are_altered_and_those_of_an_operator_kept(log: Log) -> None:
    name = log.prefix + "a"
    await apply_topics(
        log.cluster, [TopicSpec(name, 1, 1, {"retention.ms": "1000", "flush.messages": "77"})]
    )
    wanted = TopicSpec(name, 1, 1, {"retention.ms": "2000", "max.message.bytes": "5000"})
    problems = await check_topics(log.cluster, [wanted])
    assert len(problems) == 2
    assert (
        problems[0]
        == f"{name}: retention.ms is 1000, 2000 is declared; run `postyard topics apply`"
    )
    applied = await apply_topics(log.cluster, [wanted])
    assert applied.problems == []
    assert len(applied.altered) == 1
    settings = await _settings(log, name)
    assert settings["retention.ms"] == "2000"
    assert settings["flush.messages"] == "77"


async def test_partitions_are_never_raised_silently(log: Log) -> None:
    name = log.prefix + "a"
    await apply_topics(log.cluster, [TopicSpec(name, 2, 1)])
    applied = await apply_topics(log.cluster, [TopicSpec(name, 4, 1)])
    assert (applied.created, applied.altered) == ([], [])
    [problem] = applied.problems
    assert problem.startswith(f"{name}: has 2 partitions, 4 are declared; set kafka.partitions")
    assert await log.cluster.end_offsets([(name, 0), (name, 1)]) == {(name, 0): 0, (name, 1): 0}
    with pytest.raises(TopicProblem):
        await log.cluster.end_offsets([(name, 2)])


async def test_a_replication_that_differs_is_said(log: Log) -> None:
    name = log.prefix + "a"
    await apply_topics(log.cluster, [TopicSpec(name, 1, 1)])
    [problem] = await check_topics(log.cluster, [TopicSpec(name, 1, 3)])
    assert problem.startswith(f"{name}: has 1 replicas, 3 are declared; ")


async def test_what_cannot_be_created_is_said_by_name(log: Log) -> None:
    name = log.prefix + "a"
    with pytest.raises(TopicProblem, match=f"{name}: cannot be created: InvalidReplicationFactor"):
        await apply_topics(log.cluster, [TopicSpec(name, 1, 7)])
    with pytest.raises(TopicProblem, match=f"{name}: cannot be created: InvalidConfig"):
        await apply_topics(log.cluster, [TopicSpec(name, 1, 1, {"retention.ms": "soon"})])


async def test_two_that_apply_at_once_do_not_disturb_each_other(log: Log) -> None:
    specs = [TopicSpec(f"{log.prefix}{at}", 2, 1, {"retention.ms": "1000"}) for at in range(5)]
    both = await asyncio.gather(*(apply_topics(log.cluster, specs) for _ in range(2)))
    assert [applied.problems for applied in both] == [[], []]


async def test_brokers_that_forget_offsets_before_the_records_are_gone_are_remarked_on(
    log: Log,
) -> None:
    # This one keeps them for as long as mail.submissions its records, 14 days.
    as_long = TopicSpec("a", 1, 1, {"retention.ms": str(14 * 86_400_000)})
    longer = TopicSpec("b", 1, 1, {"retention.ms": str(15 * 86_400_000)})
    [remark] = await forgotten_too_soon(log.cluster, [as_long, longer])
    assert remark.startswith("b: its records stay for 21600 minutes, and the brokers forget ")
    assert "after 20160 (offsets.retention.minutes)" in remark
