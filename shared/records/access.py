"""What each service does with which topic: the least that it must be allowed in Kafka, and the topics that it asks for at its start. Pure.

A stolen credential is worth what its row says. A sender's shows the mail that is under way from its slots, and no more: not what platforms
submit, not what waits, not who was mailed before. ``platform`` is a program that produces submissions and follows the events.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shared.records.topics import CLASSES, Topics


@dataclass(frozen=True, slots=True)
class Access:
    """The topics of one service, by what it does with them, and its group, which also begins its transactional ids."""

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    #: Deletes the records that nobody needs any more.
    trims: frozenset[str] = frozenset()
    #: Creates, and sets as they are declared.
    declares: frozenset[str] = frozenset()
    group: str | None = None

    @property
    def used(self) -> frozenset[str]:
        """Give every topic that it has to do with."""
        return self.reads | self.writes | self.trims | self.declares


#: Who there is, and what of them is said to people.
SERVICES: Final[Mapping[str, str]] = {
    "ingest": "python -m services.ingest",
    "scheduler": "python -m services.scheduler",
    "sender": "python -m services.sender",
    "cli": "postyard topics, config, pause and so on",
    "platform": "a program that submits mail and follows the events",
}


def group(service: str) -> str:
    """Name the group of a service, without the prefix."""
    return f"postyard-{service}"


def access(service: str, topics: Topics) -> Access:
    """Say what ``service`` does; raises KeyError for one that is not in SERVICES."""
    submissions = frozenset(map(topics.submissions, CLASSES))
    deliveries = frozenset(map(topics.deliveries, CLASSES))
    everything = submissions | deliveries | {
        topics.dispatch,
        topics.outcomes,
        topics.events,
        topics.state,
        topics.control,
        topics.suppressions,
        topics.keys,
        topics.bodies,
        topics.rejected,
        topics.members,
    }  # fmt: skip
    return {
        "ingest": Access(
            reads=submissions | {topics.keys, topics.control, topics.members},
            # A submission with a key goes to the partition of its key.
            writes=submissions
            | deliveries
            | {topics.keys, topics.events, topics.bodies, topics.rejected},
            group=topics.prefix + group("ingest"),
        ),
        "scheduler": Access(
            reads=deliveries | {topics.outcomes, topics.state, topics.control, topics.members},
            writes=deliveries
            | {topics.dispatch, topics.outcomes, topics.events, topics.state}
            | {topics.control, topics.rejected},
            trims=deliveries,
            group=topics.prefix + group("scheduler"),
        ),
        "sender": Access(
            reads=frozenset({topics.dispatch, topics.bodies, topics.control}),
            writes=frozenset({topics.outcomes, topics.control}),
        ),
        "cli": Access(
            reads=frozenset({topics.control}),
            writes=frozenset({topics.control}),
            declares=everything,
        ),
        "platform": Access(reads=frozenset({topics.events}), writes=submissions),
    }[service]
