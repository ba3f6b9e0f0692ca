"""What an operator may order. Pure."""

from typing import Final, Literal

Action = Literal["cancel", "expire", "reroute", "rush", "pause", "slow", "limit", "resume"]
#: Done once, to mail that was accepted before.
ONE_SHOT: Final = frozenset({"cancel", "expire", "reroute", "rush"})
#: In force until it expires or is resumed.
STANDING: Final = frozenset({"pause", "slow", "limit"})
