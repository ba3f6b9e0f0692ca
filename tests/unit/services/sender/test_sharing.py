"""Floating slots are shared out: the arithmetic alone, and the senders' own owners and views on one log while pods come and go."""

import math
import random
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
from services.sender.sharing import Sharing, shares
from shared.protocol.control import ControlView
from shared.records.control import Claim, Control

S = 1_000_000_000
TIMES = Constants()
PODS = [f"pod-{number}" for number in range(7)]

pods = st.lists(st.sampled_from(PODS), min_size=1, unique=True)
held = st.dictionaries(st.integers(0, 11), st.sampled_from(PODS))


@given(pods, held, st.integers(0, 12))
def test_nobody_has_more_than_the_fair_share_and_every_slot_has_somebody(
    present: list[str], held: dict[int, str], count: int
) -> None:
    slots = range(max([count, *(slot + 1 for slot in held)]))
    share = shares(slots, dict.fromkeys(present, ()), held)
    assert share.keys() == set(slots)
    assert max(Counter(share.values()).values(), default=0) <= math.ceil(len(slots) / len(present))


@given(pods, held)
def test_what_was_shared_out_stays_where_it_is(present: list[str], held: dict[int, str]) -> None:
    lacks: dict[str, tuple[int, ...]] = dict.fromkeys(present, ())
    share = shares(range(12), lacks, held)
    assert shares(range(12), lacks, share) == share


@given(pods, held)
def test_no_more_is_moved_than_must_be(present: list[str], held: dict[int, str]) -> None:
    share = shares(range(12), dict.fromkeys(present, ()), held)
    kept = Counter(pod for pod in held.values() if pod in present)
    moved = Counter(pod for slot, pod in held.items() if pod in present and share[slot] != pod)
    for pod, count in moved.items():
        assert kept[pod] - count >= len(range(12)) // len(present)


@given(pods, held, st.dictionaries(st.sampled_from(PODS), st.frozensets(st.integers(0, 11))))
def test_nobody_gets_what_it_cannot_serve_and_no_slot_is_left_that_somebody_can(
    present: list[str], held: dict[int, str], cannot: dict[str, frozenset[int]]
) -> None:
    lacks = {pod: cannot.get(pod, frozenset[int]()) for pod in present}
    share = shares(range(12), lacks, held)
    assert all(slot not in lacks[pod] for slot, pod in share.items())
    able = {slot for slot in range(12) if any(slot not in without for without in lacks.values())}
    assert share.keys() == able


def test_a_slot_that_is_stuck_is_not_moved() -> None:
    lacks: dict[str, tuple[int, ...]] = {"pod-0": (), "pod-1": ()}
    share = shares((0, 1), lacks, {0: "pod-0", 1: "pod-0"}, {0})
    assert share == {0: "pod-0", 1: "pod-1"}


# -- senders on one log


@dataclass
class Log:
    """mail.control, with the one clock of all."""

    now: int = 1_000 * S
    records: list[tuple[int, int, Control | str]] = field(default_factory=list)

    def append(self, record: Control | str) -> int:
        self.records.append((len(self.records), self.now, record))
        return len(self.records) - 1


class Process:
    """One sender: what its shell does, without Kafka and mail."""

    def __init__(self, log: Log, pod: str, serial: int, slots: int, lag: int = 0) -> None:
        self.log, self.pod, self.lag, self.position = log, pod, lag, 0
        self.view = ControlView()
        me = Identity(f"{pod}#{serial}", pod)
        numbers = tuple(range(slots))
        self.sharing = Sharing(numbers, me.process, pod, self.view, TIMES, random.Random(serial))
        self.presence = Presence(numbers, me, self.view, TIMES)
        self.owners = [
            SlotOwner(slot, f"relay-{slot}", me, self.view, TIMES, self.now) for slot in numbers
        ]
        #: Slots whose last attempt never ends, and those that it cannot serve.
        self.stuck: set[int] = set()
        self.lacks: set[int] = set()
        self.leaving = False

    @property
    def now(self) -> Now:
        return Now(self.log.now, self.log.now)

    def ready(self) -> list[int]:
        return [owner.slot for owner in self.owners if owner.acting(self.log.now)]

    def turn(self) -> None:
        for offset, stamp, record in self.log.records[self.position :]:
            if stamp > self.log.now - self.lag:
                break
            self.position = offset + 1
            if isinstance(record, str):
                self.view.bury(offset, record.encode())
                continue
            self.view.feed(offset, stamp, record)
            for owner in self.owners:
                owner.on_read(stamp, record, self.now)
        if not self.leaving:
            self.share()
        for owner in self.owners:
            owner.on_busy(idle=owner.slot not in self.stuck)
            for action in owner.step(self.now, at_end=True):
                match action:
                    case Say(record=record, token=token):
                        offset = self.log.append(record)
                        owner.on_stamped(token, offset, self.log.now, self.now)
                    case TakeEnd():
                        owner.on_end(0)
                    case HandBack():
                        pass

    def share(self) -> None:
        if (said := self.presence.speak(self.lacks, self.now)) is not None:
            self.log.append(said)
            self.presence.on_stamped(said, self.log.now, self.now)
        mine = [owner.slot for owner in self.owners if owner.claimed]
        wanted = self.sharing.wanted(mine, self.log.now)
        for owner in self.owners:
            owner.wanted = owner.slot in wanted

    def leave(self) -> None:
        self.leaving = True
        if (last := self.presence.leave(self.now)) is not None:
            self.log.append(last)
        for owner in self.owners:
            owner.drain()

    def gone(self) -> bool:
        return all(owner.state is State.DONE for owner in self.owners)


class Cluster:
    """All processes, and what they did to each slot."""

    def __init__(self, slots: int) -> None:
        self.log, self.slots = Log(), slots
        self.processes: list[Process] = []
        self.serial = 0
        #: slot -> when it last had a ready owner, and the longest time without.
        self.seen = dict.fromkeys(range(slots), self.log.now)
        self.gap = 0

    def start(self, pod: str, lag: int = 0) -> Process:
        self.serial += 1
        process = Process(self.log, pod, self.serial, self.slots, lag)
        self.processes.append(process)
        return process

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds * 5)):
            self.log.now += S // 5
            for process in list(self.processes):
                before = len(self.log.records)
                process.turn()
                self.check(process, before)
                if process.leaving and process.gone():
                    self.processes.remove(process)
            self.look()

    def check(self, process: Process, before: int) -> None:
        for offset, _, record in self.log.records[before:]:
            if isinstance(record, Claim):
                others = [
                    other
                    for other in self.processes
                    if other is not process and record.slot in other.ready()
                ]
                assert not others, f"the claim {offset} of slot {record.slot} is ready elsewhere"

    def look(self) -> None:
        ready = Counter(slot for process in self.processes for slot in process.ready())
        assert max(ready.values(), default=0) <= 1, "a slot has two owners"
        for slot in self.seen:
            # Without a sender there is nobody to blame.
            if slot in ready or not self.processes:
                self.seen[slot] = self.log.now
            self.gap = max(self.gap, self.log.now - self.seen[slot])

    def shared_out(self) -> bool:
        """Say whether every slot is ready somewhere, and nobody has two more than another."""
        ready = [len(process.ready()) for process in self.processes]
        return sum(ready) == self.slots and max(ready) - min(ready) <= 1

    def until_shared_out(self, seconds: int) -> None:
        for _ in range(seconds):
            self.run(1)
            if self.shared_out():
                return
        raise AssertionError([process.owners for process in self.processes])

    def claims(self) -> int:
        return sum(isinstance(record, Claim) for _, _, record in self.log.records)


def test_one_sender_has_all_of_them_soon() -> None:
    cluster = Cluster(6)
    cluster.start("a")
    cluster.run(4)
    assert cluster.processes[0].ready() == list(range(6))


def test_one_three_two_senders() -> None:
    cluster = Cluster(6)
    one = cluster.start("a")
    cluster.run(5)
    cluster.start("b")
    cluster.start("c")
    cluster.until_shared_out(90)
    # Four slots had to move, and each was claimed once.
    assert cluster.claims() == 6 + 4
    one.leave()
    cluster.until_shared_out(10)
    assert cluster.claims() == 6 + 4 + 2
    assert cluster.gap < 5 * S


def test_a_killed_senders_slots_come_back_within_half_a_minute() -> None:
    cluster = Cluster(6)
    for pod in "abc":
        cluster.start(pod)
    cluster.until_shared_out(60)
    cluster.processes.pop()
    cluster.until_shared_out(30)
    assert cluster.gap <= 25 * S


def test_a_killed_sender_that_restarts_in_its_pod_keeps_what_it_had() -> None:
    cluster = Cluster(6)
    for pod in "abc":
        cluster.start(pod)
    cluster.until_shared_out(60)
    lost, claims = cluster.processes[2].ready(), cluster.claims()
    cluster.processes.pop()
    cluster.run(3)
    cluster.start("c")
    cluster.until_shared_out(15)
    cluster.run(40)
    assert cluster.processes[2].ready() == lost
    assert cluster.claims() == claims + 2


def test_a_rolling_update_moves_a_slot_at_a_time() -> None:
    cluster = Cluster(8)
    for pod in "abcd":
        cluster.start(pod)
    cluster.until_shared_out(60)
    claims = cluster.claims()
    for pod in "abcd":
        next(process for process in cluster.processes if process.pod == pod).leave()
        cluster.run(6)
        cluster.start(pod)
        cluster.run(10)
    cluster.until_shared_out(60)
    cluster.run(60)
    assert cluster.shared_out()
    # What a pod had goes to the others when it leaves, and as much comes back to it later.
    assert cluster.claims() - claims <= 2 * 8 + 4
    assert cluster.gap < 8 * S


def test_a_slot_whose_attempt_does_not_end_is_kept_and_another_is_given() -> None:
    cluster = Cluster(4)
    one = cluster.start("a")
    one.stuck = {0, 1}
    cluster.run(5)
    cluster.start("b")
    cluster.until_shared_out(90)
    assert {0, 1} <= set(one.ready())
    # It starts nothing while it tries to give a slot away, and that is never for long.
    assert cluster.gap <= 30 * S


def test_a_sender_with_a_wrong_clock_is_not_counted_on() -> None:
    log = Log()
    process = Process(log, "a", 1, 2)
    said = process.presence.speak((), Now(log.now, log.now + 3 * S))
    assert said is not None
    process.presence.on_stamped(said, log.now, Now(log.now, log.now + 3 * S))
    said = process.presence.speak((), Now(log.now, log.now + 3 * S))
    assert said is not None
    assert said.lacks == (0, 1)


def test_a_slot_that_its_owner_cannot_serve_goes_to_one_who_can() -> None:
    cluster = Cluster(4)
    for pod in "ab":
        cluster.start(pod)
    cluster.until_shared_out(60)
    one, two = cluster.processes
    # Its ways out are gone: others may well have some.
    one.lacks, other = set(one.ready()), two.ready()
    cluster.run(60)
    assert one.ready() == other
    assert set(two.ready()) == one.lacks
    one.lacks = {0, 1, 2, 3}
    cluster.run(60)
    assert two.ready() == [0, 1, 2, 3]
    assert cluster.gap < 5 * S


def test_whoever_does_not_take_its_slots_is_passed_over() -> None:
    cluster = Cluster(3)
    cluster.start("a")
    # Present, and with two slots less than the other, but it never claims anything.
    idle = Process(cluster.log, "b", 99, 3)
    idle.owners = []
    cluster.processes.append(idle)
    for _ in range(120):
        cluster.run(1)
    assert cluster.gap <= 30 * S
    assert cluster.processes[0].ready() == [0, 1, 2]


def test_a_pod_that_died_is_buried_by_one_of_the_living() -> None:
    cluster = Cluster(1)
    for pod in "abc":
        cluster.start(pod)
    cluster.run(5)
    cluster.processes.pop()
    cluster.run(590)
    assert all(process.presence.to_bury() == [] for process in cluster.processes)
    cluster.run(30)
    assert [process.presence.to_bury() for process in cluster.processes] == [["c"], []]
    cluster.log.append("present/c")
    cluster.run(1)
    assert [process.presence.to_bury() for process in cluster.processes] == [[], []]


class Scaling(RuleBasedStateMachine):
    """Pods join, leave, die and restart at any time; whatever happened, it ends shared out."""

    @initialize(slots=st.integers(1, 5))
    def begin(self, slots: int) -> None:
        self.cluster = Cluster(slots)
        self.dead: list[str] = []

    @rule(lag=st.sampled_from([0, 0, S // 2]))
    @precondition(lambda self: len(self.cluster.processes) < 4)
    def join(self, lag: int) -> None:
        self.cluster.start(f"new-{self.cluster.serial}", lag)

    @rule(data=st.data())
    @precondition(lambda self: self.cluster.processes)
    def leave(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.cluster.processes)).leave()

    @rule(data=st.data())
    @precondition(lambda self: self.cluster.processes)
    def die(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(self.cluster.processes))
        self.cluster.processes.remove(process)
        self.dead.append(process.pod)

    @rule(data=st.data())
    @precondition(lambda self: self.dead and len(self.cluster.processes) < 4)
    def restart(self, data: st.DataObject) -> None:
        pod = data.draw(st.sampled_from(self.dead))
        self.dead.remove(pod)
        self.cluster.start(pod)

    @rule(seconds=st.sampled_from([0.2, 1, 4, 15]))
    def go_on(self, seconds: float) -> None:
        self.cluster.run(seconds)

    @invariant()
    def nobody_shares_a_slot(self) -> None:
        if hasattr(self, "cluster"):
            self.cluster.look()

    def teardown(self) -> None:
        if not hasattr(self, "cluster"):
            return
        self.cluster.run(5)
        if not self.cluster.processes:
            self.cluster.start("last")
        self.cluster.until_shared_out(150)
        # And it stays as it is.
        claims = self.cluster.claims()
        self.cluster.run(30)
        assert self.cluster.claims() == claims
        assert self.cluster.shared_out()


TestScaling = Scaling.TestCase
TestScaling.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
