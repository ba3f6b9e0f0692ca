"""Reads a partition's idempotency keys back: before its worker runs, and after the older owner was fenced, so that none is missing."""

import asyncio
from typing import Final

from services.ingest.keys import Keys, Taken
from shared.kafka.cluster import Cluster
from shared.kafka.reader import Place
from shared.records.codec import Newer, NewerRecord, Unreadable
from shared.records.key import KEY
from shared.runtime.clock import Clock

_PORTION: Final = 5_000
_POLL_MS: Final = 100
_MS: Final = 1_000_000


async def restore(keys: Keys, cluster: Cluster, here: Place, clock: Clock) -> None:
    """Let ``keys`` have those that were taken in the last day.

    Raises NewerRecord: a newer version accepted them, and only that one knows what it meant.
    """
    end = (await cluster.end_offsets([here]))[here]
    reader = await cluster.reader({here: "start"})
    try:
        while reader.position(here) < end:
            for record in await reader.poll(max_records=_PORTION, wait_ms=_POLL_MS):
                name, read = (record.key or b"").decode(errors="replace"), KEY.decode(record.value)
                if isinstance(read, Newer):
                    raise NewerRecord(f"mail.keys, key {name!r}: {read.reason}")
                # What nobody of us wrote says nothing about a submission.
                if not isinstance(read, Unreadable):
                    of = bytes.fromhex(read.fingerprint)
                    keys.take(name, Taken(read.class_, read.offset, of), record.timestamp)
            # Kafka deletes whole segments: what lies before them is older.
            keys.forget(clock.now_ns() // _MS)
            await asyncio.sleep(0)
    finally:
        await reader.stop()
