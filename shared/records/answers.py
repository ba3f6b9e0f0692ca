"""What a scheduler answers to whoever asks it over HTTP, and `postyard` puts together: never on Kafka.

Every answer says which partitions it is about, so that whoever asks all schedulers knows whether anybody is missing. No mail address is in
any of them.
"""

from typing import Final

import msgspec

#: The columns of ``Row.ages``: minutes; the last has no end.
AGES: Final = (5, 10, 20, 40, 80, 160, 320, 640, 1280)
#: What rows may be about.
BY: Final = ("provider", "lane", "tenant", "class", "reason", "pool", "stream", "domain")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Deliveries that have these names in common, by age since they were accepted."""

    names: tuple[str, ...]
    ages: tuple[int, ...]


class QueueAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What waits, by what was asked for."""

    partitions: tuple[int, ...]
    by: tuple[str, ...]
    rows: tuple[Row, ...]
    #: What memory has no room for; its age is not known.
    parked: int = 0


class CountAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How many deliveries an order would be about."""

    partitions: tuple[int, ...]
    #: What waits, and would be met at once.
    waiting: int
    #: What is out with a sender, and would be met if it comes back.
    open: int
    #: What is parked, and may fit: nobody has looked at each.
    parked: int


class Explanation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What binds one delivery."""

    delivery: str
    tenant: str
    class_: str = msgspec.field(name="class")
    domain: str
    provider: str | None = None
    pool: str
    partition: int
    reason: str
    scope: str
    detail: str = ""
    since_ns: int | None = None
    until_ns: int | None = None
    eta_ns: int | None = None
    #: How many go before it.
    before: int | None = None
    expires_ns: int


class ExplainAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What binds some of the deliveries that were asked for, and how many are bound by what."""

    partitions: tuple[int, ...]
    deliveries: tuple[Explanation, ...]
    #: Reason -> count, of all that fit.
    reasons: dict[str, int]


class Learnt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a destination's answers have left of a source, or of a sending domain's mail there."""

    partition: int
    #: The limit key.
    key: str
    #: One of the two.
    source: str = ""
    domain: str = ""
    #: Messages a day: what is let through now, and what was too much; until when it stays below that.
    level: int | None = None
    hurt: int | None = None
    careful_ns: int | None = None
    connections: int | None = None
    connections_hurt: int | None = None
    #: It is another source of the pool that was warned.
    sibling: bool = False
    #: Nothing goes before; ``paused``: since the destination does not let it in.
    stopped_ns: int | None = None
    paused: bool = False
    #: Probes that must be taken before it goes on.
    probes: int = 0


class LearntAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was learnt, and has not been forgotten."""

    partitions: tuple[int, ...]
    learnt: tuple[Learnt, ...]


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What one partition has done of an order."""

    partition: int
    id: str
    hits: int
    done: bool


class OrdersAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was done of the orders in force."""

    partitions: tuple[int, ...]
    orders: tuple[Done, ...]
