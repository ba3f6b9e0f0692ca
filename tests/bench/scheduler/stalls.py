"""How long a process's loop is held up: the longest time that it took to answer a question of a few bytes, asked again and again."""

import time
import urllib.request
from typing import Final

from tests.bench.sampling import Sampler

_EVERY_S: Final = 0.02
_PATIENCE_S: Final = 120.0


class Stalls(Sampler):
    """``with Stalls(port) as stalls: …; stalls.longest_s``; what the machine's other processes take is in it."""

    def __init__(self, port: int) -> None:
        super().__init__(_EVERY_S)
        self._port = port
        self.longest_s = 0.0

    def _sample(self) -> None:
        asked = time.monotonic()
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._port}/healthz", timeout=_PATIENCE_S
            ) as answer:
                answer.read()
        except OSError:
            return  # It does not listen yet, or has ended.
        self.longest_s = max(self.longest_s, time.monotonic() - asked)
