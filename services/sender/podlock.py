"""A file lock in the pod: whoever holds it knows that the process before it in the same pod is dead.

The file names the process that held it last. The kernel lets go of the lock when that process ends, however it ends, and not before; so a
restart need not wait for its predecessor's heartbeats to go stale. A second process of the same pod while the first lives is refused.
"""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path


class PodTaken(Exception):
    """Another process of the same pod lives: two of them must not share its name."""


@dataclass(slots=True)
class PodLock:
    """Held until the process ends."""

    descriptor: int
    predecessor: str | None


def take(directory: Path, pod: str, process: str) -> PodLock:
    """Take the pod's lock and leave this process's name in it; raises PodTaken."""
    path = directory / f"postyard-{pod.replace('/', '_')}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise PodTaken(f"{path}: another process of pod {pod} holds it") from error
    before = os.read(descriptor, 4096).decode(errors="replace").strip()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, process.encode(), 0)
    os.fsync(descriptor)
    return PodLock(descriptor, before or None)
