"""What an epoch of a slot leaves when it is over: messages that have gone out whole, whose peers have not said what they make of them.

Nobody but the connection that sent a message can hear its reply, and a peer may take ten minutes for it. So that no slot stands still for
that long, a slot is released when nothing else is under way from it; whoever has it next counts those connections as its own, and the
scheduler waits for their outcomes although a newer epoch is ready:

    what is left is said (``Left``) and read back -> released -> the next owner begins, with so many connections less
    a reply, or a loss -> its outcome is acknowledged -> ``Left`` with what is left then -> ... -> nothing: forgotten

No dot is written here: what had none when its slot was given up was cut off. A crash leaves outcomes that nobody says. Where the next
process of the same pod can prove that the one before it is dead (``podlock``), it says for it that nothing is left: the kernel has closed
those connections, and their attempts end as ``unknown`` at once. Else that comes when their time is over, and until then the connections
are counted, although they are gone: a process that is only silent may well have them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from services.sender.leaving import Cut, Leaving
from services.sender.line import Line
from shared.protocol.control import ControlView
from shared.records.control import Left, Unanswered, left_key

#: What was said and is not read back is said again after so long.
_SAY_AGAIN_NS: Final = 2_000_000_000


@dataclass(slots=True)
class Telling:
    """Say what one epoch leaves, until it is read back."""

    view: ControlView
    slot: int
    epoch: int
    process: str
    _said: tuple[Unanswered, ...] | None = None
    _said_ns: int = 0

    def known(self) -> tuple[Unanswered, ...]:
        """Give what everybody knows."""
        return self.view.left(self.slot, self.epoch)

    def covers(self, line: Line) -> bool:
        """Say whether everybody knows all that is under way on a line, and it is nothing but replies to messages that are out."""
        known, left = self.known(), line.unanswered(self.epoch)
        return bool(known) and left is not None and set(left) <= set(known)

    def settled(self, attempts: tuple[Unanswered, ...]) -> bool:
        """Say whether everybody knows of ``attempts`` and of no others, and nothing else is on its way."""
        return self.known() == attempts and self._said in (None, attempts)

    def say(self, attempts: tuple[Unanswered, ...], now_ns: int) -> Left | None:
        """Give what must be said now so that this becomes so."""
        if self.settled(attempts):
            return None
        if self._said == attempts and now_ns < self._said_ns + _SAY_AGAIN_NS:
            return None
        self._said, self._said_ns = attempts, now_ns
        return Left(slot=self.slot, epoch=self.epoch, process=self.process, attempts=attempts)


def over(view: ControlView, slot: int, epoch: int, attempt_max_ns: int) -> list[bytes]:
    """Give the keys of what was said of epochs before ``epoch`` of which nothing can be under way any more."""
    long_ns = 2 * attempt_max_ns
    return [
        left_key(slot, older)
        for older, (stamp_ns, _) in view.slot(slot).left.items()
        if older < epoch and view.log_ns - stamp_ns > long_ns
    ]


@dataclass(slots=True)
class Heir:
    """Say for the process before in the same pod, which a lock proves dead, that nothing is left of it; None: there is no such proof."""

    view: ControlView
    dead: str | None
    process: str
    _said_ns: int | None = None

    def speak(self, now_ns: int) -> list[Left]:
        """Give what must be said now; the log was read to its end."""
        if self.dead is None or (
            self._said_ns is not None and now_ns < self._said_ns + _SAY_AGAIN_NS
        ):
            return []
        # An empty one, and no tombstone: from its stamp on the schedulers know that every outcome there ever was lies before it.
        found = [
            Left(slot=slot, epoch=epoch, process=self.process)
            for slot, epoch in self.view.left_by(self.dead)
        ]
        self._said_ns = now_ns if found else None
        return found


@dataclass(slots=True)
class Leftover:
    """The line of an epoch that is over."""

    source: str
    line: Line
    telling: Telling
    leaving: Leaving = field(default_factory=Leaving)


@dataclass(slots=True)
class Leftovers:
    """All that this process waits for on slots that it has given up."""

    _all: list[Leftover] = field(default_factory=list)

    def __len__(self) -> int:
        """Count the epochs that are not done with."""
        return len(self._all)

    def take(self, leftover: Leftover) -> None:
        """Wait for what is under way on a line."""
        self._all.append(leftover)

    def busy(self, slot: int) -> int:
        """Count the attempts of a slot that are waited for."""
        return sum(each.line.busy for each in self._all if each.telling.slot == slot)

    def turn(
        self, now_ns: int, grace_ns: int, *, for_good: bool
    ) -> Iterator[tuple[Left | None, str | None]]:
        """Go on with each: give what must be said of it, and the source of one that the grace time has cut off."""
        for each in list(self._all):
            cut = each.leaving.cut(now_ns, grace_ns, releasing=True, for_good=for_good)
            # What has no dot yet gets none: the epoch is over.
            late = each.line.give_up(after_dot=cut is Cut.ALL)
            attempts = each.line.unanswered(each.telling.epoch)
            said = None if attempts is None else each.telling.say(attempts, now_ns)
            if said is not None or late:
                yield said, each.source if late else None
            elif attempts == () and each.telling.settled(()):
                self._all.remove(each)

    async def close(self) -> None:
        """End every connection."""
        for each in self._all:
            await each.line.close()
