"""What a pair remembers of a destination's warnings: a part of the pair's state, see services.scheduler.policy.backoff.

Levels of a rate are whole messages a day, so that they can be cut and raised without a fraction; those of connections are connections.
"""

from typing import Final

import msgspec


class Allowance(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """How much is let through since the destination said that it was too much."""

    level: int
    #: What it bore badly.
    hurt: int
    #: Until then the level stays below ``hurt``; each cut makes that twice as long.
    careful_ns: int
    memory_ns: int
    #: When it was cut or raised last.
    raised_ns: int
    #: How much of ``hurt``, of a thousand, it is raised to while that is remembered.
    plateau: int = 900


class Suspension(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Nothing goes before ``until_ns``; then one at a time, until ``left`` of them were taken."""

    until_ns: int
    #: Before the jitter: the next one is twice as long.
    length_ns: int
    #: 0: it is over, and only its length is remembered.
    left: int


class Hearsay(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What a sibling was warned at, see services.scheduler.policy.hearsay."""

    #: Messages a day, counted over ``window_ns``.
    hurt: int
    window_ns: int
    heard_ns: int
    #: What it lets through; None: the pair is the one that tries whether it is so.
    pace: Allowance | None = None
    #: Nothing is granted before: what the pair has sent in the window leaves no room.
    until_ns: int = 0


class Backoff(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """All of it for one pair."""

    #: Answers to attempts whose t0 is not later are of the burst that was reacted to ...
    mark_ns: int = 0
    #: ... as gravely as this: 1 slowed, 2 suspended.
    gravity: int = 0
    #: The last warning, whether it was reacted to or not, and whether a good answer came since the last reaction.
    warned_ns: int = 0
    taken: bool = False
    #: Nothing is granted before, and how long the last such wait was.
    hold_ns: int = 0
    held_ns: int = 0
    pace: Allowance | None = None
    connections: Allowance | None = None
    suspension: Suspension | None = None
    #: Of a pair that has no ``pace`` of its own.
    hearsay: Hearsay | None = None


#: Nothing was ever held against a pair, or a sending domain.
NO_BACKOFF: Final = Backoff()
