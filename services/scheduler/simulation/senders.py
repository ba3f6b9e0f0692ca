"""Senders without a wire: they obey grants as ``services.sender.line`` does, in virtual time.

    offer -> queue -> connection: (turn to connect) -> t0 and the pair's turn -> `started`, the message -> outcome -> the next one

A connection takes a grant when it is free, waits for t0 and for the pair's turn, and hands back what would begin too late. A pair has at
most the connections that its grants carry, of which it gets more as mail is taken (``shared.protocol.slowstart``). After a no that is not
about one delivery nothing begins that was granted before the scheduler heard of it (``shared.protocol.warned``). Nothing is caught up,
because turns are spaced from the last one.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from services.scheduler.simulation.agenda import Agenda
from services.scheduler.simulation.answers import Answer
from services.scheduler.simulation.receiving import Receiver, Window
from shared.protocol.slowstart import SlowStart
from shared.protocol.spacing import WireLimiter
from shared.protocol.warned import Warned
from shared.records.grant import Grant
from shared.records.outcome import Handback, Outcome, Started

Said = Started | Outcome | Handback
#: Takes a record for mail.outcomes at its stamp, with the quota that refused the attempt.
Say = Callable[[int, Said, Window | None], None]
Began = Callable[[int, Receiver, Grant], None]
#: A grant, and when it was decided.
Job = tuple[Grant, int]


@dataclass(slots=True)
class Connection:
    """One connection to a provider."""

    count: int = 0
    idle_ns: int = 0


@dataclass(slots=True)
class World:
    """What every pair works with."""

    agenda: Agenda
    say: Say
    began: Began
    idle_ns: int
    #: No grant lives longer, whatever the clocks say: so long a warning holds that the scheduler never hears of.
    longest_ns: int


@dataclass(slots=True)
class Wire:
    """One (limit key, slot) pair at its sender."""

    slot: int
    receiver: Receiver
    world: World
    connects: WireLimiter
    begins: WireLimiter
    most: int = 1
    per_connection: int = 1
    queue: deque[Job] = field(default_factory=deque)
    idle: list[Connection] = field(default_factory=list)
    open: int = 0
    start: SlowStart = field(default_factory=SlowStart)
    warning: Warned = field(default_factory=Warned)

    def offer(self, job: Job, now_ns: int) -> None:
        """Queue a grant; ``staff`` follows."""
        grant = job[0]
        if not self.warning.lets(grant, now_ns):
            self._hand_back(now_ns, job, "pair")
            return
        self.connects.change(grant.connect_spacing_ns, grant.connect_burst)
        self.begins.change(grant.spacing_ns, grant.burst)
        self.most, self.per_connection = grant.connections, grant.messages_per_connection
        self.queue.append(job)

    def staff(self, now_ns: int) -> None:
        """Give what waits to connections that are free, or to new ones."""
        while self.queue:
            connection = self._rested(now_ns)
            if connection is not None:
                self._take(connection, self.queue.popleft(), now_ns)
            elif self.open < self.most and self.open < self.start.allowed:
                self._connect(self.queue.popleft(), now_ns)
            else:
                return

    def _rested(self, now_ns: int) -> Connection | None:
        """Take the connection that was used last; what rested for too long has been closed."""
        if not self.idle:
            return None
        if self.idle[-1].idle_ns + self.world.idle_ns <= now_ns:
            for connection in self.idle:
                self._close(connection)
            self.idle.clear()
            return None
        return self.idle.pop()

    def _close(self, _: Connection) -> None:
        self.open -= 1
        self.receiver.disconnect(self.slot)

    # -- connecting

    def _connect(self, job: Job, now_ns: int) -> None:
        self.open += 1
        at = self.connects.earliest(now_ns)
        if at > (last := _last(job[0])):
            self.world.agenda.at(max(now_ns, last), self._missed, job)
            return
        self.connects.spend(at)
        self.world.agenda.at(at + self.receiver.connect_takes_ns(at), self._connected, job)

    def _missed(self, now_ns: int, job: Job) -> None:
        self.open -= 1
        self._hand_back(now_ns, job, "late")
        self.staff(now_ns)

    def _connected(self, now_ns: int, job: Job) -> None:
        refused = self.receiver.connect(self.slot, now_ns)
        if refused is None:
            self._take(Connection(), job, now_ns)
            return
        self.open -= 1
        self.start.bad()
        self._settle(now_ns, job, refused, None)

    # -- one message

    def _take(self, connection: Connection, job: Job, now_ns: int) -> None:
        closes_after = self.receiver.model.messages_per_connection
        if closes_after and connection.count >= closes_after:
            # It has been closed: nothing is learnt about the pair, but the grant was taken.
            self._close(connection)
            self._hand_back(now_ns, job, "stale_connection")
            return
        grant = job[0]
        at = self.begins.earliest(max(now_ns, grant.t0_ns))
        if at > (last := _last(grant)):
            self.world.agenda.at(max(now_ns, last), self._late, connection, job)
            return
        self.begins.spend(at)
        if at > now_ns:
            self.world.agenda.at(at, self._begin, connection, job)
        else:
            self._begin(now_ns, connection, job)

    def _late(self, now_ns: int, connection: Connection, job: Job) -> None:
        self._hand_back(now_ns, job, "late")
        self._rest(now_ns, connection)

    def _begin(self, now_ns: int, connection: Connection, job: Job) -> None:
        grant, decided_ns = job
        if not self.warning.lets(grant, now_ns):
            self._hand_back(now_ns, job, "pair")
            self._rest(now_ns, connection)
            return
        self.world.began(now_ns, self.receiver, grant)
        started = Started(id=grant.id, n=grant.n, slot=grant.slot, epoch=grant.epoch)
        self.world.say(now_ns, started, None)
        answer, window = self.receiver.answer(self.slot, grant.from_, grant.to, decided_ns, now_ns)
        self.world.agenda.at(
            now_ns + self.receiver.answer_takes_ns(), self._end, connection, job, answer, window
        )

    def _end(
        self, now_ns: int, connection: Connection, job: Job, answer: Answer, window: Window | None
    ) -> None:
        self._settle(now_ns, job, answer, window)
        connection.count += 1
        if answer.result == "delivered":
            self.start.good(self.most)
        if answer.closes:
            self.start.bad()
            self._close(connection)
        elif connection.count >= self.per_connection:
            self._close(connection)
        else:
            self._rest(now_ns, connection)
            return
        self.staff(now_ns)

    def _rest(self, now_ns: int, connection: Connection) -> None:
        if self.open > self.most:
            # The limit has become less.
            self._close(connection)
            return
        connection.idle_ns = now_ns
        self.idle.append(connection)
        self.staff(now_ns)

    # -- what is said

    def _settle(self, now_ns: int, job: Job, answer: Answer, window: Window | None) -> None:
        grant = job[0]
        outcome = Outcome(
            id=grant.id,
            n=grant.n,
            slot=grant.slot,
            epoch=grant.epoch,
            result=answer.result,
            category=answer.category,
            scope=answer.scope,
            reply=answer.reply,
        )
        if outcome.warns:
            name = self.warning.take(now_ns, now_ns, self.world.longest_ns)
            outcome = replace(outcome, warned_ns=name)
            while self.queue:
                self._hand_back(now_ns, self.queue.popleft(), "pair")
        self.world.say(now_ns, outcome, window)

    def _hand_back(self, now_ns: int, job: Job, reason: str) -> None:
        grant = job[0]
        record = Handback(id=grant.id, n=grant.n, slot=grant.slot, epoch=grant.epoch, reason=reason)
        self.world.say(now_ns, record, None)


def _last(grant: Grant) -> int:
    """Say when it may begin at the latest: it has a lease, and the delivery an end."""
    return min(grant.t1_ns, grant.expires_ns - 1) if grant.expires_ns else grant.t1_ns


class Senders:
    """All pairs of all slots."""

    def __init__(self, world: World, receivers: Callable[[str], Receiver], since_ns: int) -> None:
        """``receivers`` finds who runs a limit key; every pair counts as just used at ``since_ns``."""
        self._world, self._receivers, self._since_ns = world, receivers, since_ns
        self._wires: dict[tuple[str, int], Wire] = {}

    def offer(self, now_ns: int, jobs: list[Job]) -> None:
        """Take the grants of a round."""
        touched: dict[int, Wire] = {}
        for job in jobs:
            grant = job[0]
            wire = self._wires.get((grant.limit_key, grant.slot))
            if wire is None:
                wire = self._wires[grant.limit_key, grant.slot] = self._wire(grant)
            wire.offer(job, now_ns)
            touched[id(wire)] = wire
        for wire in touched.values():
            wire.staff(now_ns)

    def _wire(self, grant: Grant) -> Wire:
        return Wire(
            grant.slot,
            self._receivers(grant.limit_key),
            self._world,
            WireLimiter(grant.connect_spacing_ns, grant.connect_burst, self._since_ns),
            WireLimiter(grant.spacing_ns, grant.burst, self._since_ns),
        )
