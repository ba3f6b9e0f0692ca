"""Programs of the machine and the processes that they become, read from /proc."""

import os
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_PATH: Final = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin"


def program(name: str) -> str | None:
    """Find a program, also where Debian keeps those of administrators."""
    return shutil.which(name, path=_PATH)


def tree(roots: Sequence[int]) -> list[int]:
    """Give the processes and all that descend from them."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := stat(int(entry.name))):
            children[int(fields[1])].append(int(entry.name))
    found = list(roots)
    for pid in found:
        found += children[pid]
    return found


def stat(pid: int) -> list[str]:
    """Give the fields behind the name, which may hold spaces: state, parent, …; nothing where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def ended(pids: Sequence[int], seconds: float = 20) -> None:
    """Wait until they are gone; whoever stays is killed."""
    end = time.monotonic() + seconds
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        if time.monotonic() > end:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.05)
