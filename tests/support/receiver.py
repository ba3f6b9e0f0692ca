"""A receiving server of the test's own, as a process, and what it saw."""

import json
import os
import signal
import socket
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.nursery import ROOT, Launch, Process, launch
from tests.support.stack import free_port


@dataclass(slots=True)
class Receiver:
    """One `services.cli.demo.receiver`."""

    process: Process
    host: str
    port: int
    log: Path

    @property
    def target(self) -> str:
        return f"{self.host}:{self.port}"

    def seen(self, what: str) -> list[dict[str, Any]]:
        """Give the log's lines of a kind: rcpt, message, throttled."""
        if not self.log.exists():
            return []
        lines = self.log.read_text().splitlines()
        return [line for line in map(json.loads, lines) if line["what"] == what]

    def copies(self) -> Counter[str]:
        """Count the messages that were taken, by recipient."""
        return Counter(
            line["rcpt"] for line in self.seen("message") if line["reply"][:3] in ("250", "dro")
        )

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


def start_receiver(
    directory: Path,
    name: str,
    *options: str,
    host: str = "127.0.0.1",
    port: int | None = None,
    launch: Launch = launch,
) -> Receiver:
    """Start a receiver, on any port where none is given, and wait until it listens."""
    port, log = port or free_port(), directory / f"{name}.jsonl"
    words = ["--host", host, "--port", str(port), "--log", str(log), *options]
    with (directory / f"{name}.log").open("ab") as out:
        process = launch(
            "services.cli.demo.receiver",
            words,
            cwd=ROOT,
            env=os.environ,
            stdout=out,
            stderr=out,
        )
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((host, port), 1).close()
            return Receiver(process, host, port, log)
        except OSError:
            if time.monotonic() > end or process.poll() is not None:
                raise
            time.sleep(0.05)


def most_in_window(times_ns: list[int], window_s: float) -> int:
    """Give the largest count of events in any half-open window."""
    most, recent = 0, deque[int]()
    for at in sorted(times_ns):
        recent.append(at)
        while at - recent[0] >= window_s * 1e9:
            recent.popleft()
        most = max(most, len(recent))
    return most
