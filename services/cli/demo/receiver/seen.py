"""What the receiver saw: one JSON line for each RCPT, each message and each 421, and a Maildir.

A line is written before its reply, so whoever has heard the reply finds the line. Times are wall time in ns since the epoch.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import orjson

from shared.runtime.clock import Clock


@dataclass(slots=True)
class Seen:
    """Where it is written; None: nowhere."""

    clock: Clock
    log: IO[bytes] | None = None
    maildir: Path | None = None
    _serial: int = 0

    def __post_init__(self) -> None:
        """Make the Maildir."""
        if self.maildir is not None:
            for part in ("tmp", "new", "cur"):
                (self.maildir / part).mkdir(parents=True, exist_ok=True)

    def write(self, what: str, **fields: object) -> None:
        """Append one line."""
        if self.log is not None:
            self.log.write(orjson.dumps({"ns": self.clock.now_ns(), "what": what} | fields) + b"\n")
            self.log.flush()

    def store(self, message: bytes) -> str:
        """Write a message to the Maildir, whole or not at all, and give its file name."""
        if self.maildir is None:
            return ""
        self._serial += 1
        name = f"{self.clock.now_ns()}.{os.getpid()}_{self._serial}.receiver"
        written = self.maildir / "tmp" / name
        written.write_bytes(message)
        written.rename(self.maildir / "new" / name)
        return name
