"""scheduler.memory: what a pending delivery holds of a process's memory. As a program, one run.

    python -m tests.bench.scheduler.memory DELIVERIES

The resident memory of a process whose ledger has taken so many, less that of the same process before. All wait: half for their first
attempt, half for another one after a deferral. Everything that a worker keeps of them is in it, and nothing of the log.
"""

import gc
import random
import sys
from pathlib import Path
from typing import Final

import msgspec

from services.scheduler.policy.ledger import Ledger
from shared.records.outcome import Outcome, Reply
from tests.bench.cores import cores, measured
from tests.bench.figures import Figures
from tests.bench.scheduler.traffic import (
    CLASS,
    LARGE,
    START,
    S,
    beat,
    read,
    ready,
    records,
    settings,
)

PENDING: Final = (1_000_000, 3_000_000)
_GOAL: Final = 600.0
_ROUND: Final = 1_000
_BUSY: Final = Reply(code=451, text="4.3.2 try again later", enhanced="4.3.2", stage="rcpt")


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Of one run."""

    pending: int
    bytes: int


def run(figures: Figures, _: Path) -> None:
    """Measure."""
    ours = cores()[0]
    for count in PENDING:
        result = measured("tests.bench.scheduler.memory", [str(count)], ours, Result)
        each = result.bytes / result.pending
        figures.add("scheduler.memory", f"bytes_per_delivery.{count}", each, "B", _GOAL)


def measure(count: int) -> Result:
    """Fill a ledger."""
    config = settings(LARGE)
    view = ready(config)
    ledger = Ledger(0, config, view, random.Random(1))
    now = START
    gc.collect()
    before = _resident()
    later = records(LARGE, count // 2, due_ns=START + 86_400 * S, spread_ns=3_600 * S)
    soon = records(LARGE, count, due_ns=START)
    offset = 0
    for value in later:
        next(soon)
        ledger.on_delivery(CLASS, offset, read(value))
        offset += 1
        if offset % _ROUND == 0:
            ledger.take()
    for value in soon:
        ledger.on_delivery(CLASS, offset, read(value))
        offset += 1
        if offset % _ROUND and offset != count:
            continue
        # A minute takes a microsecond: nothing that was deferred is due again before all is taken.
        now += 1_000
        beat(config, view, now)
        ledger.begin(now)
        ledger.plan(_ROUND, 1 << 40)
        granted = ledger.take().granted
        while granted:
            for each in granted:
                grant = each.grant
                ledger.on_outcome(
                    now,
                    Outcome(
                        id=grant.id,
                        n=grant.n,
                        slot=grant.slot,
                        epoch=grant.epoch,
                        result="deferred",
                        reply=_BUSY,
                    ),
                )
            ledger.plan(_ROUND, 1 << 40)
            granted = ledger.take().granted
    ledger.take()
    del later, soon
    gc.collect()
    if len(ledger.entries) != count or any(entry.open for entry in ledger.entries.values()):
        raise SystemExit(f"not all wait: {ledger}")
    return Result(pending=count, bytes=_resident() - before)


def _resident() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Rss:"))


def main(count: int) -> None:
    """Run once and print the result."""
    sys.stdout.buffer.write(msgspec.json.encode(measure(count)) + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
