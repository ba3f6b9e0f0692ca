"""The shell around the slots that this process can serve: it feeds each ``SlotOwner``, and does what it says.

Every slot has its own owner and line, and is followed by ``Dispatch`` while it may send; one loop turns all owners ten times a second.
A record that an owner says goes to mail.control, and its stamp comes back to it; if the producer breaks, the record is lost, its
heartbeat goes stale, and the owner stops by itself: nothing here needs to be told. Twice a heartbeat ``Sharing`` says which floating
slots this process should have, and their owners are told; ``Presence`` tells the other senders that this one is there.
"""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Final

from structlog.typing import FilteringBoundLogger

from services.sender.dispatch import Dispatch
from services.sender.leaving import Cut, Leaving
from services.sender.leftovers import Leftover, Leftovers, Telling, over
from services.sender.line import Line, Tools
from services.sender.ownership import (
    Action,
    Constants,
    HandBack,
    Identity,
    Now,
    Say,
    SlotOwner,
    State,
    TakeEnd,
)
from services.sender.presence import Presence
from services.sender.reach import Common, Reach
from services.sender.sharing import Sharing
from services.sender.sources.outlet import Outlet, is_given
from services.sender.voice import Voice
from shared.kafka.cluster import Cluster
from shared.kafka.controlfeed import ControlFeed
from shared.kafka.errors import KafkaTrouble
from shared.protocol.control import ControlView
from shared.records.control import (
    Claim,
    Control,
    Heartbeat,
    Present,
    SourceState,
    control_key,
    present_key,
)
from shared.records.topics import Topics
from shared.runtime.clock import Clock
from shared.runtime.settings import Settings, Source

_TURN_S: Final = 0.05
_MS: Final = 1_000_000
#: What is said of a source is said again after so long, where it was not read back.
_SAY_AGAIN_NS: Final = 2_000_000_000


@dataclass(slots=True)
class Slot:
    """One slot and everything that belongs to it."""

    source: Source
    owner: SlotOwner
    line: Line
    outlet: Outlet
    #: Of the present epoch, or the last.
    telling: Telling
    epoch: int = -1
    #: None: not known yet.
    usable: bool | None = None
    said_ns: int = -_SAY_AGAIN_NS
    leaving: Leaving = field(default_factory=Leaving)
    #: What keeps looking at the outlet.
    looking: asyncio.Task[None] | None = None
    #: Its source was taken out of the configuration, or changed: it drains, and goes.
    retired: bool = False


@dataclass(slots=True)
class Slots:
    """All slots that this process may own."""

    settings: Settings
    cluster: Cluster
    topics: Topics
    clock: Clock
    view: ControlView
    feed: ControlFeed
    dispatch: Dispatch
    me: Identity
    tools: Tools
    common: Common
    log: FilteringBoundLogger
    slots: dict[int, Slot] = field(default_factory=dict)
    leftovers: Leftovers = field(default_factory=Leftovers)
    sharing: Sharing = field(init=False)
    presence: Presence = field(init=False)
    _shared_ns: int = 0
    _voice: Voice = field(init=False)
    _draining: bool = False
    _idle: bool = False
    _looking: asyncio.TaskGroup | None = None

    def __post_init__(self) -> None:
        """Prepare to share out the floating slots."""
        numbers, times = self._floating(), self._times
        self.sharing = Sharing(
            numbers, self.me.process, self.me.pod, self.view, times, self.common.rng
        )
        self.presence = Presence(numbers, self.me, self.view, times)
        self._voice = Voice(self.cluster, self.topics.control, self.clock, self.log)

    def _floating(self) -> tuple[int, ...]:
        return tuple(sorted(s.slot for s in self.settings.sources.values() if s.floating))

    @property
    def _times(self) -> Constants:
        times = self.settings.timing
        return Constants(
            times.fresh_ns, times.skew_ns, times.wait_ns, times.silence_ns, times.heartbeat_ns
        )

    def add(self, source: Source) -> None:
        """Serve ``source``, as soon and as long as its address can be used here."""
        if not is_given(source, self.settings.sender.ordinal):
            return
        owner = SlotOwner(source.slot, source.name, self.me, self.view, self._times, self._now())
        outlet = Outlet(source, self.settings.sender, self.common.observer, self.clock, self.log)
        line = Line(owner, Reach(source, outlet, self.common), self.tools)
        telling = Telling(self.view, source.slot, owner.epoch, self.me.process)
        slot = self.slots[source.slot] = Slot(source, owner, line, outlet, telling)
        if self._looking is not None:
            slot.looking = self._looking.create_task(outlet.run())

    def renew(self, settings: Settings) -> None:
        """Go on under other settings: what is gone or changed drains and is released, what is new is served."""
        self.settings = self.tools.settings = settings
        self.tools.messages.renew(settings)
        self.common.renew(settings)
        for slot in self.slots.values():
            now = settings.source_of(slot.source.slot)
            # How it is warmed is the scheduler's affair.
            if now is None or replace(now, warmup=slot.source.warmup) != slot.source:
                slot.retired = True
                slot.owner.drain()
        for source in settings.sources.values():
            if source.slot not in self.slots:
                self.add(source)
        self.sharing.slots = self.presence.slots = self._floating()

    async def _retire(self) -> None:
        """Let go of what was retired and has been released, and serve anew what only changed."""
        over = [s for s in self.slots.values() if s.retired and s.owner.state is State.DONE]
        for slot in over:
            del self.slots[slot.source.slot]
            await self._end(slot)
            source = self.settings.source_of(slot.source.slot)
            if source is not None:
                self.add(source)

    def heard(self, stamp_ns: int, record: Control) -> None:
        """Let the owner of a slot hear a record of mail.control (a listener of the feed)."""
        # All that an owner listens to is about its own slot.
        if isinstance(record, Claim | Heartbeat) and record.slot in self.slots:
            self.slots[record.slot].owner.on_read(stamp_ns, record, self._now())

    def owned(self) -> list[str]:
        """Name the sources that may send now."""
        mono = self.clock.mono_ns()
        return [slot.source.name for slot in self.slots.values() if slot.owner.acting(mono)]

    def idle_by_share(self) -> bool:
        """Say whether this process has nothing to own: others have the floating slots, and no fixed one can be used here."""
        return (
            len(self.sharing.slots) > 0
            and self.sharing.settled()
            and not any(
                slot.owner.wanted if slot.source.floating else slot.usable is not False
                for slot in self.slots.values()
            )
        )

    def _tell_idle(self) -> None:
        """Log that there is nothing to do here, once each time that it begins."""
        idle = not self._draining and not self.owned() and self.idle_by_share()
        if idle and not self._idle:
            self.log.info("idle", floating=len(self.sharing.slots))
        self._idle = idle

    # -- the loop

    async def run(self) -> None:
        """Turn the owners until every one of them is done (after ``drain``) or the task is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._looking = tasks
            for slot in self.slots.values():
                slot.looking = tasks.create_task(slot.outlet.run())
            try:
                await self._turn_all()
            finally:
                self._looking = None

    async def _turn_all(self) -> None:
        try:
            while not (self._draining and self._is_over()):
                await self._voice.mend()
                self._share()
                for slot in self.slots.values():
                    self._turn(slot)
                self._turn_leftovers()
                await self._retire()
                self._tell_idle()
                await self.clock.sleep(_TURN_S)
        finally:
            await self._close()

    def _is_over(self) -> bool:
        done = all(slot.owner.state is State.DONE for slot in self.slots.values())
        return done and not self.leftovers

    def _share(self) -> None:
        now, pause_ns = self._now(), self.settings.timing.heartbeat_ns // 2
        if now.mono_ns < self._shared_ns + pause_ns or self._draining:
            return
        self._shared_ns = now.mono_ns
        floating = [s for number in self.sharing.slots if (s := self.slots.get(number)) is not None]
        lacks = [slot.source.slot for slot in floating if not slot.usable]
        if (said := self.presence.speak(lacks, now)) is not None:
            self._voice.spawn(self._present(said))
            for pod in self.presence.to_bury():
                self._voice.bury(present_key(pod))
        mine = [slot.source.slot for slot in floating if slot.owner.claimed]
        wanted = self.sharing.wanted(mine, now.mono_ns)
        for slot in floating:
            slot.owner.wanted = slot.source.slot in wanted

    def _turn(self, slot: Slot) -> None:
        self._look_at_source(slot)
        left = slot.owner.state is State.RELEASING and slot.telling.covers(slot.line)
        slot.owner.on_busy(idle=slot.line.idle or left)
        if slot.usable or slot.owner.state not in (State.WATCHING, State.LISTENING):
            for action in slot.owner.step(self._now(), at_end=self.feed.at_end):
                self._act(slot, action)
        elif self._draining or slot.retired:
            slot.owner.step(self._now(), at_end=self.feed.at_end)
        self._hurry(slot)
        if slot.owner.state is State.READY and slot.epoch != slot.owner.epoch:
            self._begin_epoch(slot)
        elif slot.owner.state is State.READY:
            self._count_left(slot)
        elif slot.owner.epoch_ended and self.dispatch.follows(slot.source.slot):
            self._end_epoch(slot)

    def _hurry(self, slot: Slot) -> None:
        """Let no peer that sits on an answer keep the slot from its next owner."""
        cut = slot.leaving.cut(
            self.clock.mono_ns(),
            self.settings.sender.grace_ns,
            releasing=slot.owner.state is State.RELEASING,
            for_good=self._draining or slot.retired,
        )
        if cut is not Cut.NOTHING and slot.line.give_up(after_dot=cut is Cut.ALL):
            self.log.warning("grace_over", sources=[slot.source.name])
        if slot.owner.epoch_ended:
            return
        left = slot.line.unanswered(slot.epoch) if cut is not Cut.NOTHING else ()
        if left is not None and (said := slot.telling.say(left, self.clock.mono_ns())) is not None:
            self._voice.say(said)

    def _turn_leftovers(self) -> None:
        """Go on waiting for what slots that were given up have left."""
        now, grace = self.clock.mono_ns(), self.settings.sender.grace_ns
        for said, late in self.leftovers.turn(now, grace, for_good=self._draining):
            if late is not None:
                self.log.warning("grace_over", sources=[late])
            if said is not None:
                self._voice.say(said)

    def _act(self, slot: Slot, action: Action) -> None:
        match action:
            case Say(record=record, token=token):
                self._voice.spawn(self._say(slot, record, token))
            case TakeEnd():
                self._voice.spawn(self._take_end(slot))
            case HandBack():
                slot.line.stop()

    async def _say(self, slot: Slot, record: Control, token: str) -> None:
        stamped = await self._voice.append(record, control_key(record))
        if stamped is None:
            slot.owner.on_lost(token, self._now())
        else:
            slot.owner.on_stamped(token, stamped.offset, stamped.timestamp_ms * _MS, self._now())

    async def _present(self, record: Present) -> None:
        stamped = await self._voice.append(record, control_key(record))
        if stamped is not None:
            self.presence.on_stamped(record, stamped.timestamp_ms * _MS, self._now())

    async def _take_end(self, slot: Slot) -> None:
        here = (self.topics.dispatch, slot.source.slot)
        while slot.owner.state is State.ENDING:
            try:
                slot.owner.on_end((await self.cluster.end_offsets([here]))[here])
            except KafkaTrouble as error:
                self.log.warning("dispatch_end_failed", slot=slot.source.slot, reason=str(error))
                await self.clock.sleep(0.5)
            else:
                return

    # -- an epoch

    def _begin_epoch(self, slot: Slot) -> None:
        slot.epoch = slot.owner.epoch
        slot.telling = Telling(self.view, slot.source.slot, slot.epoch, self.me.process)
        slot.line.new_epoch()
        self._count_left(slot)
        for key in over(
            self.view, slot.source.slot, slot.epoch, self.settings.timing.attempt_max_ns
        ):
            self._voice.bury(key)
        self.log.info(
            "slot_ready", slot=slot.source.slot, source=slot.source.name, epoch=slot.epoch
        )
        self.dispatch.follow(slot.source.slot, slot.owner.dispatch_from or 0, slot.line)

    def _count_left(self, slot: Slot) -> None:
        """Count the connections that older epochs have left as this one's, whoever waits for them."""
        if self.view.slot(slot.source.slot).left:
            within = self.settings.timing.attempt_max_ns
            slot.line.elsewhere(self.view.unanswered(slot.source.slot, slot.epoch, within))

    def _end_epoch(self, slot: Slot) -> None:
        self.dispatch.leave(slot.source.slot)
        if not (slot.line.idle and slot.telling.settled(())):
            self.leftovers.take(Leftover(slot.source.name, slot.line, slot.telling, slot.leaving))
            slot.line, slot.leaving = slot.line.successor(), Leaving()
        self.log.info(
            "slot_given_up",
            slot=slot.source.slot,
            source=slot.source.name,
            epoch=slot.epoch,
            left=len(slot.telling.known()),
        )

    # -- the source

    def _look_at_source(self, slot: Slot) -> None:
        """Suspend a source from which nothing can leave, and take it back when something can."""
        if not slot.outlet.known:
            return
        trouble = slot.outlet.trouble
        usable = trouble is None
        if usable != slot.usable and not (usable and slot.usable is None):
            self.log.warning(
                "source_usable" if usable else "source_suspended",
                source=slot.source.name,
                reason=trouble,
            )
        slot.usable = usable
        self._say_usable(slot, trouble)

    def _say_usable(self, slot: Slot, trouble: str | None) -> None:
        """Let the schedulers know, until it is read back that they do."""
        usable, now, number = trouble is None, self.clock.mono_ns(), slot.source.slot
        if self.view.slot(number).usable == usable or now < slot.said_ns + _SAY_AGAIN_NS:
            return
        if slot.owner.state in (State.READY, State.RELEASING):
            # Only an owner speaks of its source: others may well be able to use it.
            slot.said_ns = now
            state = SourceState(
                slot=number, source=slot.source.name, usable=usable, reason=trouble or ""
            )
            self._voice.spawn(self._say(slot, state, ""))

    # -- the end

    def drain(self) -> None:
        """Start nothing more; hand back, finish, release."""
        self._draining = True
        if (last := self.presence.leave(self._now())) is not None:
            self._voice.spawn(self._present(last))
        for slot in self.slots.values():
            slot.owner.drain()

    async def _close(self) -> None:
        for slot in self.slots.values():
            await self._end(slot)
        await self.leftovers.close()
        if self._draining and self.sharing.slots:
            self._voice.bury(present_key(self.me.pod))
        await self._voice.close()

    async def _end(self, slot: Slot) -> None:
        self.dispatch.leave(slot.source.slot)
        if slot.looking is not None:
            slot.looking.cancel()
        await slot.line.close()

    def _now(self) -> Now:
        return Now(self.clock.mono_ns(), self.clock.now_ns())
