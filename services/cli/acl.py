"""Kafka's access rights for each service, as an operator grants them: commands for kafka-acls, or Strimzi's KafkaUsers. Pure.

And the topics, for those who declare them as Strimzi's KafkaTopics.

Every right is named for a topic, a group or a transactional id of ours alone, so that a cluster may be shared. Nothing is denied: without
a right there is none (allow.everyone.if.no.acl.found must be false, as it is by default).
"""

import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from shared.records.access import Access
from shared.records.topics import TopicSpec

#: Of kafka-acls, and in the same words of KafkaUsers.
Kind = Literal["topic", "group", "transactionalId"]
_OPTION: Final[Mapping[Kind, str]] = {
    "topic": "--topic",
    "group": "--group",
    "transactionalId": "--transactional-id",
}


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """What may be done with something."""

    kind: Kind
    name: str
    operations: tuple[str, ...]
    prefixed: bool = False


def rights(access: Access) -> list[Right]:
    """List what ``access`` takes; topics that are used in the same way stand together."""
    operations: defaultdict[str, list[str]] = defaultdict(list)
    # Reading and writing imply Describe. DescribeConfigs: each service compares its topics with what is declared.
    for names, more in (
        (access.reads, ("Read",)),
        (access.writes, ("Write",)),
        (access.trims, ("Delete",)),
        (access.declares, ("Create", "AlterConfigs", "Describe")),
        (access.used, ("DescribeConfigs",)),
    ):
        for name in sorted(names):
            operations[name] += more
    found = [Right("topic", name, tuple(sorted(set(ops)))) for name, ops in operations.items()]
    if access.group is not None:
        found.append(Right("group", access.group, ("Read",)))
        # One for each partition: its group, a hyphen, the number.
        found.append(
            Right("transactionalId", f"{access.group}-", ("Describe", "Write"), prefixed=True)
        )
    return sorted(found, key=lambda right: (right.kind, right.operations, right.name))


def commands(principal: str, granted: Sequence[Right], *, tool: str, server: str) -> Iterator[str]:
    """Write kafka-acls's commands; one for all that share kind and operations."""
    for (kind, operations, prefixed), names in _alike(granted).items():
        words = [*tool.split(), "--bootstrap-server", server, "--add"]
        words += ["--allow-principal", f"User:{principal}"]
        for operation in operations:
            words += ["--operation", operation]
        for name in names:
            words += [_OPTION[kind], name]
        if prefixed:
            words += ["--resource-pattern-type", "prefixed"]
        yield shlex.join(words)


def kafka_user(
    principal: str, granted: Sequence[Right], *, authentication: str, cluster: str
) -> str:
    """Write one KafkaUser (kafka.strimzi.io) of a Strimzi cluster."""
    lines = [
        "apiVersion: kafka.strimzi.io/v1",
        "kind: KafkaUser",
        "metadata:",
        f"  name: {principal}",
        "  labels:",
        f"    strimzi.io/cluster: {cluster}",
        "spec:",
        "  authentication:",
        f"    type: {authentication}",
        "  authorization:",
        "    type: simple",
        "    acls:",
    ]
    for right in granted:
        lines += [
            "      - resource:",
            f"          type: {right.kind}",
            f"          name: {right.name}",
            f"          patternType: {'prefix' if right.prefixed else 'literal'}",
            f"        operations: [{', '.join(right.operations)}]",
        ]
    return "\n".join(lines)


def kafka_topic(spec: TopicSpec, *, cluster: str) -> str:
    """Write one KafkaTopic (kafka.strimzi.io) of a Strimzi cluster."""
    lines = [
        "apiVersion: kafka.strimzi.io/v1",
        "kind: KafkaTopic",
        "metadata:",
        f"  name: {spec.name}",
        "  labels:",
        f"    strimzi.io/cluster: {cluster}",
        "spec:",
        f"  partitions: {spec.partitions}",
        f"  replicas: {spec.replication}",
        "  config:",
        *(f'    {key}: "{value}"' for key, value in sorted(spec.config.items())),
    ]
    return "\n".join(lines)


def _alike(granted: Iterable[Right]) -> dict[tuple[Kind, tuple[str, ...], bool], list[str]]:
    found: dict[tuple[Kind, tuple[str, ...], bool], list[str]] = {}
    for right in granted:
        found.setdefault((right.kind, right.operations, right.prefixed), []).append(right.name)
    return found
