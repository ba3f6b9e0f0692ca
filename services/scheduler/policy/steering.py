"""Who gets the grants of a source that is being warmed up: those whose mail is wanted most. Pure.

A new address is judged by its first mails, so they should be transactional, or for recipients who are known to read what they get
(tagged so, ``Warmup.first``). Where there is also a source to send from that is warm, such mail takes the new one if it has a grant to
give, and other mail only when that grant has been left for half of the time to the next. That costs other mail a third of the budget at
most, and only while there was such mail within the last hour: where nobody sends any, nothing is kept for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from services.scheduler.policy.room import Room
from shared.records.state import DeliveryState
from shared.runtime.settings import Settings

_REMEMBERED_NS: Final = 3_600_000_000_000


class Candidate(Protocol):
    """A slot that may take a grant."""

    @property
    def room(self) -> Room:
        """When, and whether it is being warmed up."""


C = TypeVar("C", bound=Candidate)


@dataclass(slots=True)
class Steering:
    """Where one group's mail goes."""

    #: When the last delivery was given out that goes first.
    _first_ns: int = -_REMEMBERED_NS

    def among(self, candidates: Sequence[C], *, first: bool, now_ns: int) -> Sequence[C]:
        """Give those that a delivery may have, at least one of ``candidates``."""
        if first:
            self._first_ns = now_ns
        new = [each for each in candidates if each.room.warming is not None]
        if not new or len(new) == len(candidates):
            return candidates
        if first:
            return new
        if now_ns >= self._first_ns + _REMEMBERED_NS:
            return candidates
        return [each for each in candidates if _left_over(each.room, now_ns)]


def _left_over(room: Room, now_ns: int) -> bool:
    return room.warming is None or room.warming.left_ns <= now_ns


def first_tags(settings: Settings) -> frozenset[str]:
    """Give the tags of mail that goes first from any source that is being warmed up."""
    names = {source.warmup for source in settings.sources.values()}
    found = (settings.warmups[name].first for name in names if name in settings.warmups)
    return frozenset(tag for tags in found for tag in tags)


def goes_first(entry: DeliveryState, tags: frozenset[str]) -> bool:
    """Say whether a delivery goes first."""
    return entry.class_ == "transactional" or not tags.isdisjoint(entry.tags)
