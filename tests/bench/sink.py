"""The receiving server of both sides: Debian's smtp-sink, which takes everything and counts it.

It prints its counters at every message, so the time at which the last one arrived is the receiver's own word and not the sender's.
A second one keeps what it receives, and shows that both sides really sign.
"""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.processes import program
from tests.support.stack import free_port

_COUNT: Final = re.compile(rb"mesg=(\d+)")
_TAIL_BYTES: Final = 200
_LOOK_S: Final = 0.005
#: As root it wants to become somebody with fewer rights.
_USER: Final = "nobody"


class Sink:
    """``with Sink(directory) as sink: … sink.target, sink.count``; with ``keep`` each message becomes a file."""

    def __init__(self, directory: Path, *, keep: bool = False) -> None:
        directory.mkdir(parents=True)
        self._log = directory / "counters"
        self._kept = directory / "kept"
        self._kept.mkdir()
        if os.geteuid() == 0:
            shutil.chown(self._kept, _USER)
        self._options = ["-D", str(self._kept / "%s.")] if keep else ["-c"]
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = program("smtp-sink")
        if command is None:
            raise SystemExit("the benchmark needs smtp-sink: apt-get install postfix")
        user = ["-u", _USER] if os.geteuid() == 0 else []
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                [command, *user, "-m", "500", *self._options, f"127.0.0.1:{self.port}", "1000"],
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        time.sleep(0.3)
        if self._process.poll() is not None:
            raise SystemExit(f"smtp-sink ended: {self._log.read_text()}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(10)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def count(self) -> int:
        """How many messages it has taken so far."""
        with self._log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - _TAIL_BYTES))
            counts = _COUNT.findall(log.read())
        return int(counts[-1]) if counts else 0

    def until(self, count: int, seconds: float) -> float:
        """Wait for so many messages; give the monotonic time at which they were there."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            if self.count >= count:
                return now
            time.sleep(_LOOK_S)
        raise SystemExit(f"{self.count} of {count} messages arrived within {seconds:.0f} s")

    def kept(self, seconds: float) -> bytes:
        """Wait for a message that is kept, and give it with the line ends that it had on the wire."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for path in self._kept.iterdir():
                text = path.read_bytes()
                if text.endswith(b"\n"):
                    time.sleep(_LOOK_S)
                    path.unlink()
                    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            time.sleep(_LOOK_S)
        raise SystemExit(f"no message arrived within {seconds:.0f} s")
