"""Every topic of Postyard, declared in one place: partitions, cleanup, retention, size (DESIGN: records and retention).

mail.deliveries has no time retention: its worker alone trims it with delete_records. Stamps that decide anything (mail.outcomes,
mail.control, mail.dispatch, mail.bodies, mail.submissions, mail.keys) are LogAppendTime: the broker's clock, not a producer's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

CLASSES: Final = ("transactional", "bulk")
MAX_RECORD_BYTES: Final = 36 * 1024 * 1024
_DAY_MS: Final = 24 * 3600 * 1000
_HOUR_MS: Final = 3600 * 1000


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What a topic must be; ``config`` values are as Kafka prints them."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics' names under one prefix (empty in production; a test has one of its own)."""

    prefix: str = ""

    def submissions(self, class_: str) -> str:
        """What platforms produce to."""
        return f"{self.prefix}mail.submissions.{class_}"

    def deliveries(self, class_: str) -> str:
        """One record per recipient; partition = where it is decided."""
        return f"{self.prefix}mail.deliveries.{class_}"

    def class_of(self, topic: str) -> str:
        """Say which class a submissions or deliveries topic is of."""
        return topic.rpartition(".")[2]

    @property
    def dispatch(self) -> str:
        """Grants; partition = slot."""
        return f"{self.prefix}mail.dispatch"

    @property
    def outcomes(self) -> str:
        """What senders say, and the scheduler's marks; partition = the one that granted."""
        return f"{self.prefix}mail.outcomes"

    @property
    def events(self) -> str:
        """What happened, for the world."""
        return f"{self.prefix}mail.events"

    @property
    def state(self) -> str:
        """The scheduler's memory, compacted."""
        return f"{self.prefix}mail.state"

    @property
    def control(self) -> str:
        """Claims, heartbeats, lane map, directives; one partition."""
        return f"{self.prefix}mail.control"

    @property
    def suppressions(self) -> str:
        """Whom not to mail, compacted."""
        return f"{self.prefix}mail.suppressions"

    @property
    def keys(self) -> str:
        """Idempotency keys of the last day."""
        return f"{self.prefix}mail.keys"

    @property
    def bodies(self) -> str:
        """Large and shared bodies."""
        return f"{self.prefix}mail.bodies"

    @property
    def rejected(self) -> str:
        """What could not be read."""
        return f"{self.prefix}mail.rejected"

    @property
    def members(self) -> str:
        """Always empty; carries group membership."""
        return f"{self.prefix}mail.members"


def declared(
    topics: Topics,
    *,
    partitions: int,
    slots: int,
    replication: int,
    min_insync: int,
    max_lifetime_ms: int = 7 * _DAY_MS,
) -> list[TopicSpec]:
    """List every topic as it must be."""
    base = {
        "max.message.bytes": str(MAX_RECORD_BYTES),
        "min.insync.replicas": str(min_insync),
    }
    append = {"message.timestamp.type": "LogAppendTime"}
    # Small segments: the log's head can only be compacted or deleted a whole segment at a time.
    compact = {
        "cleanup.policy": "compact",
        "segment.bytes": str(64 << 20),
        "min.cleanable.dirty.ratio": "0.2",
    }

    def spec(
        name: str, count: int, *configs: Mapping[str, str], keep_ms: int | None = None
    ) -> TopicSpec:
        config = dict(base)
        for more in configs:
            config |= more
        if keep_ms is not None:
            config |= {
                "cleanup.policy": config.get("cleanup.policy", "delete"),
                "retention.ms": str(keep_ms),
            }
        return TopicSpec(name, count, replication, config)

    return [
        *(spec(topics.submissions(c), partitions, append, keep_ms=14 * _DAY_MS) for c in CLASSES),
        *(spec(topics.deliveries(c), partitions, keep_ms=-1) for c in CLASSES),
        spec(topics.dispatch, slots, append, keep_ms=_HOUR_MS),
        spec(topics.outcomes, partitions, append, keep_ms=14 * _DAY_MS),
        spec(topics.events, partitions, keep_ms=14 * _DAY_MS),
        # A tombstone for each delivery that ended: a day's, the default, would be most of what a restart has to read. A reader that has
        # begun at the start must be at the end before they go.
        spec(topics.state, partitions, compact, {"delete.retention.ms": str(_HOUR_MS // 4)}),
        spec(topics.control, 1, compact, append),
        spec(topics.suppressions, partitions, compact),
        spec(
            topics.keys,
            partitions,
            # An hour at a time: what is deleted or compacted is whole segments, and a restart of ingest reads the rest.
            append,
            {"cleanup.policy": "compact,delete", "segment.ms": str(_HOUR_MS)},
            keep_ms=_DAY_MS,
        ),
        spec(topics.bodies, partitions, append, keep_ms=max_lifetime_ms + 2 * _DAY_MS),
        spec(topics.rejected, partitions, keep_ms=14 * _DAY_MS),
        spec(topics.members, partitions, keep_ms=_DAY_MS),
    ]
