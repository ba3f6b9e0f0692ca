"""The claims of DESIGN 4.5, on the pure owner of a slot: two of them share one log, driven by hand."""

from dataclasses import dataclass, field

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
from shared.protocol.control import ControlView
from shared.records.control import Claim, Control, Heartbeat, Released

S = 1_000_000_000
TIMES = Constants()


@dataclass
class Process:
    """One process: its owner, its view, how far it has read, and its clocks."""

    log: "Log"
    name: str
    pod: str
    dead: str | None = None
    wall_offset: int = 0
    position: int = 0
    cut: bool = False
    #: Its reader stands still and believes that there is no more, while its producer works.
    deaf: bool = False
    view: ControlView = field(default_factory=ControlView)
    owner: SlotOwner = field(init=False)
    handed_back: int = 0
    #: Whether an attempt is under way when its grants are handed back.
    busy: bool = False

    def __post_init__(self) -> None:
        """Begin to watch slot 0."""
        self.owner = SlotOwner(
            0, "ip-1", Identity(self.name, self.pod, self.dead), self.view, TIMES, self.now
        )

    @property
    def now(self) -> Now:
        return Now(self.log.now, self.log.now + self.wall_offset)

    def state(self) -> State:
        return self.owner.state

    def turn(self) -> None:
        if not self.cut and not self.deaf:
            for offset, stamp, record in self.log.records[self.position :]:
                self.position = offset + 1
                self.view.feed(offset, stamp, record)
                self.owner.on_read(stamp, record, self.now)
        for action in self.owner.step(self.now, at_end=not self.cut):
            self.act(action)

    def act(self, action: Action) -> None:
        match action:
            case Say(record=record, token=token):
                if not self.cut:
                    offset = self.log.append(record)
                    self.owner.on_stamped(token, offset, self.log.now, self.now)
            case TakeEnd():
                self.owner.on_end(7)
            case HandBack():
                self.handed_back += 1
                self.owner.on_busy(idle=not self.busy)


@dataclass
class Log:
    """mail.control with one clock."""

    now: int = 1_000 * S
    records: list[tuple[int, int, Control]] = field(default_factory=list)

    def append(self, record: Control) -> int:
        self.records.append((len(self.records), self.now, record))
        return len(self.records) - 1

    def run(self, seconds: float, *processes: Process) -> None:
        for _ in range(int(seconds * 10)):
            self.now += S // 10
            for process in processes:
                process.turn()

    def of(self, kind: type[Control]) -> list[Control]:
        return [record for _, _, record in self.records if isinstance(record, kind)]


def test_a_free_slot_is_ready_at_once_and_says_so() -> None:
    log = Log()
    one = Process(log, "p1", "pod1")
    log.run(1.5, one)
    assert one.state() is State.READY
    assert one.owner.dispatch_from == 7
    assert one.owner.acting(log.now)
    assert next(beat.ready for beat in log.of(Heartbeat) if isinstance(beat, Heartbeat))


def test_a_standby_waits_for_silence_and_then_for_the_fence() -> None:
    log = Log()
    one, two = Process(log, "p1", "pod1"), Process(log, "p2", "pod2")
    log.run(1.5, one)
    log.run(30, one, two)
    assert two.state() is State.WATCHING
    died = log.now
    while two.state() is not State.READY:
        log.run(0.1, two)
        assert log.now < died + 40 * S
    assert log.now - died >= TIMES.silence_ns + TIMES.wait_ns - S


def test_a_standby_whose_reader_stands_still_takes_that_for_nobodys_silence() -> None:
    log = Log()
    one, two = Process(log, "p1", "pod1"), Process(log, "p2", "pod2")
    log.run(1.5, one)
    log.run(1, one, two)
    two.deaf = True
    log.run(60, one, two)
    assert two.state() is State.LISTENING
    assert len(log.of(Claim)) == 1
    two.deaf = False
    log.run(5, one, two)
    assert two.state() is State.WATCHING
    assert len(log.of(Claim)) == 1


def test_a_standby_listens_on_after_it_has_read_its_own_hello_back() -> None:
    log = Log()
    one, two = Process(log, "p1", "pod1"), Process(log, "p2", "pod2")
    log.run(1.5, one)
    log.run(1, one, two)
    two.deaf = True
    # The owner dies meanwhile: the silence is true, and still it is only judged after the hello came back.
    log.run(30, two)
    assert two.state() is State.LISTENING
    two.deaf = False
    heard = log.now
    while len(log.of(Claim)) == 1:
        log.run(0.1, two)
        assert log.now < heard + 30 * S
    assert log.now - heard >= 2 * TIMES.heartbeat_ns


def test_an_owner_that_reads_a_later_claim_stops_at_once() -> None:
    log = Log()
    one = Process(log, "p1", "pod1")
    log.run(1.5, one)
    log.append(Claim(slot=0, source="ip-1", process="p2", pod="pod2"))
    one.turn()
    assert not one.owner.acting(log.now)
    assert one.state() is State.WATCHING


def test_an_owner_that_is_cut_off_is_stale_before_a_claimant_is_ready() -> None:
    log = Log()
    one, two = Process(log, "p1", "pod1"), Process(log, "p2", "pod2")
    log.run(1.5, one)
    log.run(1, one, two)
    one.cut = True
    for _ in range(400):
        log.run(0.1, one, two)
        assert not (one.owner.acting(log.now) and two.owner.acting(log.now))
    assert two.owner.acting(log.now)


def test_a_release_lets_the_next_one_begin_without_a_wait() -> None:
    log = Log()
    one, two = Process(log, "p1", "pod1"), Process(log, "p2", "pod2")
    log.run(1.5, one)
    log.run(3, one, two)
    one.owner.drain()
    asked = log.now
    while two.state() is not State.READY:
        log.run(0.1, one, two)
        assert log.now < asked + 5 * S
    assert one.handed_back == 1
    assert one.state() is State.DONE
    assert len(log.of(Released)) == 1


def test_what_was_begun_before_the_drain_may_end_before_the_release() -> None:
    log = Log()
    one, two = Process(log, "p1", "pod1", busy=True), Process(log, "p2", "pod2")
    log.run(1.5, one)
    log.run(3, one, two)
    one.owner.drain()
    log.run(20, one, two)
    assert one.state() is State.RELEASING
    assert one.owner.acting(log.now)
    assert not one.owner.may_start(log.now)
    assert not two.owner.acting(log.now)
    one.owner.on_busy(idle=True)
    log.run(3, one, two)
    assert not one.owner.acting(log.now)
    assert two.owner.acting(log.now)


def test_a_restart_in_the_same_pod_claims_at_once_and_waits_unless_the_lock_proves_the_death() -> (
    None
):
    for dead, least in ((None, TIMES.wait_ns - S), ("p1", 0)):
        log = Log()
        one = Process(log, "p1", "pod1")
        log.run(3, one)
        again, began = Process(log, "p1b", "pod1", dead), log.now
        while again.state() is not State.READY:
            log.run(0.1, again)
            assert log.now < began + 20 * S
        took = log.now - began
        assert took >= least
        assert took <= least + 2 * S


def test_a_clock_that_is_off_never_claims() -> None:
    log = Log()
    one = Process(log, "p1", "pod1", wall_offset=3 * S)
    log.run(20, one)
    assert one.state() is not State.READY
    assert log.of(Claim) == []


def test_a_clock_that_goes_wrong_stops_the_owner_and_releases_the_slot() -> None:
    log = Log()
    one, two = Process(log, "p1", "pod1"), Process(log, "p2", "pod2")
    log.run(1.5, one)
    log.run(3, one, two)
    one.wall_offset = -4 * S
    log.run(2, one, two)
    assert not one.owner.acting(log.now)
    log.run(10, one, two)
    assert log.of(Released)
    assert two.owner.acting(log.now)


def test_a_claimant_that_loses_the_slot_while_it_waits_never_becomes_ready() -> None:
    log = Log()
    log.append(Claim(slot=0, source="ip-1", process="old", pod="pod1"))
    one = Process(log, "p1", "pod1")
    log.run(3, one)
    assert one.state() is State.WAITING
    log.append(Claim(slot=0, source="ip-1", process="p9", pod="pod9"))
    log.run(1, one)
    assert one.state() is State.WATCHING


def test_a_slot_that_another_has_just_claimed_is_not_claimed() -> None:
    log = Log()
    one = Process(log, "p1", "pod1")
    while one.state() is not State.ENDING:
        log.run(0.1, one)
    log.append(Claim(slot=0, source="ip-1", process="p2", pod="pod2"))
    log.run(3, one)
    assert len(log.of(Claim)) == 1


def test_nothing_is_claimed_before_the_hello_is_read_back() -> None:
    log = Log()
    one = Process(log, "p1", "pod1")
    while one.state() is not State.GREETING:
        log.run(0.1, one)
    # The hello is acknowledged, and the reading of the log is behind.
    one.cut = True
    log.run(3, one)
    assert one.state() is State.GREETING
    one.cut = False
    log.run(3, one)
    assert one.state() is State.READY


def test_a_slot_that_is_not_wanted_is_left_to_others() -> None:
    log = Log()
    one, two = Process(log, "p1", "pod1"), Process(log, "p2", "pod2")
    one.owner.wanted = False
    log.run(30, one)
    assert log.of(Claim) == []
    one.owner.wanted = True
    log.run(1.5, one)
    assert one.state() is State.READY
    one.owner.wanted = False
    log.run(3, one, two)
    assert one.state() is State.WATCHING
    assert two.owner.acting(log.now)


def test_a_slot_that_is_wanted_again_before_its_release_is_kept_in_its_epoch() -> None:
    log = Log()
    one, two = Process(log, "p1", "pod1", busy=True), Process(log, "p2", "pod2")
    log.run(1.5, one)
    epoch = one.owner.epoch
    one.owner.wanted = False
    log.run(5, one, two)
    assert one.state() is State.RELEASING
    assert one.view.live_epoch(0, log.now, TIMES.fresh_ns) is None
    one.owner.wanted = True
    log.run(1, one, two)
    assert one.owner.may_start(log.now)
    assert one.view.live_epoch(0, log.now, TIMES.fresh_ns) == one.owner.epoch == epoch
    assert two.state() is State.WATCHING


def test_a_drain_is_not_taken_back() -> None:
    log = Log()
    one = Process(log, "p1", "pod1", busy=True)
    log.run(1.5, one)
    one.owner.drain()
    log.run(1, one)
    one.owner.wanted = True
    log.run(1, one)
    assert one.state() is State.RELEASING
