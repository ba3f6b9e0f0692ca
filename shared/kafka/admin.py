"""Topics as they are declared: created where they are missing, checked where they are there. Nothing is changed silently.

A partition count is never raised here: which partition decides about a delivery depends on it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

from shared.kafka.cluster import Cluster
from shared.kafka.errors import TopicProblem, translate
from shared.records.topics import TopicSpec


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done, and what is left for a person."""

    created: list[str]
    altered: list[str]
    problems: list[str]


async def apply_topics(cluster: Cluster, declared: Iterable[TopicSpec]) -> Applied:
    """Create the missing topics and set the configurations; a wrong partition count stays a problem."""
    declared = list(declared)
    admin = await cluster.admin()
    try:
        known = set(await admin.list_topics())
        missing = [spec for spec in declared if spec.name not in known]
        if missing:
            await _create(admin, missing)
        altered = []
        for spec in declared:
            if spec.name in known and (wrong := await _differences(admin, spec)):
                await _alter(admin, spec)
                altered.append(f"{spec.name}: {', '.join(wrong)}")
    except KafkaError as error:
        raise translate(error) from error
    return Applied([spec.name for spec in missing], altered, await check_topics(cluster, declared))


async def check_topics(cluster: Cluster, declared: Iterable[TopicSpec]) -> list[str]:
    """Say what is not as declared, and what to do about it; empty: all is well."""
    declared, problems = list(declared), []
    admin = await cluster.admin()
    try:
        found = {
            topic["topic"]: topic
            for topic in await admin.describe_topics([spec.name for spec in declared])
            if not topic["error_code"]
        }
        for spec in declared:
            if spec.name not in found:
                problems.append(f"{spec.name}: there is no such topic; run `postyard topics apply`")
                continue
            count = len(found[spec.name]["partitions"])
            if count != spec.partitions:
                problems.append(
                    f"{spec.name}: has {count} partitions, {spec.partitions} are declared; set kafka.partitions (or kafka.slots, "
                    f"for mail.dispatch) to what is there, or create the topic anew while it is empty"
                )
            problems += [
                f"{spec.name}: {wrong}; run `postyard topics apply`"
                for wrong in await _differences(admin, spec)
            ]
    except KafkaError as error:
        raise translate(error) from error
    return problems


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
    for name, code, *message in response.topic_errors:
        # Somebody else may have been faster.
        if code and for_code(code).__name__ != "TopicAlreadyExistsError":
            raise TopicProblem(
                f"{name}: cannot be created: {for_code(code).__name__} {' '.join(map(str, message))}"
            )


async def _differences(admin: Any, spec: TopicSpec) -> list[str]:
    resource = ConfigResource(
        ConfigResourceType.TOPIC, spec.name, configs=dict.fromkeys(spec.config)
    )
    found: dict[str, str] = {}
    for response in await admin.describe_configs([resource]):
        for _error, _message, _type, _name, entries, *_ in response.resources:
            found |= {entry[0]: entry[1] for entry in entries}
    return [
        f"{key} is {found.get(key)}, {value} is declared"
        for key, value in spec.config.items()
        if found.get(key) != value
    ]


async def _alter(admin: Any, spec: TopicSpec) -> None:
    resource = ConfigResource(ConfigResourceType.TOPIC, spec.name, configs=dict(spec.config))
    for response in await admin.alter_configs([resource]):
        for error, message, *_ in response.resources:
            if error:
                raise TopicProblem(
                    f"{spec.name}: cannot be altered: {for_code(error).__name__} {message}"
                )
