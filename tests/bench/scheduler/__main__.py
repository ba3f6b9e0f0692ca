"""Measure the scheduler: what its policy costs, what a pending delivery holds, how fast a process decides and comes back.

    python -m tests.bench.scheduler [BENCH…]

Without a name all are run, one after the other. Every figure is printed and appended to bench.jsonl.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.bench.figures import Figures
from tests.bench.scheduler import bodies, kafka, memory, policy, takeover

BENCHES: Final[Mapping[str, Callable[[Figures, Path], None]]] = {
    "policy": policy.run,
    "memory": memory.run,
    "kafka": kafka.run,
    "bodies": bodies.run,
    "takeover": takeover.run,
}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scheduler", description=__doc__)
    parser.add_argument("bench", nargs="*", choices=[*BENCHES, []], help="all of them")
    wanted = parser.parse_args().bench or list(BENCHES)
    # As Ctrl-C: whoever ends the benchmark ends all that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="postyard-bench-") as directory:
        for name in wanted:
            BENCHES[name](figures, Path(directory) / name)


if __name__ == "__main__":
    main()
