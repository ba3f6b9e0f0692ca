"""``python -m services.ingest``: settings, wiring, run."""

import sys

from services.ingest.service import HOT, Ingest
from shared.kafka.cluster import connect
from shared.runtime.clock import SystemClock, system_rng
from shared.runtime.lifecycle import Process, main


async def run(process: Process) -> None:
    """Wire one ingest process and run it until it is told to stop."""
    cluster = connect(process.settings.kafka, client_id=f"postyard-ingest-{process.name}")
    ingest = Ingest(
        settings=process.settings,
        cluster=cluster,
        clock=SystemClock(),
        rng=system_rng(),
        log=process.log,
        metrics=process.metrics,
        heard=process.reloading.hear,
        pod=process.pod,
    )
    try:
        await process.serve(ingest.not_ready)
        await process.work(ingest.run(process.stop), HOT, ingest.renew)
    finally:
        await cluster.close()


if __name__ == "__main__":
    sys.exit(main("ingest", "Accepts submissions and makes one delivery of each recipient.", run))
