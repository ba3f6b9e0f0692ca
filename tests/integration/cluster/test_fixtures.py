"""The session's broker and the prefix, as every other test relies on them."""

import asyncio

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.support.prefix import own_prefix


async def topics(bootstrap: str, *, create: str | None = None) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        if create:
            await admin.create_topics([NewTopic(create, 1, 1)])
        return list(await admin.list_topics())
    finally:
        await admin.close()


async def test_a_prefix_leaves_no_topic_behind_and_touches_no_other(
    kafka: str, prefix: str
) -> None:
    others = f"{prefix}mail.events"
    await topics(kafka, create=others)
    with own_prefix(kafka) as ours:
        assert ours != prefix
        await topics(kafka, create=f"{ours}mail.events")
        async with asyncio.timeout(30):
            # A broker lists a topic a moment after the controller has made it.
            while f"{ours}mail.events" not in await topics(kafka):
                await asyncio.sleep(0.1)
    async with asyncio.timeout(30):
        while any(topic.startswith(ours) for topic in await topics(kafka)):
            await asyncio.sleep(0.1)
    assert others in await topics(kafka)
