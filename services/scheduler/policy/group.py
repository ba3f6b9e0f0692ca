"""A group: deliveries that wait for the same slots under the same limits. Pure.

Of ten thousand small sites most have one delivery, and then none: their groups come and go with it. So what only a second delivery needs
is made when it is needed.
"""

import msgspec

from services.scheduler.policy.duequeue import DueQueue
from services.scheduler.policy.explain import Pace
from services.scheduler.policy.lines import FOREVER
from services.scheduler.policy.rotation import Rotation
from services.scheduler.policy.steering import Steering

#: (limit key, pool, pinned slot, own slot, slot group, site).
GroupKey = tuple[str, str, int | None, int | None, int, str]


class Group(msgspec.Struct, eq=False):
    """Deliveries that wait for the same slots under the same limits."""

    limit_key: str
    pool: str
    pinned: int | None
    #: In a sticky pool, the slot that its deliveries are tied to.
    home: int | None
    #: The slot group.
    slots: int
    #: A site of the provider that has limits of its own.
    site: str
    #: None too where a smart host sends it, for all its mail waits together.
    provider: str | None
    queue: DueQueue
    #: Whose turn it is; None: it has given nothing yet, so it is drawn.
    rotation: Rotation | None = None
    #: None: it has had no choice yet between a source that is being warmed up and another.
    steering: Steering | None = None
    #: When it is looked at next; FOREVER: when something changes.
    wake_ns: int = FOREVER
    reason: str = "due"
    #: Since when it has this reason, and how fast it goes; None: it has given nothing yet.
    since_ns: int = 0
    pace: Pace | None = None
    #: Grows with each turn that any group has: whose is the least had the last one longest ago.
    served: int = 0
    #: Since when nothing of it may go, and why.
    stopped: tuple[int, str] | None = None
    #: It has nothing any more; another may have its place.
    gone: bool = False

    @property
    def key(self) -> GroupKey:
        """Say what it is the group of."""
        return self.limit_key, self.pool, self.pinned, self.home, self.slots, self.site
