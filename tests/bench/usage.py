"""What processes use: CPU seconds and memory, with their children, read from /proc.

A process and whatever it started count as one: Postfix is a dozen programs that come and go, and the CPU of those that ended is in their
parent's account. Memory is PSS, in which a page that several processes share is counted once in all; the peak is that of samples.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from tests.bench.sampling import Sampler
from tests.support.processes import stat, tree

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_EVERY_S: Final = 0.5

Pids = Mapping[str, Sequence[int]]


def cpu_s(pids: Pids) -> dict[str, float]:
    """Give the CPU seconds that each has used so far, ended children included."""
    used = {}
    for name, roots in pids.items():
        fields = [stat(pid) for pid in tree(roots)]
        used[name] = sum(sum(map(int, each[11:15])) for each in fields if each) / _TICKS
    return used


def thread_cpu_s(pid: int) -> float:
    """Give the CPU seconds of a process's first thread alone: of a service, its loop."""
    fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / _TICKS


class PeakMemory(Sampler):
    """``with PeakMemory(pids) as memory: …; memory.mib``: the largest sample of each, in MiB."""

    def __init__(self, pids: Pids) -> None:
        super().__init__(_EVERY_S)
        self._pids = pids
        self.mib: dict[str, float] = dict.fromkeys(pids, 0.0)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        self._sample()

    def _sample(self) -> None:
        for name, roots in self._pids.items():
            self.mib[name] = max(self.mib[name], sum(map(_pss_kib, tree(roots))) / 1024)


def _pss_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
