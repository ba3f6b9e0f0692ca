"""One slot that this process can serve: its owner, its source's outlet, the line of its present epoch, and what its last one left.

``Slots`` turns it twenty times a second: what the owner says is done, an epoch that begins is followed in mail.dispatch, one that is over
is left, and the source is watched meanwhile. A record that an owner says goes to mail.control, and its stamp comes back to it; if the
producer breaks, the record is lost, its heartbeat goes stale, and the owner stops by itself: nothing here needs to be told.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from services.sender.dispatch import Dispatch
from services.sender.leaving import Cut, Leaving
from services.sender.leftovers import Leftover, Leftovers, Telling, over
from services.sender.line import Line, Tools
from services.sender.ownership import Action, HandBack, Now, Say, SlotOwner, State, TakeEnd
from services.sender.sources.outlet import Outlet
from services.sender.voice import Voice
from shared.kafka.controlfeed import ControlFeed
from shared.kafka.errors import KafkaTrouble
from shared.protocol.control import ControlView
from shared.records.control import Control, SourceState, control_key
from shared.runtime.settings import Source

_MS: Final = 1_000_000
#: What is said of a source is said again after so long, where it was not read back.
_SAY_AGAIN_NS: Final = 2_000_000_000


@dataclass(slots=True)
class Channels:
    """How a slot hears and speaks, and who waits for what it leaves: the same for all slots of the process."""

    view: ControlView
    feed: ControlFeed
    dispatch: Dispatch
    voice: Voice
    leftovers: Leftovers = field(default_factory=Leftovers)


@dataclass(slots=True)
class Slot:
    """One slot and everything that belongs to it."""

    source: Source
    owner: SlotOwner
    line: Line
    outlet: Outlet
    tools: Tools
    channels: Channels
    #: Who speaks.
    process: str
    #: Of the present epoch, or the last.
    telling: Telling = field(init=False)
    epoch: int = -1
    #: None: not known yet.
    usable: bool | None = None
    said_ns: int = -_SAY_AGAIN_NS
    leaving: Leaving = field(default_factory=Leaving)
    #: What keeps looking at the outlet.
    looking: asyncio.Task[None] | None = None
    #: Its source was taken out of the configuration, or changed: it drains, and goes.
    retired: bool = False

    def __post_init__(self) -> None:
        """Have nothing to tell yet."""
        self.telling = self._telling(self.owner.epoch)

    def _telling(self, epoch: int) -> Telling:
        return Telling(self.channels.view, self.source.slot, epoch, self.process)

    def look(self, tasks: asyncio.TaskGroup) -> None:
        """Keep looking, from now on, at the way out."""
        self.looking = tasks.create_task(self.outlet.run())

    def turn(self, *, draining: bool) -> None:
        """Go on; while the process is ``draining`` it is given up for good."""
        self._look_at_source()
        left = self.owner.state is State.RELEASING and self.telling.covers(self.line)
        self.owner.on_busy(idle=self.line.idle or left)
        if self.usable or self.owner.state not in (State.WATCHING, State.LISTENING):
            for action in self.owner.step(self._now(), at_end=self.channels.feed.at_end):
                self._act(action)
        elif draining or self.retired:
            self.owner.step(self._now(), at_end=self.channels.feed.at_end)
        self._hurry(for_good=draining or self.retired)
        if self.owner.state is State.READY and self.epoch != self.owner.epoch:
            self._begin_epoch()
        elif self.owner.state is State.READY:
            self._count_left()
        elif self.owner.epoch_ended and self.channels.dispatch.follows(self.source.slot):
            self._end_epoch()

    def _hurry(self, *, for_good: bool) -> None:
        """Let no peer that sits on an answer keep the slot from its next owner."""
        cut = self.leaving.cut(
            self.tools.clock.mono_ns(),
            self.tools.settings.sender.grace_ns,
            releasing=self.owner.state is State.RELEASING,
            for_good=for_good,
        )
        if cut is not Cut.NOTHING and self.line.give_up(after_dot=cut is Cut.ALL):
            self.tools.log.warning("grace_over", sources=[self.source.name])
        if self.owner.epoch_ended:
            return
        left = self.line.unanswered(self.epoch) if cut is not Cut.NOTHING else ()
        if left is not None:
            said = self.telling.say(left, self.tools.clock.mono_ns())
            if said is not None:
                self.channels.voice.say(said)

    def _act(self, action: Action) -> None:
        match action:
            case Say(record=record, token=token):
                self.channels.voice.spawn(self._say(record, token))
            case TakeEnd():
                self.channels.voice.spawn(self._take_end())
            case HandBack():
                self.line.stop()

    async def _say(self, record: Control, token: str) -> None:
        stamped = await self.channels.voice.append(record, control_key(record))
        if stamped is None:
            self.owner.on_lost(token, self._now())
        else:
            self.owner.on_stamped(token, stamped.offset, stamped.timestamp_ms * _MS, self._now())

    async def _take_end(self) -> None:
        while self.owner.state is State.ENDING:
            try:
                self.owner.on_end(await self.channels.dispatch.end(self.source.slot))
            except KafkaTrouble as error:
                self.tools.log.warning(
                    "dispatch_end_failed", slot=self.source.slot, reason=str(error)
                )
                await self.tools.clock.sleep(0.5)
            else:
                return

    # -- an epoch

    def _begin_epoch(self) -> None:
        self.epoch = self.owner.epoch
        self.telling = self._telling(self.epoch)
        self.line.new_epoch()
        self._count_left()
        within = self.tools.settings.timing.attempt_max_ns
        for key in over(self.channels.view, self.source.slot, self.epoch, within):
            self.channels.voice.bury(key)
        self.tools.log.info(
            "slot_ready", slot=self.source.slot, source=self.source.name, epoch=self.epoch
        )
        start = self.owner.dispatch_from or 0
        self.channels.dispatch.follow(self.source.slot, start, self.line)

    def _count_left(self) -> None:
        """Count the connections that older epochs have left as this one's, whoever waits for them."""
        view = self.channels.view
        if view.slot(self.source.slot).left:
            within = self.tools.settings.timing.attempt_max_ns
            self.line.elsewhere(view.unanswered(self.source.slot, self.epoch, within))

    def _end_epoch(self) -> None:
        self.channels.dispatch.leave(self.source.slot)
        if not (self.line.idle and self.telling.settled(())):
            left = Leftover(self.source.name, self.line, self.telling, self.leaving)
            self.channels.leftovers.take(left)
            self.line, self.leaving = self.line.successor(), Leaving()
        self.tools.log.info(
            "slot_given_up",
            slot=self.source.slot,
            source=self.source.name,
            epoch=self.epoch,
            left=len(self.telling.known()),
        )

    # -- the source

    def _look_at_source(self) -> None:
        """Suspend a source from which nothing can leave, and take it back when something can."""
        if not self.outlet.known:
            return
        trouble = self.outlet.trouble
        usable = trouble is None
        if usable != self.usable and not (usable and self.usable is None):
            self.tools.log.warning(
                "source_usable" if usable else "source_suspended",
                source=self.source.name,
                reason=trouble,
            )
        self.usable = usable
        self._say_usable(trouble)

    def _say_usable(self, trouble: str | None) -> None:
        """Let the schedulers know, until it is read back that they do."""
        usable, now, number = trouble is None, self.tools.clock.mono_ns(), self.source.slot
        known = self.channels.view.slot(number).usable
        if known == usable or now < self.said_ns + _SAY_AGAIN_NS:
            return
        if self.owner.state in (State.READY, State.RELEASING):
            # Only an owner speaks of its source: others may well be able to use it.
            self.said_ns = now
            state = SourceState(
                slot=number, source=self.source.name, usable=usable, reason=trouble or ""
            )
            self.channels.voice.spawn(self._say(state, ""))

    async def close(self) -> None:
        """End it: nothing is read for it, looked at, or connected any more."""
        self.channels.dispatch.leave(self.source.slot)
        if self.looking is not None:
            self.looking.cancel()
        await self.line.close()

    def _now(self) -> Now:
        return Now(self.tools.clock.mono_ns(), self.tools.clock.now_ns())
