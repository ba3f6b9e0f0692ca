"""How long a process's loop is held up: the longest time that it took to answer a question of a few bytes, asked again and again."""

import threading
import time
import urllib.request
from types import TracebackType
from typing import Final, Self

_EVERY_S: Final = 0.02
_PATIENCE_S: Final = 120.0


class Stalls:
    """``with Stalls(port) as stalls: …; stalls.longest_s``; what the machine's other processes take is in it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stalls")
        self.longest_s = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(_EVERY_S):
            asked = time.monotonic()
            try:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{self._port}/healthz", timeout=_PATIENCE_S
                ) as answer:
                    answer.read()
            except OSError:
                continue  # It does not listen yet, or has ended.
            self.longest_s = max(self.longest_s, time.monotonic() - asked)
