"""Simulate processes, their clocks and Kafka, in whole milliseconds of one real time that only the checker sees.

A process is a ``Proc`` whose tasks are generators; a task yields

    int -> sleep      Ack -> wait for Kafka      (Ack, ms) -> wait at most      str -> a named step

and a fault may strike at any named step, so that a crash, a stop, a stun or a cut network falls between any two actions. Each process
has its own clocks: ``wall_ns`` (with an offset; behind after a stun) and ``mono_ns`` (stands still in a stun). Brokers stamp by theirs.

Kafka: a record is appended and stamped, later replicated: then it can be read and is acknowledged. A producer is idempotent, keeps its
order and retries for ever; a second one may append a copy. A transaction appears at once or not at all, a foreign open one holds
everybody's later records back. A fenced transaction fails.
"""

import heapq
import random
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tests.protocol import faults

MS: Final = 1_000_000
#: Real time 0 as wall time, ms since the epoch.
EPOCH_MS: Final = 1_700_000_000_000
CONTROL: Final = "control"

Task = Generator[Any, Any, Any]


class Ack:
    """What a sent record, a commit or a fence will answer."""

    def __init__(self) -> None:
        self.done = False
        self.value: Any = None
        self.waiting: list[Callable[[Any], None]] = []

    def set(self, value: object) -> None:
        if not self.done:
            self.done, self.value = True, value
            for wake in self.waiting:
                wake(value)

    def then(self, wake: Callable[[Any], None]) -> None:
        if self.done:
            wake(self.value)
        else:
            self.waiting.append(wake)


class Rec(NamedTuple):
    """A record: offset, the broker's stamp, the real time of the append."""

    offset: int
    stamp_ns: int
    at: int
    key: bytes | None
    value: bytes | None


@dataclass(slots=True)
class Log:
    """One partition: append order, stamps, high watermark, last stable offset, trimmed start."""

    sim: "Sim"
    name: str
    records: list[Rec] = field(default_factory=list)
    visible: list[int] = field(default_factory=list)
    clock_ms: int = 0
    slow_until: int = 0
    holds: list[tuple[int, int]] = field(default_factory=list)
    start: int = 0

    def append(
        self, value: bytes | None, key: bytes | None = None, visible: int = 0
    ) -> tuple[Rec, int]:
        """Append and give the record and the time when it is replicated."""
        now = self.sim.now
        seen = max(
            visible or now + self.sim.rnd(1, 6),
            self.slow_until,
            self.visible[-1] if self.visible else 0,
        )
        record = Rec(len(self.records), (EPOCH_MS + now + self.clock_ms) * MS, now, key, value)
        self.records.append(record)
        self.visible.append(seen)
        return record, seen

    def end(self, view: int) -> int:
        """Say how many records a read_committed reader may read of the broker as it was at ``view``."""
        count = bisect_right(self.visible, view)
        for begin, over in self.holds:
            while begin <= view < over and count and self.records[count - 1].at >= begin:
                count -= 1
        return count


class Proc:
    """One process, as the operating system and the network treat it."""

    def __init__(
        self, sim: "Sim", name: str, respawn: Callable[["Proc"], None], term: Callable[[], None]
    ) -> None:
        self.sim, self.name, self._respawn, self.term = sim, name, respawn, term
        self.id = self.pod = f"{name}#{len(sim.procs)}"
        self.alive, self.resume, self.shares_pod = True, 0, False
        self.offset, self.lost, self.frozen = sim.offsets.get(name, 0), 0, 0
        self.cut: dict[str, tuple[int, int]] = {}
        self.lag: dict[str, tuple[int, int]] = {}
        self.broken: dict[str, int] = {}
        self._sending: dict[str, deque[tuple[bytes, Ack]]] = {}
        self._seen: dict[str, int] = {}
        sim.procs.append(self)

    @property
    def wall_ns(self) -> int:
        return (EPOCH_MS + self.sim.now + self.offset - self.lost) * MS

    @property
    def mono_ns(self) -> int:
        return (self.sim.now - self.frozen + 10_000) * MS

    def cut_end(self, log: str) -> int:
        begin, over = self.cut.get(log, (0, 0))
        return over if begin <= self.sim.now < over else 0

    def read(self, log: str, position: int) -> list[Rec]:
        """Give new records as this process's consumer sees the broker: late under lag, frozen under a cut."""
        records = self.sim.log(log)
        if position >= len(records.records):
            return []
        until, late = self.lag.get(log, (0, 0))
        fresh = self.sim.now - (late if self.sim.now < until else 5)
        view = self.cut[log][0] if self.cut_end(log) else fresh
        self._seen[log] = view = max(view, self._seen.get(log, 0))
        return records.records[position : records.end(view)]

    def at_end(self, log: str, position: int) -> bool:
        """Say whether all has been read that the broker would give now."""
        return not self.cut_end(log) and position >= self.sim.log(log).end(self.sim.now)

    def send(self, log: str, value: bytes) -> Ack:
        """Send through the process's idempotent producer; the answer is the ``Rec``, or None: nobody knows."""
        ack = Ack()
        self._sending.setdefault(log, deque()).append((value, ack))
        self.sim.at(self.sim.now + self.sim.rnd(1, 4), self._arrive, log)
        return ack

    def _arrive(self, log: str) -> None:
        if not self._sending.get(log):
            return
        over = self.cut_end(log)
        if over:
            self.sim.at(max(over, self.resume) + self.sim.rnd(1, 50), self._arrive, log)
        elif self.sim.now < self.broken.get(log, 0):
            value, ack = self._sending[log].popleft()
            if self.sim.rng.random() < 0.5:
                self.sim.log(log).append(value)
            self.sim.at(self.sim.now + self.sim.rnd(1, 2_000), ack.set, None)
        else:
            self._land(log, *self._sending[log].popleft())

    def _land(self, log: str, value: bytes, ack: Ack) -> None:
        record, seen = self.sim.log(log).append(value)
        if log.startswith("outcomes") and self.sim.rng.random() < self.sim.copies:
            # Its acknowledgement is lost, and a new producer appends it again.
            self.sim.at(seen + self.sim.rnd(50, 20_000), self._land, log, value, ack)
        else:
            self.sim.at(seen + self.sim.rnd(1, 3), self._acknowledge, log, ack, record)

    def _acknowledge(self, log: str, ack: Ack, record: Rec) -> None:
        over = self.cut_end(log)
        if over:
            self.sim.at(over + self.sim.rnd(1, 50), self._acknowledge, log, ack, record)
        else:
            ack.set(record)

    def crash(self) -> None:
        """Die; what was on its way may still arrive, in order."""
        self.alive = False
        for queue in self._sending.values():
            for _ in range(self.sim.rnd(0, len(queue))):
                queue.pop()

    def respawn(self) -> None:
        """Start the next process of this name; the old one may still live."""
        self._respawn(self)


@dataclass(slots=True)
class Commit:
    """One transaction: what it writes, and what the checker is told when it is committed."""

    proc: Proc
    partition: int
    fence: int
    writes: Sequence[tuple[str, bytes | None, bytes | None]]
    committed: Callable[[], None]


class Sim:
    """Time, logs, processes and faults; the shells run on it."""

    def __init__(
        self,
        seed: int,
        plan: Sequence[faults.Fault],
        offsets: Mapping[str, int],
        *,
        calm: int = 10**9,
        copies: float = 0.0,
        trace: bool = False,
    ) -> None:
        self.rng, self.plan, self.offsets = random.Random(seed), list(plan), offsets
        self.calm, self.copies, self.tracing = calm, copies, trace
        self.now = 0
        self.procs: list[Proc] = []
        self.trace: list[tuple[int, str, str]] = []
        self.steps: Counter[str] = Counter()
        self.fences: Counter[int] = Counter()
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0
        self._logs: dict[str, Log] = {}
        for fault in self.plan:
            if isinstance(fault, faults.At):
                self.at(fault.ms, self._timed, fault)

    def rnd(self, low: int, high: int) -> int:
        # Ten times as fast as randint, and the bias does not matter.
        return low + int(self.rng.random() * (high - low + 1))

    def log(self, name: str) -> Log:
        if name not in self._logs:
            self._logs[name] = Log(self, name)
        return self._logs[name]

    def logs(self) -> list[Log]:
        return list(self._logs.values())

    def note(self, who: str, text: str) -> None:
        if self.tracing:
            self.trace.append((self.now, who, text))

    # -- time

    def at(self, ms: int, act: Callable[..., None], *args: object) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (ms, self._serial, act, args))

    def run(self, until: int) -> None:
        while self._heap and self._heap[0][0] <= until:
            self.now, _, act, args = heapq.heappop(self._heap)
            act(*args)

    def go(self, proc: Proc, task: Task, value: object = None) -> None:
        """Run a task of ``proc`` until it waits; a stopped process goes on when it is resumed."""
        while proc.alive:
            if self.now < proc.resume:
                self.at(proc.resume, self.go, proc, task, value)
                return
            try:
                wish = task.send(value)
            except StopIteration:
                return
            value = None
            if isinstance(wish, str):
                self._strike(proc, wish)
                continue
            if isinstance(wish, int):
                self.at(self.now + wish, self.go, proc, task, None)
                return
            ack, patience = wish if isinstance(wish, tuple) else (wish, None)
            if ack.done:
                value = ack.value
                continue
            self._await(proc, task, ack, patience)
            return

    def _await(self, proc: Proc, task: Task, ack: Ack, patience: int | None) -> None:
        woken: list[bool] = []

        def wake(value: object) -> None:
            if not woken:
                woken.append(True)
                self.at(self.now, self.go, proc, task, value)

        ack.then(wake)
        if patience is not None:
            self.at(self.now + patience, wake, None)

    # -- faults

    def _strike(self, proc: Proc, step: str) -> None:
        self.steps[step] += 1
        for fault in self.plan:
            if not isinstance(fault, faults.Strike) or self.now >= self.calm:
                continue
            if (fault.step, fault.count) == (step, self.steps[step]):
                self.hit(proc, fault.action)

    def _timed(self, fault: faults.At) -> None:
        if fault.who is None:
            self._hit_log(fault.action)
        for proc in [each for each in self.procs if each.alive and each.name == fault.who]:
            self.hit(proc, fault.action)

    def hit(self, proc: Proc, action: faults.Action) -> None:
        """Let ``action`` happen to ``proc``."""
        self.note(proc.name, f"FAULT {action}")
        match action:
            case faults.Crash(restart=restart):
                proc.crash()
                self.at(self.now + restart, proc.respawn)
            case faults.Stop(ms=ms, replaced=replaced, same_pod=same_pod):
                proc.resume = self.now + ms
                proc.shares_pod = same_pod
                if 0 < replaced < ms:
                    self.at(self.now + replaced, proc.respawn)
            case faults.Stun(ms=ms):
                proc.resume = self.now + ms
                proc.frozen += ms
                proc.lost += ms
                # Its clock is set right a while after it wakes.
                self.at(proc.resume + 15_000, setattr, proc, "lost", 0)
            case faults.Cut(logs=logs, ms=ms):
                proc.cut.update(dict.fromkeys(logs, (self.now, self.now + ms)))
            case faults.Break(logs=logs, ms=ms):
                proc.broken.update(dict.fromkeys(logs, self.now + ms))
            case faults.Lag(log=log, ms=ms, late=late):
                proc.lag[log] = (self.now + ms, late)
            case faults.ClockStep(ms=ms):
                proc.offset += ms
                self.at(self.calm, setattr, proc, "offset", 0)
            case faults.Term():
                proc.term()
            case _:
                self._hit_log(action)

    def _hit_log(self, action: faults.Action) -> None:
        self.note("kafka", f"FAULT {action}")
        match action:
            case faults.Slow(log=log, ms=ms):
                self.log(log).slow_until = self.now + ms
            case faults.Hold(log=log, ms=ms):
                self.log(log).holds.append((self.now, self.now + ms))
            case faults.Leader(log=log, ms=ms):
                self.log(log).clock_ms = ms
            case faults.Append(log=log, value=value):
                self.log(log).append(value)
            case _:
                raise TypeError(action)

    # -- transactions

    def fence(self, partition: int) -> Ack:
        """Shut out the older owner; the answer is the number that commits must carry."""
        ack = Ack()
        self.fences[partition] += 1
        self.at(self.now + self.rnd(20, 400), ack.set, self.fences[partition])
        return ack

    def commit(self, commit: Commit) -> Ack:
        """End a transaction; the answer is whether it was committed."""
        ack = Ack()
        self.at(self.now + self.rnd(5, 25), self._end, ack, self.now, commit)
        return ack

    def _end(self, ack: Ack, began: int, commit: Commit) -> None:
        cut = commit.proc.cut_end(f"state/{commit.partition}")
        # Ten seconds is the transaction's time-out.
        if cut and cut - began < 10_000:
            self.at(cut + 5, self._end, ack, began, commit)
        elif cut or self.fences[commit.partition] != commit.fence:
            self.at(self.now + 5, ack.set, False)
        else:
            visible = self.now + self.rnd(2, 15)
            for log, key, value in commit.writes:
                self.log(log).append(value, key, visible)
            commit.committed()
            self.at(visible + self.rnd(1, 5), ack.set, True)
