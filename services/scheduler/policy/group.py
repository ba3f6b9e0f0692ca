"""A group: deliveries that wait for the same slots under the same limits. Pure."""

from dataclasses import dataclass, field

from services.scheduler.policy.duequeue import DueQueue
from services.scheduler.policy.explain import Pace
from services.scheduler.policy.lines import FOREVER
from services.scheduler.policy.rotation import Rotation
from services.scheduler.policy.steering import Steering

#: (limit key, pool, pinned slot, own slot, slot group, site).
GroupKey = tuple[str, str, int | None, int | None, int, str]


@dataclass(slots=True, eq=False)
class Group:
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
    provider: str | None
    queue: DueQueue
    rotation: Rotation = field(default_factory=Rotation)
    steering: Steering = field(default_factory=Steering)
    #: When it is looked at next; FOREVER: when something changes.
    wake_ns: int = FOREVER
    reason: str = "due"
    #: Since when it has this reason, and how fast it goes.
    since_ns: int = 0
    pace: Pace = field(default_factory=Pace)
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
