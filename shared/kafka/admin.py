"""Topics as they are declared: created where they are missing, checked where they are there. Nothing is changed silently.

A partition count is never raised here: which partition decides about a delivery depends on it. What an operator has set on a topic beside
what is declared stays as it is.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.metadata import MetadataRequest

from shared.kafka.cluster import Cluster
from shared.kafka.errors import (
    ACL,
    THEIRS,
    KafkaUnavailable,
    NotAllowed,
    TopicProblem,
    refuse_unseen,
    translate,
)
from shared.records.topics import TopicSpec

_APPLY: Final = "run `postyard topics apply`"
_APPEAR_S: Final = 15.0
_LOOK_S: Final = 0.1
_OFFSETS_KEPT: Final = "offsets.retention.minutes"
_MINUTE_MS: Final = 60_000
# Of a topic's settings as the broker lists them: set on the topic itself, not on the broker and not by default.
_OF_THE_TOPIC: Final = 1


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done, and what is left for a person."""

    created: list[str]
    altered: list[str]
    problems: list[str]


@dataclass(frozen=True, slots=True)
class _Found:
    """A topic as it is."""

    partitions: int
    replication: int
    leaderless: int
    config: Mapping[str, str]
    own: Mapping[str, str]


async def apply_topics(cluster: Cluster, declared: Iterable[TopicSpec]) -> Applied:
    """Create the missing topics and set the configurations; a wrong partition count stays a problem."""
    declared = list(declared)
    admin = await cluster.admin()
    try:
        found = await _look(admin, declared)
        missing = [spec for spec in declared if spec.name not in found]
        if missing:
            await _create(admin, missing)
            await _until(admin, missing, lambda _, one: not one.leaderless)
        altered = []
        for spec in declared:
            if spec.name in found and (wrong := _differences(spec, found[spec.name])):
                await _alter(admin, spec, found[spec.name])
                await _until(admin, [spec], lambda spec, one: not _differences(spec, one))
                altered.append(f"{spec.name}: {', '.join(wrong)}")
    except (*THEIRS, TimeoutError) as error:
        raise translate(error) from error
    return Applied([spec.name for spec in missing], altered, await check_topics(cluster, declared))


async def check_topics(cluster: Cluster, declared: Iterable[TopicSpec]) -> list[str]:
    """Say what is not as declared, and what to do about it; empty: all is well."""
    declared = list(declared)
    admin = await cluster.admin()
    try:
        found = await _look(admin, declared)
    except (*THEIRS, TimeoutError) as error:
        raise translate(error) from error
    return [problem for spec in declared for problem in _problems(spec, found.get(spec.name))]


async def forgotten_too_soon(cluster: Cluster, read: Iterable[TopicSpec]) -> list[str]:
    """Say of the topics ``read`` by a group whose brokers forget how far before the records go; none of a broker that does not tell us.

    A group that comes back in between finds no offset, and begins at the start of what is still there.
    """
    admin = await cluster.admin()
    minutes = []
    for node in _nodes(admin):
        # One that is away tells nothing either.
        with suppress(*THEIRS, TimeoutError):
            asked = (ConfigResourceType.BROKER, str(node), [_OFFSETS_KEPT])
            for _code, _message, _type, _name, entries, *_ in await _configs(admin, node, [asked]):
                minutes += [
                    int(value) for key, value, *_ in entries if key == _OFFSETS_KEPT and value
                ]
    if not minutes:
        return []
    kept = min(minutes)
    return [
        f"{spec.name}: its records stay for {_minutes(spec)} minutes, and the brokers forget how far a group has read after {kept} "
        f"({_OFFSETS_KEPT}); an ingest that stood still for longer would accept again what has long ended: set at least {_minutes(spec)}"
        for spec in read
        if _minutes(spec) > kept
    ]


def _minutes(spec: TopicSpec) -> int:
    return int(spec.config["retention.ms"]) // _MINUTE_MS


def _problems(spec: TopicSpec, found: _Found | None) -> Iterable[str]:
    if found is None:
        yield f"{spec.name}: there is no such topic; {_APPLY}"
        return
    if found.partitions != spec.partitions:
        yield (
            f"{spec.name}: has {found.partitions} partitions, {spec.partitions} are declared; set kafka.partitions (or kafka.slots, "
            f"for mail.dispatch) to what is there, or create the topic anew while it is empty"
        )
    if found.replication != spec.replication:
        yield (
            f"{spec.name}: has {found.replication} replicas, {spec.replication} are declared; set kafka.replication to what is there, "
            f"or move the replicas with kafka-reassign-partitions"
        )
    if found.leaderless:
        yield (
            f"{spec.name}: {found.leaderless} of {found.partitions} partitions have no leader, a leader each is needed; "
            f"start the brokers that hold them"
        )
    for wrong in _differences(spec, found):
        yield f"{spec.name}: {wrong}; {_APPLY}"


def _differences(spec: TopicSpec, found: _Found) -> list[str]:
    return [
        f"{key} is {found.config.get(key)}, {value} is declared"
        for key, value in spec.config.items()
        if found.config.get(key) != value
    ]


def _nodes(admin: Any) -> list[int]:
    """Give the brokers that there are, as far as the client knows."""
    return [broker.nodeId for broker in admin._client.cluster.brokers()]  # noqa: SLF001


async def _look(
    admin: Any, declared: list[TopicSpec], node: int | None = None
) -> dict[str, _Found]:
    """Give the topics as one broker knows them, ``node`` or any: two that do not know the same would not answer to each other."""
    # aiokafka's own questions go to another broker each time.
    node = admin._client.get_random_node() if node is None else node  # noqa: SLF001
    names = [spec.name for spec in declared]
    metadata = await admin._send_request(MetadataRequest(names), node)  # noqa: SLF001
    topics = metadata.to_object()["topics"]
    refuse_unseen(topics)
    described = {
        topic["topic"]: topic["partitions"]
        for topic in topics
        # A topic without a leader is there all the same.
        if topic["partitions"]
    }
    configs: dict[str, dict[str, str]] = {}
    own: dict[str, dict[str, str]] = {}
    asked = [(ConfigResourceType.TOPIC, name, None) for name in described]
    for code, message, _type, name, entries, *_ in await _configs(admin, node, asked):
        if code == TopicAuthorizationFailedError.errno:
            raise NotAllowed(f"{name}: DescribeConfigs is needed; {ACL}")
        if code == UnknownTopicOrPartitionError.errno:
            # Deleted since.
            continue
        if code:
            raise KafkaUnavailable(
                f"{name}: its settings cannot be read: {for_code(code).__name__} {message}"
            )
        configs[name] = {key: value for key, value, *_ in entries}
        own[name] = {
            key: value for key, value, _read_only, source, *_ in entries if source == _OF_THE_TOPIC
        }
    return {
        name: _Found(
            len(partitions),
            min(len(partition["replicas"]) for partition in partitions),
            sum(partition["leader"] < 0 for partition in partitions),
            configs[name],
            own[name],
        )
        for name, partitions in described.items()
        if name in configs
    }


async def _configs(admin: Any, node: int, asked: list[Any]) -> list[Any]:
    """Ask this broker for settings; ``asked``: each kind, name, and which or None for all."""
    response = await admin._send_request(DescribeConfigsRequest(asked), node)  # noqa: SLF001
    resources: list[Any] = response.resources
    return resources


async def _create(admin: Any, missing: list[TopicSpec]) -> None:
    new = [
        NewTopic(
            name=spec.name,
            num_partitions=spec.partitions,
            replication_factor=spec.replication,
            topic_configs=dict(spec.config),
        )
        for spec in missing
    ]
    response = await admin.create_topics(new)
    refused = [
        f"{name}: cannot be created: {for_code(code).__name__} {' '.join(map(str, message))}"
        for name, code, *message in response.topic_errors
        # Somebody else may have been faster.
        if code and for_code(code) is not TopicAlreadyExistsError
    ]
    if refused:
        raise TopicProblem("\n".join(refused))


async def _until(
    admin: Any, changed: list[TopicSpec], right: Callable[[TopicSpec, _Found], bool]
) -> None:
    """Wait until every broker knows them, and as they should be: each hears of them by itself, after the controller has answered."""

    async def knows(node: int) -> bool:
        try:
            found = await _look(admin, changed, node)
        except THEIRS as error:
            # One that was just lost is among the brokers until its session ends.
            if isinstance(ours := translate(error), KafkaUnavailable):
                return False
            raise ours from error
        return all(spec.name in found and right(spec, found[spec.name]) for spec in changed)

    async with asyncio.timeout(_APPEAR_S):
        while True:
            if all([await knows(node) for node in _nodes(admin)]):
                return
            await asyncio.sleep(_LOOK_S)


async def _alter(admin: Any, spec: TopicSpec, found: _Found) -> None:
    # aiokafka has only the request that replaces a topic's settings as a whole: what is not in it is reset.
    settings = dict(found.own) | dict(spec.config)
    resource = ConfigResource(ConfigResourceType.TOPIC, spec.name, configs=settings)
    for response in await admin.alter_configs([resource]):
        for error, message, *_ in response.resources:
            if error:
                raise TopicProblem(
                    f"{spec.name}: cannot be altered: {for_code(error).__name__} {message}"
                )
