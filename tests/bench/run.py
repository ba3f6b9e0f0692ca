"""What one run of one side was, and what is asked of a side."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from tests.bench.sink import Sink
from tests.bench.usage import PeakMemory, Pids, cpu_s

#: After the last message: what is still to be written belongs to the run.
_SETTLE_S: Final = 0.5
#: Messages per second below which a run is given up.
_SLOWEST: Final = 20


@dataclass(frozen=True, slots=True)
class Run:
    """One run: how long from the first submission to the last message at the receiver, and what it cost."""

    messages: int
    seconds: float
    #: By process.
    cpu_s: Mapping[str, float]
    peak_mib: Mapping[str, float]
    #: CPU seconds that are in those of another already.
    parts: Mapping[str, float]

    @property
    def rate(self) -> float:
        return self.messages / self.seconds

    def cpu_per_1000(self, name: str) -> float:
        used = self.cpu_s[name] if name in self.cpu_s else self.parts[name]
        return used * 1000 / self.messages


class Measured:
    """``with Measured(pids, sink, messages) as measured: feed``; leaving waits for them all; then ``measured.run()``."""

    def __init__(self, pids: Pids, sink: Sink, messages: int) -> None:
        self._pids, self._sink, self._messages = pids, sink, messages
        self._memory = PeakMemory(pids)
        self._used: dict[str, float] = {}
        self._seconds = 0.0

    def __enter__(self) -> Self:
        self._memory.__enter__()
        self._before = cpu_s(self._pids)
        self._count = self._sink.count
        self._started = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self._memory.__exit__(kind, error, trace)

    def _finish(self) -> None:
        wanted = self._count + self._messages
        ended = self._sink.until(wanted, 30 + self._messages / _SLOWEST)
        time.sleep(_SETTLE_S)
        after = cpu_s(self._pids)
        self._used = {name: after[name] - self._before[name] for name in after}
        self._seconds = ended - self._started
        if self._sink.count != wanted:
            raise SystemExit(f"{self._sink.count - wanted} messages arrived more than once")

    def run(self, **parts: float) -> Run:
        """``parts``: CPU seconds that are a part of another's, by name."""
        return Run(self._messages, self._seconds, self._used, self._memory.mib, parts)


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from the arrival of a message to its MAIL command."""

    ms: Sequence[float]

    @property
    def p50(self) -> float:
        return statistics.median(self.ms)

    @property
    def p99(self) -> float:
        return statistics.quantiles(self.ms, n=100)[98]
