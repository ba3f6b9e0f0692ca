"""scheduler.restore, scheduler.kafka: one scheduler process on a real Kafka, with a million deliveries that wait.

It is started where another one ended: it reads back what waits (restore), then takes in what has come since, grants it to senders that
answer at once, and settles it. A decision is a grant, or what its answer makes of the delivery; each is in a transaction with its state,
its event and its place in the inputs. Senders, broker and scheduler share the machine: so the CPU of the scheduler is told as well.
"""

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.cli.cluster.broker import LocalKafka
from tests.bench.figures import Figures
from tests.bench.scheduler.answering import Senders
from tests.bench.scheduler.log import PARTITIONS, filler, stack
from tests.bench.scheduler.stalls import Stalls
from tests.bench.usage import PeakMemory, cpu_s
from tests.support.stack import Service, Stack

PENDING: Final = 1_000_000
FRESH: Final = 60_000
_RESTORED_S: Final = 60.0
_DECISIONS: Final = 10_000.0
_PATIENCE_S: Final = 600.0


def run(figures: Figures, directory: Path, pending: int = PENDING, fresh: int = FRESH) -> None:
    """Measure both."""
    with LocalKafka(directory / "kafka", heap_mib=1024) as broker:
        asyncio.run(_run(figures, stack(directory / "stack", broker.bootstrap), pending, fresh))


async def _run(figures: Figures, made: Stack, pending: int, fresh: int) -> None:
    async with filler(made) as filling:
        await filling.backlog(pending)
        await filling.fresh(fresh, pending)
    begun = time.monotonic()
    scheduler = made.start("scheduler", wait=False)
    pids = {"scheduler": [scheduler.process.pid]}
    try:
        with PeakMemory(pids) as memory:
            await until(lambda: runs(scheduler) >= PARTITIONS)
            restored = time.monotonic() - begun
            used = cpu_s(pids)["scheduler"]
        figures.add("scheduler.restore", f"seconds.{pending}", restored, "s", _RESTORED_S)
        figures.add(
            "scheduler.restore", f"cpu_us_per_delivery.{pending}", used / pending * 1e6, "us"
        )
        figures.add("scheduler.restore", "peak_mib", memory.mib["scheduler"], "MiB")
        before = await _records(made)
        senders = Senders(made)
        used = cpu_s(pids)["scheduler"]
        with Stalls(scheduler.port) as stalls:
            async with asyncio.timeout(_PATIENCE_S):
                await senders.run(fresh)
                await until(lambda: delivered(scheduler) >= fresh)
        ended = time.monotonic()
        used = cpu_s(pids)["scheduler"] - used
        rate = 2 * fresh / (ended - senders.first_s)
        figures.add("scheduler.kafka", "decisions_per_s", rate, "1/s", _DECISIONS)
        figures.add("scheduler.kafka", "decisions_per_cpu_s", 2 * fresh / used, "1/s", _DECISIONS)
        figures.add("scheduler.kafka", "longest_stall", stalls.longest_s * 1000, "ms")
        after = await _records(made)
        for name, (count, size) in after.items():
            figures.add("scheduler.kafka", f"{name}_records", (count - before[name][0]) / fresh, "")
            figures.add("scheduler.kafka", f"{name}_bytes", (size - before[name][1]) / fresh, "B")
    finally:
        made.stop()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(_PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.2)


def runs(scheduler: Service) -> int:
    """Count the partitions that a scheduler has begun to run."""
    if not scheduler.alive:
        raise SystemExit(f"it ended:\n{scheduler.log.read_text()[-4000:]}")
    return scheduler.log.read_bytes().count(b'"partition_running"')


def delivered(scheduler: Service) -> float:
    """Count the deliveries that a scheduler has said to be delivered."""
    found = re.findall(
        r'^postyard_events_total\{.*type="delivered".*\} (\S+)$', scheduler.metrics(), re.MULTILINE
    )
    return sum(map(float, found))


async def _records(made: Stack) -> dict[str, tuple[int, int]]:
    """Give how many records, and how many bytes, of keys and values, each topic has that a scheduler writes."""
    found: dict[str, tuple[int, int]] = {}
    topics = made.topics
    for name, topic, partitions in (
        ("state", topics.state, PARTITIONS),
        ("events", topics.events, PARTITIONS),
    ):
        consumer = AIOKafkaConsumer(
            bootstrap_servers=made.kafka, enable_auto_commit=False, isolation_level="read_committed"
        )
        async with consumer:
            places = [TopicPartition(topic, partition) for partition in range(partitions)]
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            ends = await consumer.end_offsets(places)
            count = size = 0
            while any([await consumer.position(place) < ends[place] for place in places]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    count += len(records)
                    size += sum(len(each.value or b"") + len(each.key or b"") for each in records)
        found[name] = count, size
    return found
