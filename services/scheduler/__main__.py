"""``python -m services.scheduler``: settings, wiring, run."""

import sys

from services.scheduler import collecting
from services.scheduler.asking import Asking
from services.scheduler.service import HOT, Scheduler
from shared.kafka.cluster import connect
from shared.runtime.clock import SystemClock, system_rng
from shared.runtime.lifecycle import Process, main


async def run(process: Process) -> None:
    """Wire one scheduler and run it until the process is told to stop."""
    collecting.begin()
    cluster = connect(process.settings.kafka, client_id=f"postyard-scheduler-{process.name}")
    scheduler = Scheduler(
        settings=process.settings,
        cluster=cluster,
        clock=SystemClock(),
        rng=system_rng(),
        log=process.log,
        metrics=process.metrics,
        heard=process.reloading.hear,
        configured=lambda: process.reloading.configured,
        owner=process.name,
        pod=process.pod,
    )
    asking = Asking(lambda: scheduler.settings, scheduler.workers)
    try:
        health = await process.serve(scheduler.not_ready, asking.routes())
        scheduler.url = health.url(process.env.get("POSTYARD_HTTP_URL", ""))
        await process.work(scheduler.run(process.stop), HOT, scheduler.renew)
    finally:
        await cluster.close()


if __name__ == "__main__":
    sys.exit(
        main("scheduler", "Decides when, and from which source, each delivery is attempted.", run)
    )
