"""How long the demonstration waits for something. A person watches; nothing here decides about mail."""

import time
from collections.abc import Callable

_LOOK_S = 0.05


class Patience:
    """Time that runs out."""

    def __init__(self, seconds: float) -> None:
        """It runs from now on."""
        self._until = time.monotonic() + seconds  # noqa: TID251

    def __repr__(self) -> str:
        """Show what is left."""
        return f"<Patience {self.left_s:.1f} s>"

    @property
    def left_s(self) -> float:
        """Give what is left; 0 when it is over."""
        return max(0.0, self._until - time.monotonic())  # noqa: TID251

    def until(self, condition: Callable[[], bool]) -> bool:
        """Wait until ``condition`` holds; False: patience ended first."""
        while not condition():
            if not self.left_s:
                return False
            time.sleep(min(_LOOK_S, self.left_s))  # noqa: TID251
        return True
