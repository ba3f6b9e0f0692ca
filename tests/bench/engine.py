"""engine.*: one sender process without Kafka, beside the floor that no sender can be below.

The floor of a message is one bare RSA operation and what smtp-source, Debian's load generator in C, takes to send it unsigned to the
same sink over as many connections that stay open. Sender and smtp-source run on one core, the sink on another. Of several rounds the
best counts. Between the two stands a sender in Python that does nothing else (``engine_bare``): what the engine adds is told apart from
what Python, its threads and the machine add.
"""

import os
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.cores import cores, measured, pinned
from tests.bench.engine_sender import Result
from tests.bench.figures import Figures
from tests.bench.mail import message
from tests.bench.sink import Sink
from tests.support.processes import program

SIZES: Final = {"2k": 2_000, "10k": 10_000, "50k": 50_000}
CONNECTIONS: Final = 20
_MESSAGES: Final = 2_000
_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True)
class Floor:
    """What one unsigned message takes smtp-source."""

    seconds: float
    cpu_s: float


def run(figures: Figures, directory: Path, messages: int = _MESSAGES) -> None:
    """Measure the engine at each size."""
    ours, others = cores()
    with Sink(directory / "engine-sink") as sink:
        os.sched_setaffinity(sink.pid, others)
        for name, size in SIZES.items():
            # In turn, so that a slow minute is slow for both.
            rounds = [
                (
                    _source(sink, size, messages, ours),
                    _sender("engine_bare", sink, size, messages, ours),
                    _sender("engine_sender", sink, size, messages, ours),
                )
                for _ in range(_ROUNDS)
            ]
            floors, bare, results = zip(*rounds, strict=True)
            _tell(figures, f"engine.{name}", messages, floors, results)
            _tell(figures, f"engine.{name}.bare", messages, floors, bare)


def _tell(
    figures: Figures,
    bench: str,
    messages: int,
    floors: Sequence[Floor],
    results: Sequence[Result],
) -> None:
    rsa_s = min(result.rsa_s for result in results)
    wall_s = rsa_s + min(floor.seconds for floor in floors)
    cpu_s = rsa_s + min(floor.cpu_s for floor in floors)
    best = min(result.seconds for result in results)
    figures.add(bench, "messages_per_s", messages / best, "1/s", 1 / wall_s)
    used = min(result.cpu_s for result in results) / messages
    figures.add(bench, "cpu_us_per_message", used * 1e6, "us", cpu_s * 1e6)
    loop = min(result.loop_cpu_s for result in results) / messages
    figures.add(bench, "cpu_us_loop", loop * 1e6, "us", (cpu_s - rsa_s) * 1e6)


def _sender(module: str, sink: Sink, size: int, messages: int, cores: set[int]) -> Result:
    words = [sink.target, str(messages), str(size), str(CONNECTIONS)]
    return measured(f"tests.bench.{module}", words, cores, Result)


def _source(sink: Sink, size: int, messages: int, cores: set[int]) -> Floor:
    command = program("smtp-source")
    assert command is not None, "it comes with smtp-sink"
    options = ["-d", "-s", str(CONNECTIONS), "-m", str(messages), "-l", str(len(message(size)))]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([command, *options, sink.target], check=True, preexec_fn=pinned(cores))
    seconds, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Floor(seconds / messages, cpu / messages)
