"""What a process requires of Kafka before it does anything: the topics, as this configuration declares them.

A topic with another partition count sends mail to partitions that nobody decides for; one with a shorter retention loses it. So both
end the process at its start, with what to do about it.
"""

from typing import Final

from shared.kafka.admin import check_topics
from shared.kafka.cluster import connect
from shared.kafka.errors import TopicProblem
from shared.records.access import access
from shared.records.topics import Topics, TopicSpec, declared
from shared.runtime.settings import Settings

_MS: Final = 1_000_000


def declared_topics(settings: Settings) -> list[TopicSpec]:
    """List the topics as this configuration wants them."""
    kafka = settings.kafka
    return declared(
        Topics(kafka.prefix),
        partitions=kafka.partitions,
        slots=kafka.slots,
        replication=kafka.replication,
        min_insync=kafka.min_insync,
        max_lifetime_ms=settings.ingest.max_lifetime_ns // _MS,
    )


async def require_topics(settings: Settings, service: str, *, client_id: str) -> None:
    """Ask Kafka once for the topics that ``service`` uses; raises TopicProblem with all that differs, NotAllowed, KafkaUnavailable.

    It may not even ask for others: see ``shared.records.access``.
    """
    used = access(service, Topics(settings.kafka.prefix)).used
    wanted = [spec for spec in declared_topics(settings) if spec.name in used]
    cluster = connect(settings.kafka, client_id=client_id)
    try:
        problems = await check_topics(cluster, wanted)
    finally:
        await cluster.close()
    if problems:
        raise TopicProblem("; ".join(problems))
