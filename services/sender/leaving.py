"""How long a peer may keep a slot from its next owner by not answering: pure, one ``Leaving`` for each slot, or what is left of it.

Before the dot, cutting a transaction off costs nothing: the grant goes back, using no attempt, and the next owner sends it. After the dot
there is a message that may have been taken, and a duplicate is worse than anything: its reply is waited for, while the slot goes to its
next owner (``leftovers``). Only a process, or a source, that goes for good ends that when ``sender.grace`` is over. What is cut off after
its dot is said to be ``unknown`` by the one who knows. A slot with nothing under way is released at once.
"""

import enum
from dataclasses import dataclass
from typing import Final

#: So long peers are waited for before the dot.
PATIENCE_NS: Final = 5_000_000_000


class Cut(enum.Enum):
    """What of a slot's transactions ends now."""

    NOTHING = "nothing"
    BEFORE_DOT = "before the dot"
    ALL = "all"


@dataclass(slots=True)
class Leaving:
    """Since when a slot is being released, and since when for good, ns on the monotonic clock."""

    _since_ns: int | None = None
    _good_ns: int | None = None

    def cut(self, now_ns: int, grace_ns: int, *, releasing: bool, for_good: bool) -> Cut:
        """Say what ends now; ``for_good``: the process, or the source, goes, and the slot is not kept whatever happens."""
        if not releasing:
            self._since_ns = None
            return Cut.NOTHING
        if self._since_ns is None:
            self._since_ns = now_ns
        if not for_good:
            self._good_ns = None
        elif self._good_ns is None:
            self._good_ns = now_ns
        if self._good_ns is not None and now_ns - self._good_ns >= grace_ns:
            return Cut.ALL
        return Cut.BEFORE_DOT if now_ns - self._since_ns >= PATIENCE_NS else Cut.NOTHING
