"""The scheduler's shell on the simulation: what ``services.scheduler.worker`` does with Kafka's client.

The decisions are the project's: ``ControlView``, ``Ledger``, the changelog's writes. A failed commit throws the memory away; a fenced
process ends. Steps where faults strike: fenced, restored, polled, decided, commit-sent, committed.
"""

import random
from collections.abc import Callable

import msgspec

from services.scheduler import changelog
from services.scheduler.policy.decisions import Decisions
from services.scheduler.policy.ledger import Ledger
from services.scheduler.policy.pair import Pair, record_of
from services.scheduler.rewriting import forwarded_value
from shared.protocol.clockbound import HeldClock
from shared.protocol.control import ControlView
from shared.records.codec import Unreadable, encode
from shared.records.control import CONTROL as CONTROL_CODEC
from shared.records.delivery import DELIVERY, Delivery, Handover, Late
from shared.records.outcome import OUTCOME, Mark
from shared.records.state import STATE, Meta, State, delivery_key, state_key
from shared.runtime.settings import Settings
from tests.protocol.checker import Checker
from tests.protocol.engine import CONTROL, MS, Commit, Proc, Sim, Task
from tests.protocol.variant import Variant

CLASSES = ("transactional",)


class Scheduler:
    """One process that decides for one partition."""

    def __init__(
        self,
        sim: Sim,
        checker: Checker,
        settings: Settings,
        variant: Variant,
        partition: int,
        again: Callable[[int], None],
    ) -> None:
        """``again`` starts the next process of the partition."""
        self.sim, self.checker, self.settings, self.variant, self.partition = (
            sim,
            checker,
            settings,
            variant,
            partition,
        )
        self.proc = Proc(sim, f"sched{partition}", lambda _: again(partition), lambda: None)
        self.view = ControlView()
        self._rng = random.Random(sim.rnd(0, 2**32))
        self._clock = HeldClock()
        self._positions: dict[str, int] = {}
        sim.go(self.proc, self._mind())
        sim.go(self.proc, self._mark())
        sim.go(self.proc, self._life())

    def _log(self, name: str) -> str:
        return f"{name}/{self.partition}"

    def _mind(self) -> Task:
        """Read mail.control."""
        while True:
            for record in self.proc.read(CONTROL, self.view.position):
                said = CONTROL_CODEC.decode(record.value)
                if isinstance(said, Unreadable):
                    raise TypeError(said.reason)
                self.view.feed(record.offset, record.stamp_ns, said)
            yield self.sim.rnd(20, 150)

    def _mark(self) -> Task:
        while True:
            sent = self.proc.wall_ns
            stamped = yield self.proc.send(
                self._log("outcomes"), encode(Mark(sent_ns=sent, owner=self.proc.id))
            )
            self._clock.heard(sent, stamped.stamp_ns, self.proc.wall_ns, self.proc.mono_ns)
            yield self.settings.timing.mark_ns // MS

    def _life(self) -> Task:
        """Work as the owner until fenced; a failed commit begins anew with nothing remembered."""
        while self.view.lane_map is None:
            yield 100
        while True:
            yield self.sim.rnd(100, 1_500)
            fence = yield self.sim.fence(self.partition)
            yield "fenced"
            ledger = self._restore()
            self.checker.restored(self.partition, snapshot(ledger))
            yield self.sim.rnd(100, 2_000)
            yield "restored"
            yield from self._rounds(ledger, fence)
            if self.sim.fences[self.partition] != fence:
                self.proc.alive = False
                return

    def _restore(self) -> Ledger:
        ledger = self.variant.ledger(self.partition, self.settings, self.view, self._rng)
        latest: dict[bytes, bytes] = {}
        for record in self.sim.log(self._log("state")).records:
            if record.value is None:
                latest.pop(record.key or b"", None)
            else:
                latest[record.key or b""] = record.value
        self._positions = {}
        for value in latest.values():
            state = STATE.decode(value)
            if isinstance(state, Unreadable):
                raise TypeError(state.reason)
            ledger.restore(state)
            if isinstance(state, Meta):
                self._positions = dict(state.positions)
        ledger.restored()
        return ledger

    def _rounds(self, ledger: Ledger, fence: int) -> Task:
        """Read, judge, grant, commit, round after round; ends with the first commit that fails."""
        while True:
            yield self.sim.rnd(50, 250)
            yield "polled"
            skew = self.settings.timing.skew_ns
            if not self._clock.fits(self.proc.wall_ns, self.proc.mono_ns, skew):
                continue
            ledger.begin(self.proc.wall_ns)
            read = self._feed(ledger)
            ledger.judge()
            ledger.plan(1_000, 16 << 20)
            decided = ledger.take()
            if not (read or decided):
                continue
            yield "decided"
            ack = self.sim.commit(self._commit(ledger, decided, fence))
            yield "commit-sent"
            if not (yield ack):
                return
            yield "committed"
            self._trim(ledger)

    def _feed(self, ledger: Ledger) -> int:
        """Give the ledger a part of what can be read."""
        most, count = self.sim.rnd(1, 40), 0
        position = self._positions.get("outcomes", 0)
        for record in self.proc.read(self._log("outcomes"), position)[:most]:
            self._positions["outcomes"] = record.offset + 1
            said = OUTCOME.decode(record.value)
            if isinstance(said, Unreadable):
                raise TypeError(said.reason)
            ledger.on_log_time(record.stamp_ns)
            ledger.on_outcome(record.stamp_ns, said)
            count += 1
        for class_ in CLASSES:
            name = f"deliveries.{class_}"
            for record in self.proc.read(self._log(name), self._positions.get(name, 0))[:most]:
                self._positions[name] = record.offset + 1
                match DELIVERY.decode(record.value):
                    case Delivery() as delivery:
                        ledger.on_delivery(class_, record.offset, delivery)
                    case Late() as late:
                        ledger.on_forwarded(late)
                    case Handover() as handover:
                        ledger.on_handed_over(handover)
                    case Unreadable(reason=reason):
                        raise TypeError(reason)
                count += 1
        return count

    def _commit(self, ledger: Ledger, decided: Decisions, fence: int) -> Commit:
        writes: list[tuple[str, bytes | None, bytes | None]] = [
            (f"dispatch/{granted.grant.slot}", None, encode(granted.grant))
            for granted in decided.granted
        ]
        writes += self._moves(decided)
        state = self._log("state")
        writes += [
            (state, key, value)
            for key, value in changelog.writes(decided, ledger.now_ns, self._positions)
        ]
        writes += self._stragglers(ledger)
        ghost = snapshot(ledger)
        starts = {
            class_: self.sim.log(self._log(f"deliveries.{class_}")).start for class_ in CLASSES
        }
        return Commit(
            self.proc,
            self.partition,
            fence,
            writes,
            lambda: self.checker.committed(self.partition, decided, ghost, starts),
        )

    def _moves(self, decided: Decisions) -> list[tuple[str, bytes | None, bytes | None]]:
        """Write what goes to other partitions."""
        moves: list[tuple[str, bytes | None, bytes | None]] = []
        for handed in decided.handed_over:
            log = f"deliveries.{CLASSES[0]}/{handed.partition}"
            moves.append((log, None, encode(handed.record)))
        for forwarded in decided.forwarded:
            class_, offset = forwarded.delivery.class_, forwarded.delivery.offset
            value = self.sim.log(self._log(f"deliveries.{class_}")).records[offset].value or b""
            log = f"deliveries.{class_}/{forwarded.partition}"
            moves.append((log, None, forwarded_value(forwarded, value)))
        for passed in decided.passed:
            log = f"deliveries.{passed.class_}/{passed.partition}"
            moves.append((log, None, encode(passed.record)))
        return moves

    def _stragglers(self, ledger: Ledger) -> list[tuple[str, bytes | None, bytes | None]]:
        """Append a delivery that holds the log anew, now and then."""
        copies: list[tuple[str, bytes | None, bytes | None]] = []
        for class_ in CLASSES:
            log = self._log(f"deliveries.{class_}")
            for state in ledger.oldest(class_, 2) if self.sim.rnd(0, 49) == 0 else ():
                delivery = DELIVERY.decode(self.sim.log(log).records[state.offset].value)
                if isinstance(delivery, Delivery) and state.open is None:
                    copy = msgspec.structs.replace(delivery, again=True)
                    copies.append((log, None, encode(copy)))
        return copies

    def _trim(self, ledger: Ledger) -> None:
        for class_ in CLASSES:
            committed = self._positions.get(f"deliveries.{class_}", 0)
            oldest = ledger.oldest_offset(class_)
            log = self.sim.log(self._log(f"deliveries.{class_}"))
            log.start = max(log.start, committed if oldest is None else min(oldest, committed))


def snapshot(ledger: Ledger) -> dict[bytes, bytes]:
    """Give everything that must survive, as mail.state would hold it."""
    found = {delivery_key(id_): encode(entry) for id_, entry in ledger.entries.items()}
    pairs = ledger._pairs
    for pair in pairs._pairs.values():
        # What its health counted last may be lost, and a pair that was only looked at need not be remembered.
        record = msgspec.structs.replace(record_of(pair), health=None)
        if record != record_of(Pair(pair.key, pair.slot)):
            found[state_key(record)] = encode(record)
    records: list[State] = [
        *map(pairs.totals.state, pairs.totals.names()),
        *ledger._lanes._states.values(),
        *ledger._moving.departed._moved.values(),
    ]
    found.update((state_key(record), encode(record)) for record in records)
    return found
