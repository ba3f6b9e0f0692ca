"""Which of the workers side by side runs what: each takes the next test, in the order of collection.

A module whose tests share something that is made once for it (a broker, a day's simulation) is one piece, for each worker would make its
own. The long tests are in rooms that come first: what is left at the end is short, and no worker waits for another.
"""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling


class Pieces(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Hands out single tests, and modules that are one piece."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        # It would begin with the pieces of most tests, which are not those that take longest.
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return piece(nodeid, self.config.rootpath)


def piece(nodeid: str, root: Path) -> str:
    """Name the piece that a test belongs to: all tests of its module, or itself."""
    module = nodeid.partition("::")[0]
    return module if _shares(root / module) else nodeid


@cache
def _shares(module: Path) -> bool:
    return 'scope="module"' in module.read_text()
