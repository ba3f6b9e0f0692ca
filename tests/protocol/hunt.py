"""Hunt: run random plans on every core for a while, and say what was broken, with the seeds that do it again."""

import multiprocessing
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from shared.runtime.clock import SystemClock
from tests.protocol import plans
from tests.protocol.mutants import MUTANTS
from tests.protocol.variant import REAL, Variant

_S = 1_000_000_000


@dataclass(slots=True)
class Found:
    """What a hunt found."""

    runs: int = 0
    #: Guarantee -> (seed, what happened), the first of each process.
    broken: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    windows: Counter[str] = field(default_factory=Counter)
    #: The longest time from the last fault to the last final event, ms.
    settled: int = 0

    def take(self, other: "Found") -> None:
        self.runs += other.runs
        self.windows += other.windows
        self.settled = max(self.settled, other.settled)
        for guarantee, cases in other.broken.items():
            self.broken.setdefault(guarantee, []).extend(cases)

    def __str__(self) -> str:
        lines = [f"{self.runs} runs, all settled {self.settled / 1000:.0f} s after the last fault"]
        lines += [f"  {count:6} {window}" for window, count in sorted(self.windows.items())]
        for guarantee, cases in sorted(self.broken.items()):
            lines += [f"  BROKEN {guarantee}: seed {seed}: {text}" for seed, text in cases[:3]]
        return "\n".join(lines)


def run(seeds: Sequence[int], variant: Variant = REAL) -> Found:
    """Run these seeds."""
    found = Found()
    for seed in seeds:
        _one(seed, variant, found)
    return found


def _one(seed: int, variant: Variant, found: Found) -> None:
    world = plans.run(plans.draw(seed), variant)
    checker = world.checker
    found.runs += 1
    found.windows += Counter(dict.fromkeys(checker.windows, 1))
    found.settled = max([found.settled] + [at - plans.CALM for at, _ in checker.finals.values()])
    for violation in checker.violations[:1]:
        found.broken.setdefault(violation.guarantee, []).append((seed, violation.text))


def _chase(first: int, step: int, seconds: float, name: str) -> Found:
    variant = next((each for each in MUTANTS if each.name == name), REAL)
    clock = SystemClock()
    until, seed, found = clock.mono_ns() + int(seconds * _S), first, Found()
    while clock.mono_ns() < until:
        _one(seed, variant, found)
        seed += step
    return found


def hunt(seconds: float, first: int, variant: Variant = REAL) -> Found:
    """Run plan after plan from seed ``first`` on, on every core, for ``seconds``."""
    cores = os.cpu_count() or 1
    # Spawned: a child that is forked while threads run can hang.
    context = multiprocessing.get_context("spawn")
    found = Found()
    with ProcessPoolExecutor(cores, mp_context=context) as pool:
        jobs = [
            pool.submit(_chase, first + core, cores, seconds, variant.name) for core in range(cores)
        ]
        for job in jobs:
            found.take(job.result())
    return found
