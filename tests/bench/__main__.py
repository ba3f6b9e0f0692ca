"""Measure the pipeline beside Postfix with OpenDKIM: same messages, same receiver, same minutes.

    python -m tests.bench [--messages N] [--rounds N]

The two take turns, so that a machine that is slow for a while is slow for both, and only one of them runs at a time. Of several rounds
the best of each side counts: what else the machine does can only make a run slower. Every figure is printed and appended to bench.jsonl.
"""

import argparse
import signal
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from services.cli.cluster.broker import LocalKafka
from tests.bench import connections, dkim, engine
from tests.bench.figures import Figures
from tests.bench.mail import message
from tests.bench.pipeline import Pipeline
from tests.bench.reference import Reference, missing
from tests.bench.run import Latency, Run
from tests.bench.sink import Sink
from tests.support.dkim import verified

SIZES: Final = {"2k": 2_000, "10k": 10_000}
#: Until the broker has compiled what it does all the time.
_WARM_UP: Final = 2_000
_LATENCY_S: Final = 10
_SMALL: Final = "2k"
_TENTH: Final = 10


@dataclass(slots=True)
class Side:
    """What was measured of one side."""

    name: str
    runs: dict[str, list[Run]]
    latency: Latency | None = None

    def best(self, size: str) -> Run | None:
        return max(self.runs[size], key=lambda run: run.rate, default=None)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--messages", type=int, default=4000, help="in each run (4000)")
    parser.add_argument("--rounds", type=int, default=2, help="of both sides (2)")
    wanted = parser.parse_args()
    # As Ctrl-C: whoever ends the benchmark ends all that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="postyard-bench-")))
        directory.chmod(0o755)  # Postfix has users of its own
        sink = stack.enter_context(Sink(directory / "sink"))
        kept = stack.enter_context(Sink(directory / "kept", keep=True))
        broker = stack.enter_context(LocalKafka(directory / "kafka", heap_mib=1024))
        pipeline = Pipeline(directory / "pipeline", broker, sink, kept)
        reference = None
        if why := missing():
            print(f"without the reference: {why}", file=sys.stderr)
        else:
            reference = Reference(directory / "postfix", pipeline.key_file, sink, kept)
        ours, theirs = measure(pipeline, reference, kept, wanted.messages, wanted.rounds)
        figures = Figures()
        print()
        tell(figures, ours, theirs)
        engine.run(figures, directory)
        connections.run(figures, directory)
        dkim.run(figures)


def measure(
    pipeline: Pipeline, reference: Reference | None, kept: Sink, messages: int, rounds: int
) -> tuple[Side, Side]:
    """Let the two take turns."""
    ours = Side("pipeline", defaultdict(list))
    theirs = Side("reference", defaultdict(list))
    rate = 0.0
    for number in range(1, rounds + 1):
        for side, what in ((ours, pipeline), (theirs, reference)):
            if what is None:
                continue
            try:
                what.start()
                what.check(message(SIZES[_SMALL]))
                check(side.name, kept.kept(60), pipeline.key_file)
                what.throughput(_WARM_UP, message(SIZES[_SMALL]))
                for size, size_bytes in SIZES.items():
                    run = what.throughput(messages, message(size_bytes))
                    side.runs[size].append(run)
                    print(f"round {number} {side.name:10} {size:>4} {run.rate:6.0f}/s", flush=True)
                if number == rounds:
                    rate = rate or run_rate(ours) / _TENTH
                    side.latency = what.latency(rate, _LATENCY_S, message(SIZES[_SMALL]))
            finally:
                what.stop()
    return ours, theirs


def run_rate(side: Side) -> float:
    """Give the best rate that was seen at the size of the latency's messages."""
    best = side.best(_SMALL)
    assert best is not None
    return best.rate


def check(name: str, text: bytes, key_file: Path) -> None:
    """End where a side does not sign: its figures would be worth nothing."""
    key = load_pem_private_key(key_file.read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    if not verified(text, key):
        raise SystemExit(f"{name}: the message has no valid signature:\n{text.decode()}")


def tell(figures: Figures, ours: Side, theirs: Side) -> None:
    """Report the best run of each size, and the latency."""
    for size in SIZES:
        run, beside = ours.best(size), theirs.best(size)
        assert run is not None
        bench = f"pipeline.{size}"
        figures.add(bench, "messages_per_s", run.rate, "1/s", beside.rate if beside else None)
        for name in [*run.cpu_s, *run.parts]:
            also = beside.cpu_per_1000(name) if beside and name in beside.cpu_s else None
            figures.add(bench, f"cpu_s_per_1000.{name}", run.cpu_per_1000(name), "s", also)
        figures.add(bench, "cpu_s_per_1000.all", cpu(run), "s", cpu(beside) if beside else None)
        for name, mib in run.peak_mib.items():
            also = beside.peak_mib.get(name) if beside else None
            figures.add(bench, f"peak_mib.{name}", mib, "MiB", also)
        figures.add(bench, "peak_mib.all", peak(run), "MiB", peak(beside) if beside else None)
    if ours.latency is not None:
        bench, beside_latency = f"latency.{_SMALL}", theirs.latency
        for name in ("p50", "p99"):
            also = getattr(beside_latency, name) if beside_latency else None
            figures.add(bench, f"topic_to_mail_{name}", getattr(ours.latency, name), "ms", also)


def cpu(run: Run) -> float:
    """All CPU seconds per 1,000 messages, without the receiver's."""
    return sum(run.cpu_per_1000(name) for name in run.cpu_s if name != "receiver")


def peak(run: Run) -> float:
    """All memory, without the receiver's."""
    return sum(mib for name, mib in run.peak_mib.items() if name != "receiver")


if __name__ == "__main__":
    main()
