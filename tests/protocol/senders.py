"""The sender's shell on the simulation: what ``services.sender`` does with asyncio and sockets, done with tasks and a dice.

The decisions are the project's: ``ControlView``, ``Sharing``, ``Presence``, ``SlotOwner``, ``Leaving``, ``Leftovers``, ``AttemptGate``,
``WireLimiter``. Each task names its steps, where faults strike: claimed, hb, taken, mail, acked, checked, dot, replied, outcome-acked.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

from services.sender.attempt import AttemptGate, Go, Hold, Stop
from services.sender.leaving import Cut, Leaving
from services.sender.leftovers import Leftover, Leftovers, Telling
from services.sender.ownership import (
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
from services.sender.sharing import Sharing
from shared.protocol.control import NO_EPOCH, ControlView
from shared.protocol.spacing import WireLimiter
from shared.records.codec import Unreadable, encode
from shared.records.control import CONTROL as CONTROL_CODEC
from shared.records.control import Claim, Heartbeat, Present, Unanswered
from shared.records.grant import GRANT, Grant
from shared.records.outcome import Handback, Outcome, Result, Started
from shared.runtime.settings import Settings
from tests.protocol.checker import Checker
from tests.protocol.engine import CONTROL, Ack, Proc, Sim, Task
from tests.protocol.variant import Variant

if TYPE_CHECKING:
    from services.sender.line import Line

_CONNECTIONS = 2
_GRACE_NS = 660_000_000_000
Reply = Literal["ok", "late", "accepts and drops", "drops", "4xx", "5xx"]
_MIXED: tuple[Reply, ...] = ("ok",) * 8 + (
    "late",
    "late",
    "accepts and drops",
    "drops",
    "4xx",
    "5xx",
)
_RESULTS: dict[Reply, Result] = {
    "ok": "delivered",
    "late": "delivered",
    "4xx": "deferred",
    "5xx": "bounced",
}


@dataclass(slots=True)
class Receiver:
    """The receiving side: ``mixed``, ``ok``, ``slow``, or a ``tarpit`` for the first message."""

    sim: Sim
    kind: str
    #: How many of 100 connections fail before RCPT.
    refusing: int = 0

    def refuses(self) -> bool:
        return self.sim.now < self.sim.calm and self.sim.rnd(0, 99) < self.refusing

    def reply(self) -> Reply:
        calm = self.sim.now >= self.sim.calm or self.kind != "mixed"
        return "ok" if calm else self.sim.rng.choice(_MIXED)


@dataclass(slots=True)
class _Tenure:
    """What is under way in one epoch of a slot."""

    #: Attempts and records not acknowledged.
    busy: int = 0
    #: Those of the attempts that wait for the reply to their dot.
    behind: set[Unanswered] = field(default_factory=set)
    leaving: Leaving = field(default_factory=Leaving)
    telling: Telling | None = None

    def unanswered(self, _: int) -> tuple[Unanswered, ...] | None:
        """As ``Line.unanswered``."""
        behind = tuple(sorted(self.behind, key=lambda each: (each.id, each.n)))
        return behind if len(behind) == self.busy else None

    def give_up(self, *, after_dot: bool) -> bool:
        """As ``Line.give_up``, of a line whose peers are all quick enough."""
        return after_dot and False

    def is_left(self) -> bool:
        """Say whether all that is under way is known to everybody."""
        return self.telling is not None and self.telling.covers(cast("Line", self))


@dataclass(slots=True)
class _Line:
    """One slot of one process."""

    owner: SlotOwner
    queue: deque[Grant] = field(default_factory=deque)
    seen: set[str] = field(default_factory=set)
    wires: dict[str, WireLimiter] = field(default_factory=dict)
    tenure: _Tenure = field(default_factory=_Tenure)
    epoch: int = NO_EPOCH
    position: int = 0
    ready_ns: int = 0


class Sender:
    """One process that may own every slot."""

    def __init__(
        self,
        sim: Sim,
        checker: Checker,
        settings: Settings,
        variant: Variant,
        receiver: Receiver,
        name: str,
        before: Proc | None,
        again: Callable[[str, Proc | None], None],
        *,
        floating: bool,
    ) -> None:
        """``before``: the process of this name before; where it is dead this one runs in its pod."""
        self.sim, self.checker, self.variant, self.receiver = sim, checker, variant, receiver
        self.proc = Proc(
            sim,
            name,
            lambda old: again(name, old if old.shares_pod or not old.alive else None),
            self._terminate,
        )
        if before is not None:
            self.proc.pod = before.pod
        # A process that finds its predecessor's lock in the pod free knows that it is dead.
        dead = before.id if before is not None and not before.alive else None
        me = Identity(self.proc.id, self.proc.pod, dead)
        timing = settings.timing
        self._timing, self._again = timing, again
        times = Constants(
            timing.fresh_ns, timing.skew_ns, timing.wait_ns, timing.silence_ns, timing.heartbeat_ns
        )
        self.view = ControlView()
        self._pending = 0
        self._terminating = False
        self._leftovers = Leftovers()
        self.lines = [
            _Line(variant.owner(source.slot, source.name, me, self.view, times, self.now))
            for source in settings.sources.values()
        ]
        slots = tuple(each.slot for each in settings.sources.values()) if floating else ()
        self.sharing = Sharing(slots, me.process, me.pod, self.view, times, sim.rng)
        self.presence = Presence(slots, me, self.view, times)
        sim.go(self.proc, self._mind())
        sim.go(self.proc, self._own())
        for line in self.lines:
            sim.go(self.proc, self._dispatch(line))
            for _ in range(_CONNECTIONS):
                sim.go(self.proc, self._connection(line))

    @property
    def now(self) -> Now:
        return Now(self.proc.mono_ns, self.proc.wall_ns)

    def _terminate(self) -> None:
        self._terminating = True
        if (last := self.presence.leave(self.now)) is not None:
            self._send(CONTROL, encode(last))
        for line in self.lines:
            line.owner.drain()

    def _send(self, log: str, value: bytes) -> Ack:
        self._pending += 1
        ack = self.proc.send(log, value)
        ack.then(lambda _: setattr(self, "_pending", self._pending - 1))
        return ack

    # -- ownership

    def _mind(self) -> Task:
        """Read mail.control."""
        while True:
            for record in self.proc.read(CONTROL, self.view.position):
                said = CONTROL_CODEC.decode(record.value)
                if isinstance(said, Unreadable):
                    raise TypeError(said.reason)
                self.view.feed(record.offset, record.stamp_ns, said)
                for line in self.lines:
                    line.owner.on_read(record.stamp_ns, said, self.now)
            yield self.sim.rnd(50, 150)

    def _own(self) -> Task:
        yield self.sim.rnd(300, 3_000)
        while True:
            at_end = self.view.position > 0 and self.proc.at_end(CONTROL, self.view.position)
            if not self._terminating:
                self._share()
            for line in self.lines:
                yield from self._step(line, at_end=at_end)
            self._wait_for_left()
            ended = all(
                line.owner.state is State.DONE and not line.tenure.busy for line in self.lines
            )
            if self._terminating and ended and not (self._pending or self._leftovers):
                self.proc.alive = False
                self.sim.at(self.sim.now + 3_000, self.proc.respawn)
                return
            yield self.sim.rnd(50, 200)

    def _share(self) -> None:
        if (said := self.presence.speak((), self.now)) is not None:
            self.sim.go(self.proc, self._present(said))
        floating = [line.owner for line in self.lines if line.owner.slot in self.sharing.slots]
        mine = [owner.slot for owner in floating if owner.claimed]
        wanted = self.sharing.wanted(mine, self.proc.mono_ns)
        for owner in floating:
            owner.wanted = owner.slot in wanted

    def _present(self, said: Present) -> Task:
        record = yield self._send(CONTROL, encode(said))
        if record is not None:
            self.presence.on_stamped(said, record.stamp_ns, self.now)

    def _step(self, line: _Line, *, at_end: bool) -> Task:
        owner = line.owner
        owner.on_busy(idle=not line.tenure.busy or line.tenure.is_left())
        was = owner.state
        for action in owner.step(self.now, at_end=at_end):
            match action:
                case Say(record=record, token=token):
                    name = "hb" if isinstance(record, Heartbeat) else type(record).__name__.lower()
                    self.sim.note(
                        self.proc.name, f"says {name} {owner!r}"
                    ) if name != "hb" else None
                    ack = self._send(CONTROL, encode(record))
                    step = "claimed" if isinstance(record, Claim) else None
                    self.sim.go(self.proc, self._stamped(owner, token, ack, step))
                    if name == "hb":
                        yield "hb"
                case TakeEnd(slot=slot):
                    self.sim.go(self.proc, self._take_end(owner, f"dispatch/{slot}"))
                case HandBack():
                    for grant in line.queue:
                        self._hand_back(line, grant, "drain")
                    line.queue.clear()
        if owner.state is State.READY and was is not State.READY:
            line.ready_ns = self.proc.mono_ns
            line.wires.clear()
            line.tenure.telling = Telling(self.view, owner.slot, owner.epoch, self.proc.id)
            self.checker.ready(owner.slot, owner.epoch)
            self.sim.note(self.proc.name, f"ready: {owner!r}")
        if owner.epoch_ended:
            line.queue.clear()
        self._leave(line)

    def _leave(self, line: _Line) -> None:
        """Say what a slot leaves that is given up, and wait for it beside what follows."""
        owner, tenure, now = line.owner, line.tenure, self.proc.mono_ns
        telling = tenure.telling
        if telling is None:
            return
        if owner.epoch_ended:
            if tenure.busy or not telling.settled(()):
                # A tenure is a line as far as leftovers go.
                ending = cast("Line", tenure)
                self._leftovers.take(Leftover(owner.source, ending, telling, tenure.leaving))
            line.tenure = _Tenure()
            return
        releasing = owner.state is State.RELEASING
        cut = tenure.leaving.cut(now, _GRACE_NS, releasing=releasing, for_good=self._terminating)
        left = tenure.unanswered(owner.epoch) if cut is not Cut.NOTHING else ()
        if left is not None and (said := telling.say(left, now)) is not None:
            self._send(CONTROL, encode(said))

    def _wait_for_left(self) -> None:
        now = self.proc.mono_ns
        for said, _ in self._leftovers.turn(now, _GRACE_NS, for_good=self._terminating):
            if said is not None:
                self.sim.note(self.proc.name, f"leaves {len(said.attempts)} of slot {said.slot}")
                self._send(CONTROL, encode(said))

    def _stamped(self, owner: SlotOwner, token: str, ack: Ack, step: str | None) -> Task:
        record = yield ack
        if record is None:
            owner.on_lost(token, self.now)
            return
        owner.on_stamped(token, record.offset, record.stamp_ns, self.now)
        if step is not None:
            yield step

    def _take_end(self, owner: SlotOwner, log: str) -> Task:
        yield self.sim.rnd(1, 8)
        while self.proc.cut_end(log):
            yield 100
        owner.on_end(self.sim.log(log).end(self.sim.now))

    # -- grants

    def _dispatch(self, line: _Line) -> Task:
        owner = line.owner
        while True:
            yield self.sim.rnd(50, 250)
            if owner.epoch != line.epoch and owner.dispatch_from is not None:
                line.epoch, line.position = owner.epoch, owner.dispatch_from
            for record in (
                self.proc.read(f"dispatch/{owner.slot}", line.position) if line.epoch >= 0 else ()
            ):
                line.position = record.offset + 1
                grant = GRANT.decode(record.value)
                if isinstance(grant, Unreadable):
                    raise TypeError(grant.reason)
                # One of another epoch is skipped without a word: its lease settles it.
                if grant.epoch == owner.epoch and grant.attempt not in line.seen:
                    line.seen.add(grant.attempt)
                    line.queue.append(grant)

    def _connection(self, line: _Line) -> Task:
        while True:
            yield self.sim.rnd(50, 200)
            if not line.queue:
                continue
            grant = line.queue[0]
            gate = self.variant.gate(
                grant,
                line.owner,
                fresh_ns=self._timing.fresh_ns,
                attempt_max_ns=self._timing.attempt_max_ns,
            )
            match gate.may_take(self.now):
                case Hold():
                    continue
                case Stop(reason=reason, hand_back=hand_back):
                    line.queue.popleft()
                    if hand_back:
                        self._hand_back(line, grant, reason)
                case Go():
                    line.queue.popleft()
                    tenure = line.tenure
                    tenure.busy += 1
                    said = yield from self._attempt(line, tenure, grant, gate)
                    tenure.behind.discard(_unanswered(grant))
                    yield from self._keep(grant, said)
                    tenure.busy -= 1

    def _hand_back(self, line: _Line, grant: Grant, reason: str) -> None:
        line.tenure.busy += 1
        self.sim.go(self.proc, self._handed_back(line.tenure, grant, reason))

    def _handed_back(self, tenure: _Tenure, grant: Grant, reason: str) -> Task:
        yield from self._keep(grant, _handback(grant, reason))
        tenure.busy -= 1

    def _keep(self, grant: Grant, said: Outcome | Handback) -> Task:
        """Say it until it is acknowledged, through a new producer where the old one broke."""
        while (yield self._send(f"outcomes/{grant.part}", encode(said))) is None:
            yield 500
        yield "outcome-acked"

    def _attempt(self, line: _Line, tenure: _Tenure, grant: Grant, gate: AttemptGate) -> Task:
        """Try it, and give what must be said in mail.outcomes."""
        yield "taken"
        gate.taken(self.now)
        self.sim.note(self.proc.name, f"takes {grant.attempt}")
        begun = Started(id=grant.id, n=grant.n, slot=grant.slot, epoch=grant.epoch)
        ack = self._send(f"outcomes/{grant.part}", encode(begun))
        self.sim.go(self.proc, self._begun(gate, ack))
        if self.receiver.refuses():
            yield self.sim.rnd(5, 3_000)
            return _outcome(grant, "pair_failed")
        wire = line.wires.get(grant.limit_key)
        if wire is None:
            wire = self.variant.wire(grant.spacing_ns, grant.burst, line.ready_ns)
            line.wires[grant.limit_key] = wire
        while True:
            # MAIL and RCPT are checked and written in one go.
            answer = gate.may_mail(self.now)
            if isinstance(answer, Stop):
                return _handback(grant, answer.reason)
            if isinstance(answer, Go) and wire.earliest(self.proc.mono_ns) <= self.proc.mono_ns:
                wire.spend(self.proc.mono_ns)
                break
            yield 50
        self.checker.rcpt(grant, stunned=self.proc.lost > 0)
        yield self.sim.rnd(20, 400)
        yield "mail"
        while not isinstance(answer := gate.may_dot(self.now), Go):
            if isinstance(answer, Stop):
                self.sim.note(self.proc.name, f"drops {grant.attempt}: {answer.reason}")
                return _handback(grant, answer.reason)
            if ack.done and ack.value is None:
                return _handback(grant, "started")
            yield 100
        checked = self.sim.now
        # The gap that no rule can close.
        yield "checked"
        self.checker.dot(grant, checked, stunned=self.proc.frozen > 0)
        tenure.behind.add(_unanswered(grant))
        return (yield from self._reply(grant))

    def _begun(self, gate: AttemptGate, ack: Ack) -> Task:
        record = yield ack
        if record is not None:
            gate.started(record.stamp_ns)
            yield "acked"

    def _reply(self, grant: Grant) -> Task:
        reply = self.receiver.reply()
        if reply in ("ok", "late", "accepts and drops"):
            self.checker.mails[grant.id] += 1
        yield "dot"
        if self.receiver.kind == "slow":
            yield 20_000
        if self.receiver.kind == "tarpit":
            self.receiver.kind = "ok"
            yield 1_000_000
        yield self.sim.rnd(5_000, 60_000) if reply == "late" else self.sim.rnd(20, 600)
        yield "replied"
        return _outcome(grant, _RESULTS.get(reply, "unknown"))


def _handback(grant: Grant, reason: str) -> Handback:
    return Handback(id=grant.id, n=grant.n, slot=grant.slot, epoch=grant.epoch, reason=reason)


def _unanswered(grant: Grant) -> Unanswered:
    return Unanswered(id=grant.id, n=grant.n, key=grant.limit_key, site=grant.site)


def _outcome(grant: Grant, result: Result) -> Outcome:
    return Outcome(id=grant.id, n=grant.n, slot=grant.slot, epoch=grant.epoch, result=result)
