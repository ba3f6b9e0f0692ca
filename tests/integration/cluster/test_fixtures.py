"""The session's broker and the prefix, as every other test relies on them."""

from collections.abc import Iterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

seen: list[str] = []


async def topics(bootstrap: str, *, create: str | None = None) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        if create:
            await admin.create_topics([NewTopic(create, 1, 1)])
        return list(await admin.list_topics())
    finally:
        await admin.close()


@pytest.fixture(params=["first", "second"])
def order(request: pytest.FixtureRequest) -> Iterator[str]:
    return iter([request.param])


async def test_a_topic_is_gone_when_the_next_test_runs(
    kafka: str, prefix: str, order: Iterator[str]
) -> None:
    there = await topics(kafka, create=f"{prefix}mail.events")
    assert f"{prefix}mail.events" in there
    if next(order) == "second":
        assert seen
        assert prefix not in seen
        assert not [topic for topic in there if topic.startswith(seen[0])]
    seen.append(prefix)
