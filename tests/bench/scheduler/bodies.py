"""scheduler.bodies: records of mail that waits, read again from a long log; so many are due together as a round grants."""

import asyncio
import random
import time
from pathlib import Path
from typing import Final

from services.cli.cluster.broker import LocalKafka
from services.scheduler.bodies import Bodies
from shared.kafka.cluster import Cluster
from shared.kafka.kept import Kept
from tests.bench.figures import Figures
from tests.bench.scheduler.log import filler, stack
from tests.bench.scheduler.traffic import CLASS

RECORDS: Final = 200_000
_ROUND: Final = 1_000
_ROUNDS: Final = 5
_GOAL: Final = 2_000.0
#: One wanted record of so many of the log: of mail that was deferred, and of a backlog that is let go.
_DENSITIES: Final = {"spread": 200, "dense": 5}


def run(figures: Figures, directory: Path, records: int = RECORDS) -> None:
    """Measure."""
    with LocalKafka(directory / "kafka", heap_mib=1024) as broker:
        asyncio.run(_run(figures, directory, broker.bootstrap, records))


async def _run(figures: Figures, directory: Path, kafka: str, records: int) -> None:
    made = stack(directory / "stack", kafka)
    async with filler(made) as filling:
        await filling.log(records)
    topic, cluster = made.topics.deliveries(CLASS), Cluster(kafka, client_id="bench")
    bodies, rng = Bodies(cluster, 0, Kept(1)), random.Random(1)
    await bodies.open([topic])
    try:
        for name, density in _DENSITIES.items():
            wall, cpu, found = time.monotonic(), time.process_time(), 0
            for _ in range(_ROUNDS):
                span = min(records, _ROUND * density)
                first = rng.randrange(records - span + 1)
                offsets = rng.sample(range(first, first + span), _ROUND)
                found += len(await bodies.load([(topic, offset) for offset in offsets]))
            assert found == _ROUND * _ROUNDS
            rate = found / (time.monotonic() - wall)
            figures.add("scheduler.bodies", f"records_per_s.{name}", rate, "1/s", _GOAL)
            used = (time.process_time() - cpu) / found
            figures.add("scheduler.bodies", f"cpu_us.{name}", used * 1e6, "us")
    finally:
        await bodies.close()
        await cluster.close()
