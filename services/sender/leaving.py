"""How long a peer may keep a slot from its next owner by not answering: pure, one ``Leaving`` for each slot.

Before the dot, cutting a transaction off costs nothing: the grant goes back, using no attempt, and the next owner sends it. After the dot
there is a message that may have been taken. A duplicate is worse than a slot that stands still, so its reply is waited for up to
``sender.grace``, and where a slot is only moved it is not cut off at all: ``sharing`` keeps such a slot, and asks again later. What is cut
off after its dot is said to be ``unknown`` by the one who knows, and the slot is released with it, so the next owner need not wait for
silence. Every other slot of the process is released as soon as it is idle.
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
    """Since when a slot is being released, ns on the monotonic clock."""

    _since_ns: int | None = None

    def cut(self, now_ns: int, grace_ns: int, *, releasing: bool, for_good: bool) -> Cut:
        """Say what ends now; ``for_good``: the process, or the source, goes, and the slot is not kept whatever happens."""
        if not releasing:
            self._since_ns = None
            return Cut.NOTHING
        if self._since_ns is None:
            self._since_ns = now_ns
        waited = now_ns - self._since_ns
        if for_good and waited >= grace_ns:
            return Cut.ALL
        return Cut.BEFORE_DOT if waited >= PATIENCE_NS else Cut.NOTHING
