"""scheduler.policy: what the ledger costs, alone: one thread, no Kafka, no clock. As a program, one ledger of one size.

    python -m tests.bench.scheduler.policy TENANTS SITES SOURCES BACKLOG

It then answers each line of its input, a number of rounds, with what these cost. Rounds are those of a worker that always has work: a
thousand new deliveries, the answers to what was granted before (`started` and the outcome), then as many grants as may go. Of the
deliveries that wait from the start none is due. It is CPU time; making, reading and writing records is not part of it. The collector of
cycles is set as in a scheduler's process.

Both sizes run in processes of their own, for a ledger never shares its heap and its collector with another, and take turns on one core:
what the machine does beside them hits both alike. A scheduler runs for weeks, so what counts is one that has met most of its sites; what
it costs to make their acquaintance is a figure of its own.
"""

import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, Self

import msgspec

from services.scheduler import collecting
from services.scheduler.policy.ledger import Ledger
from shared.records.grant import Grant
from shared.records.outcome import Outcome, Reply, Started
from tests.bench.cores import cores, pinned
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
from tests.support.nursery import ROOT

BACKLOG: Final = 100_000
#: Rounds that do not count: in so many thousand messages of the large case most sites have been met.
_WARM: Final = 100
#: How often each size has its turn, and the rounds of a turn.
_TURNS: Final = 16
_TURN: Final = 4
_ROUND: Final = 1_000
_BYTES: Final = 16 << 20
_STEP_NS: Final = S // 100
_REPLY: Final = Reply(code=250, text="2.0.0 OK", enhanced="2.0.0", stage="dot")


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """CPU seconds of some rounds."""

    messages: int
    #: Of everything that happens to a delivery: taken, granted, started, settled.
    all_s: float
    #: Of them, the grants alone.
    grants_s: float


class Asked:
    """A ledger in a process of its own, which works only while it is asked."""

    def __init__(self, size: Size, backlog: int, to: set[int]) -> None:
        """Start it on the cores ``to``."""
        words = (size.tenants, size.sites, size.sources, backlog)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.scheduler.policy", *map(str, words)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=pinned(to),  # noqa: PLW1509 - no thread is there yet
        )

    def __enter__(self) -> Self:
        """Leave no process behind."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.communicate()

    def turn(self, rounds: int) -> Result:
        """Let it have so many rounds."""
        into, out = self._process.stdin, self._process.stdout
        assert into is not None, "it is a pipe"
        assert out is not None, "it is a pipe"
        into.write(b"%d\n" % rounds)
        into.flush()
        line = out.readline()
        if not line:
            raise SystemExit(f"the ledger ended with {self._process.wait()}")
        return msgspec.json.decode(line, type=Result)


def run(figures: Figures, _: Path, backlog: int = BACKLOG) -> None:
    """Measure the small case and the large one, turn by turn; the median of each one's turns counts.

    Not the least: a turn in which no table grows and nothing is collected costs less than a scheduler does.
    """
    ours = cores()[0]
    with Asked(SMALL, backlog, ours) as one, Asked(LARGE, backlog, ours) as other:
        firsts = [(one.turn(_TURN), other.turn(_TURN)) for _ in range(_WARM // _TURN)]
        turns = [(one.turn(_TURN), other.turn(_TURN)) for _ in range(_TURNS)]
    small, large = zip(*turns, strict=True)
    bench = "scheduler.policy"
    figures.add(bench, "decisions_per_s", _of(large, _decisions), "1/s", _of(small, _decisions))
    figures.add(bench, "grants_per_s", _of(large, _grants), "1/s", _of(small, _grants))
    figures.add(bench, "cpu_us_per_message", _of(large, _cost_us), "us", _of(small, _cost_us))
    small, large = zip(*firsts, strict=True)
    figures.add(bench, "cpu_us_first", _mean_us(large), "us", _mean_us(small))


def _decisions(result: Result) -> float:
    # A grant, and what its answer makes of the delivery.
    return 2 * result.messages / result.all_s


def _grants(result: Result) -> float:
    return result.messages / result.grants_s


def _cost_us(result: Result) -> float:
    return result.all_s / result.messages * 1e6


def _of(results: Sequence[Result], what: Callable[[Result], float]) -> float:
    return statistics.median(map(what, results))


def _mean_us(results: Sequence[Result]) -> float:
    return sum(each.all_s for each in results) / sum(each.messages for each in results) * 1e6


class Running:
    """A ledger in which others wait, and what passes it."""

    def __init__(self, size: Size, backlog: int) -> None:
        """Let ``backlog`` wait that are not due."""
        self._settings = settings(size)
        self._view = ready(self._settings)
        self._ledger = Ledger(0, self._settings, self._view, random.Random(1))
        self._now, self._offset = START, 0
        self._granted: list[Grant] = []
        self._ledger.begin(START)
        later = START + 86_400 * S
        for value in records(size, backlog, due_ns=later, spread_ns=3_600 * S):
            self._ledger.on_delivery(CLASS, self._offset, read(value))
            self._offset += 1
            if self._offset % _ROUND == 0:
                self._ledger.take()
        self._ledger.take()
        most = (_WARM + _TURN * _TURNS) * _ROUND
        self._fresh = self._values(size, most, backlog)

    @staticmethod
    def _values(size: Size, most: int, backlog: int) -> Iterator[bytes]:
        # The first of them have the names of those that wait.
        return islice(records(size, most + backlog), backlog, None)

    def rounds(self, count: int) -> Result:
        """Let so many rounds pass."""
        messages, all_s, grants_s = 0, 0.0, 0.0
        for _ in range(count):
            done, spent, granting = self._round()
            messages, all_s, grants_s = messages + done, all_s + spent, grants_s + granting
        if not messages:
            raise SystemExit(f"in {count} rounds nothing happened: {self._ledger}")
        return Result(messages=messages, all_s=all_s, grants_s=grants_s)

    def _round(self) -> tuple[int, float, float]:
        """Give how many messages were settled, and the seconds of all and of the grants."""
        ledger = self._ledger
        self._now += _STEP_NS
        beat(self._settings, self._view, self._now)
        batch = [read(value) for value in islice(self._fresh, _ROUND)]
        answers = [_answers(grant) for grant in self._granted]
        begun = time.thread_time()
        ledger.begin(self._now)
        for offset, record in enumerate(batch, self._offset):
            ledger.on_delivery(CLASS, offset, record)
        for started, outcome in answers:
            ledger.on_outcome(self._now, started)
            ledger.on_outcome(self._now, outcome)
        ledger.judge()
        before = time.thread_time()
        ledger.plan(_ROUND, _BYTES)
        granting = time.thread_time() - before
        decided = ledger.take()
        ledger.next_ns()
        ledger.oldest_offset(CLASS)
        spent = time.thread_time() - begun
        self._offset += len(batch)
        self._granted = [each.grant for each in decided.granted]
        return sum(event.final for event in decided.events), spent, granting


def _answers(grant: Grant) -> tuple[Started, Outcome]:
    id_, n, slot, epoch = grant.id, grant.n, grant.slot, grant.epoch
    started = Started(id=id_, n=n, slot=slot, epoch=epoch)
    return started, Outcome(id=id_, n=n, slot=slot, epoch=epoch, result="delivered", reply=_REPLY)


def main(tenants: int, sites: int, sources: int, backlog: int) -> None:
    """Answer each line with what so many rounds cost."""
    collecting.begin()
    running = Running(Size(tenants, sites, sources), backlog)
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(msgspec.json.encode(running.rounds(int(line))) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
