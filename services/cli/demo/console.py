"""A console producer and a console consumer, for a cluster that ``up`` started: lines in, lines out."""

import asyncio
import signal
import sys
from collections.abc import Iterable
from typing import Final

from services.cli.demo.stage import Stage
from shared.kafka.cluster import Position, connect
from shared.records.codec import split
from shared.records.topics import Topics
from shared.runtime.loading import load

_POLL_MS: Final = 500


async def produce(stage: Stage, class_: str, lines: Iterable[bytes]) -> int:
    """Append each line to mail.submissions.<class>, as a console producer does; gives how many."""
    settings = load(stage.config, stage.environment())
    cluster = connect(settings.kafka, client_id="postyard-demo")
    topic, count = Topics(settings.kafka.prefix).submissions(class_), 0
    try:
        producer = await cluster.producer()
        try:
            for line in lines:
                if line.strip():
                    await producer.send(topic, count % settings.kafka.partitions, line.strip())
                    count += 1
        finally:
            await producer.stop()
    finally:
        await cluster.close()
    return count


async def follow(stage: Stage, begin: Position) -> None:
    """Print the line of each record of mail.events as it comes, until SIGINT.

    A flag, not a cancellation: one that arrives inside a Kafka client is not sure to come out of it.
    """
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    settings = load(stage.config, stage.environment())
    cluster = connect(settings.kafka, client_id="postyard-demo")
    topic = Topics(settings.kafka.prefix).events
    places = [(topic, partition) for partition in range(settings.kafka.partitions)]
    try:
        reader = await cluster.reader(dict.fromkeys(places, begin))
        try:
            while not stop.is_set():
                for record in await reader.poll(wait_ms=_POLL_MS):
                    sys.stdout.write(split(record.value or b"")[0].decode(errors="replace") + "\n")
                sys.stdout.flush()
        finally:
            await reader.stop()
    finally:
        await cluster.close()
