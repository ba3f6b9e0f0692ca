"""A topic prefix of one's own, and no topic left under it."""

import asyncio
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from aiokafka.admin import AIOKafkaAdminClient


@contextmanager
def own_prefix(bootstrap: str) -> Iterator[str]:
    """Give a prefix that nobody else has; its topics are deleted behind it."""
    ours = f"t{secrets.token_hex(4)}."
    yield ours
    # A thread has no loop yet: an asyncio.run here would take away the one that the test's other fixtures close in.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _delete_topics(bootstrap, ours)).result()


async def _delete_topics(bootstrap: str, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        if ours := [topic for topic in await admin.list_topics() if topic.startswith(prefix)]:
            await admin.delete_topics(ours)
    finally:
        await admin.close()
