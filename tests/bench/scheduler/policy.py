"""scheduler.policy: what the ledger costs, alone: one thread, no Kafka, no clock. As a program, one run of one size.

    python -m tests.bench.scheduler.policy TENANTS SITES SOURCES MESSAGES BACKLOG

Rounds are those of a worker that always has work: up to a thousand new deliveries, the answers to what was granted before (`started`
and the outcome), then as many grants as may go. Of the deliveries that wait from the start none is due. It is CPU time; making, reading
and writing records is not part of it. The collector of cycles is set as in a scheduler's process.
"""

import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from services.scheduler import collecting
from services.scheduler.policy.ledger import Ledger
from shared.records.grant import Grant
from shared.records.outcome import Outcome, Reply, Started
from tests.bench.cores import cores, measured
from tests.bench.figures import Figures
from tests.bench.scheduler.traffic import (
    CLASS,
    LARGE,
    SMALL,
    START,
    S,
    Size,
    beat,
    read,
    ready,
    records,
    settings,
)

MESSAGES: Final = 40_000
BACKLOG: Final = 100_000
_ROUND: Final = 1_000
_BYTES: Final = 16 << 20
_STEP_NS: Final = S // 100
_ROUNDS: Final = 3
_REPLY: Final = Reply(code=250, text="2.0.0 OK", enhanced="2.0.0", stage="dot")


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """CPU seconds of one run."""

    messages: int
    #: Of everything that happens to a delivery: taken, granted, started, settled.
    all_s: float
    #: Of them, the grants alone.
    grants_s: float


def run(figures: Figures, _: Path, messages: int = MESSAGES, backlog: int = BACKLOG) -> None:
    """Measure the small case and the large one in turn; of several rounds the best of each counts."""
    ours = cores()[0]
    rounds = [
        [
            measured("tests.bench.scheduler.policy", _words(size, messages, backlog), ours, Result)
            for size in (SMALL, LARGE)
        ]
        for _ in range(_ROUNDS)
    ]
    small, large = zip(*rounds, strict=True)
    bench = "scheduler.policy"
    figures.add(bench, "decisions_per_s", _rate(large, _decisions), "1/s", _rate(small, _decisions))
    figures.add(bench, "grants_per_s", _rate(large, _grants), "1/s", _rate(small, _grants))
    figures.add(bench, "cpu_us_per_message", _cost_us(large), "us", _cost_us(small))


def _decisions(result: Result) -> float:
    # A grant, and what its answer makes of the delivery.
    return 2 * result.messages / result.all_s


def _grants(result: Result) -> float:
    return result.messages / result.grants_s


def _rate(results: Sequence[Result], what: Callable[[Result], float]) -> float:
    return max(map(what, results))


def _cost_us(results: Sequence[Result]) -> float:
    return min(result.all_s / result.messages for result in results) * 1e6


def _words(size: Size, messages: int, backlog: int) -> list[str]:
    return [str(each) for each in (size.tenants, size.sites, size.sources, messages, backlog)]


def measure(size: Size, messages: int, backlog: int) -> Result:
    """Let ``messages`` pass a ledger in which ``backlog`` others wait."""
    config = settings(size)
    view = ready(config)
    ledger = Ledger(0, config, view, random.Random(1))
    now = START
    ledger.begin(now)
    later = START + 86_400 * S
    offset = 0
    for value in records(size, backlog, due_ns=later, spread_ns=3_600 * S):
        ledger.on_delivery(CLASS, offset, read(value))
        offset += 1
        if offset % _ROUND == 0:
            ledger.take()
    ledger.take()
    fresh = [read(b"%b" % value) for value in records(size, messages + backlog)][backlog:]
    spent, grants_s, granted, done = 0.0, 0.0, list[Grant](), 0
    while done < messages:
        now += _STEP_NS
        beat(config, view, now)
        batch, fresh = fresh[:_ROUND], fresh[_ROUND:]
        answers = [_answers(grant) for grant in granted]
        begun = time.thread_time()
        ledger.begin(now)
        for record in batch:
            ledger.on_delivery(CLASS, offset, record)
            offset += 1
        for started, outcome in answers:
            ledger.on_outcome(now, started)
            ledger.on_outcome(now, outcome)
        ledger.judge()
        before = time.thread_time()
        ledger.plan(_ROUND, _BYTES)
        grants_s += time.thread_time() - before
        decided = ledger.take()
        ledger.next_ns()
        ledger.oldest_offset(CLASS)
        spent += time.thread_time() - begun
        granted = [each.grant for each in decided.granted]
        done += sum(event.final for event in decided.events)
        if not (batch or answers or granted):
            raise SystemExit(f"{done} of {messages}, and nothing more happens: {ledger}")
    return Result(messages=messages, all_s=spent, grants_s=grants_s)


def _answers(grant: Grant) -> tuple[Started, Outcome]:
    id_, n, slot, epoch = grant.id, grant.n, grant.slot, grant.epoch
    started = Started(id=id_, n=n, slot=slot, epoch=epoch)
    return started, Outcome(id=id_, n=n, slot=slot, epoch=epoch, result="delivered", reply=_REPLY)


def main(tenants: int, sites: int, sources: int, messages: int, backlog: int) -> None:
    """Run once and print the result."""
    collecting.begin()
    result = measure(Size(tenants, sites, sources), messages, backlog)
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
