"""``python -m services.sender``: settings, wiring, run."""

import sys
from pathlib import Path

from services.sender.dkim import processor

processor.choose()  # Before anything loads OpenSSL.

from services.sender.service import HOT, Sender  # noqa: E402
from shared.kafka.cluster import connect  # noqa: E402
from shared.runtime.clock import SystemClock, system_rng  # noqa: E402
from shared.runtime.lifecycle import Process, main  # noqa: E402


async def run(process: Process) -> None:
    """Wire one sender and run it until the process is told to stop."""
    cluster = connect(process.settings.kafka, client_id=f"postyard-sender-{process.name}")
    locks = process.env.get("POSTYARD_LOCK_DIR")
    sender = Sender(
        settings=process.settings,
        cluster=cluster,
        clock=SystemClock(),
        rng=system_rng(),
        log=process.log,
        metrics=process.metrics,
        heard=process.reloading.hear,
        process=process.name,
        pod=process.pod,
        locks=Path(locks) if locks else None,
    )
    try:
        await process.serve(sender.not_ready, what=sender.owned)
        await process.work(sender.run(process.stop), HOT, sender.renew)
    finally:
        await cluster.close()


if __name__ == "__main__":
    sys.exit(main("sender", "Owns sources, signs, delivers over SMTP.", run))
