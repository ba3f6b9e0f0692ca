"""The slots that this process can serve: which there are, which of the floating ones are its own, and one loop that turns them all.

Every ``Slot`` has its own owner and line. Twice a heartbeat ``Sharing`` says which floating slots this process should have, and their
owners are told; ``Presence`` tells the other senders that this one is there. What slots that were given up have left is waited for here.
"""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Final

from structlog.typing import FilteringBoundLogger

from services.sender.dispatch import Dispatch
from services.sender.leftovers import Heir, Leftovers
from services.sender.line import Line, Tools
from services.sender.ownership import (
    Constants,
    Identity,
    Now,
    SlotOwner,
    State,
)
from services.sender.presence import Presence
from services.sender.reach import Common, Reach
from services.sender.sharing import Sharing
from services.sender.slot import Channels, Slot
from services.sender.sources.outlet import Outlet, is_given
from services.sender.voice import Voice
from shared.kafka.cluster import Cluster
from shared.kafka.controlfeed import ControlFeed
from shared.kafka.lasting import Lasting
from shared.protocol.control import ControlView
from shared.records.control import (
    Claim,
    Control,
    Heartbeat,
    Present,
    control_key,
    present_key,
)
from shared.records.topics import Topics
from shared.runtime.clock import Clock
from shared.runtime.settings import Settings, Source

_TURN_S: Final = 0.05
_MS: Final = 1_000_000


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
    _heir: Heir = field(init=False)
    _voice: Voice = field(init=False)
    _channels: Channels = field(init=False)
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
        self._heir = Heir(self.view, self.me.dead_predecessor, self.me.process)
        self._voice = Voice(Lasting(self.cluster), self.topics.control, self.clock, self.log)
        self._channels = Channels(self.view, self.feed, self.dispatch, self._voice, self.leftovers)

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
        # A configuration is often renewed together with the processes: whoever leaves begins nothing.
        if self._draining or not is_given(source, self.settings.sender.ordinal):
            return
        owner = SlotOwner(source.slot, source.name, self.me, self.view, self._times, self._now())
        outlet = Outlet(source, self.settings.sender, self.common.observer, self.clock, self.log)
        line = Line(owner, Reach(source, outlet, self.common), self.tools)
        slot = self.slots[source.slot] = Slot(
            source, owner, line, outlet, self.tools, self._channels, self.me.process
        )
        if self._looking is not None:
            slot.look(self._looking)

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
            # Known until it is closed: whoever renews the settings meanwhile would serve the source anew, and so would we.
            await slot.close()
            del self.slots[slot.source.slot]
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
                slot.look(tasks)
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
                    slot.turn(draining=self._draining)
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

    def _turn_leftovers(self) -> None:
        """Go on waiting for what slots that were given up have left, and end what a process left that is dead."""
        for nothing in self._heir.speak(self.clock.mono_ns()) if self.feed.at_end else ():
            self._voice.say(nothing)
        now, grace = self.clock.mono_ns(), self.settings.sender.grace_ns
        for said, late in self.leftovers.turn(now, grace, for_good=self._draining):
            if late is not None:
                self.log.warning("grace_over", sources=[late])
            if said is not None:
                self._voice.say(said)

    async def _present(self, record: Present) -> None:
        stamped = await self._voice.append(record, control_key(record))
        if stamped is not None:
            self.presence.on_stamped(record, stamped.timestamp_ms * _MS, self._now())

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
            await slot.close()
        await self.leftovers.close()
        if self._draining and self.sharing.slots:
            self._voice.bury(present_key(self.me.pod))
        await self._voice.close()

    def _now(self) -> Now:
        return Now(self.clock.mono_ns(), self.clock.now_ns())
