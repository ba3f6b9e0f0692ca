"""One real broker for a whole run of tests, whatever the number of processes that it is run in.

Each process holds the folder's `users` shared while it needs the broker; the last that lets go stops it. The kernel lets go for one
that is killed. A start is one start, however many want it (`LocalKafka`), and waits while the last user is still stopping it.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol


class Broker(Protocol):
    """What is asked of a `LocalKafka`."""

    directory: Path

    def start(self) -> None: ...
    def stop(self) -> bool: ...


@contextmanager
def shared(broker: Broker) -> Iterator[None]:
    """Run the broker of this folder for as long as anybody wants it; its log stays behind it."""
    broker.directory.mkdir(parents=True, exist_ok=True)
    with (broker.directory / "users").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            broker.start()
            yield
        finally:
            # Asking for it alone lets go of it first: of some that leave at once, the last to ask has nobody beside it.
            if _alone(users.fileno()):
                broker.stop()
                # Gigabytes, perhaps; the log stays, for whoever wants to know what the broker thought of it.
                shutil.rmtree(broker.directory / "data", ignore_errors=True)


def _alone(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
