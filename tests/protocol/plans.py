"""Draw random faults, run them, and shrink what fails to the faults that matter."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from shared.records.lanemap import LaneMap, moved
from shared.runtime.settings import Rate
from tests.protocol.checker import Violation
from tests.protocol.engine import MS
from tests.protocol.faults import (
    Action,
    At,
    Break,
    ClockStep,
    Crash,
    Cut,
    Fault,
    Hold,
    Lag,
    Leader,
    Slow,
    Stop,
    Strike,
    Stun,
    Term,
)
from tests.protocol.variant import REAL, Variant
from tests.protocol.world import FAST, Shape, World, build, first_map, lane, publish, submit

#: From here on nothing fails any more, and everything must settle.
CALM: Final = 150_000
PATIENCE: Final = 600_000
_S: Final = 1_000_000_000
_CONTROL: Final = ("control",)
_OUTCOMES: Final = ("outcomes/0", "outcomes/1", "outcomes/2")
_STATES: Final = ("state/0", "state/1", "state/2")
_DELIVERIES: Final = tuple(f"deliveries.transactional/{partition}" for partition in range(3))
_DISPATCH: Final = ("dispatch/0", "dispatch/1", "dispatch/2")
_SENDER_STEPS: Final = (
    "taken",
    "mail",
    "acked",
    "checked",
    "dot",
    "replied",
    "outcome-acked",
    "claimed",
    "hb",
)
_SCHEDULER_STEPS: Final = (
    ("fenced", 2),
    ("restored", 2),
    ("polled", 400),
    ("decided", 30),
    ("commit-sent", 30),
    ("committed", 30),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """One run, in full: the same plan runs the same way."""

    seed: int
    shape: Shape
    faults: tuple[Fault, ...]
    offsets: dict[str, int]
    copies: float


def draw(seed: int) -> Plan:
    """Draw a plan: loose faults, every fourth time many, and every other time one of the known traps."""
    rng = random.Random(seed * 7919 + 1)
    shape = _shape(rng)
    lease = shape.timing.lease_ns // MS
    faults: list[Fault] = []
    if seed % 2:
        trap = rng.choice(TRAPS)
        faults += trap(rng, rng.randint(15_000, 80_000), lease)
    most = 16 if seed % 4 == 0 else 6 - 3 * (seed % 2)
    faults += [_fault(rng) for _ in range(rng.randint(most // 3, most))]
    times = sorted(rng.randint(0, 100_000) for _ in range(rng.randint(3, 16)))
    if shape.total is not None:
        # A total binds when mail comes in a wave.
        wave = rng.randint(0, 80_000)
        times = sorted([*times, *(rng.randint(wave, wave + 5_000) for _ in range(8))])
    moves = _moves(rng, shape.partitions)
    mails = [_mail(rng, at, number, moves) for number, at in enumerate(times)]
    faults += [publish(at, lane_map) for at, lane_map in moves[1:]]
    names = ["s0", "s1", "s2", "sched0", "sched1", "sched2"]
    offsets = {name: rng.randint(-2_000, 2_000) for name in names}
    if rng.random() < 0.4:
        shape = replace(shape, floating=True, slots=rng.choice([1, 2, 3]))
    return Plan(seed, shape, (*mails, *faults), offsets, rng.choice([0, 0.1]))


def _shape(rng: random.Random) -> Shape:
    partitions, slots = rng.choice(
        [(1, 1), (1, 1), (1, 2), (1, 2), (1, 3), (2, 1), (2, 1), (2, 2), (3, 1), (3, 2)]
    )
    rates: list[Rate | None] = [
        Rate(1, _S // 2),
        Rate(1, 2 * _S),
        Rate(1, 8 * _S),
        Rate(4, 8 * _S, 3),
    ]
    total = None
    if slots > 1:
        # A period of a minute has a start window, a shorter one is divided between the slots.
        total = rng.choice([None, Rate(6, 60 * _S), Rate(8, 60 * _S, 3), Rate(5, 10 * _S)])
    if total is not None:
        rates = [None, *rates[:2]]
    return Shape(
        partitions=partitions,
        slots=slots,
        senders=rng.choice([2, 3]),
        rate=rng.choice(rates),
        total=total,
        refusing=rng.choice([0, 0, 0, 20]),
        timing=replace(FAST, lease_ns=rng.choice([15, 15, 45]) * _S),
    )


def _moves(rng: random.Random, partitions: int) -> list[tuple[int, LaneMap]]:
    """Draw the lane maps and when each is put in force, the first one at the start."""
    maps = [(0, first_map(partitions))]
    if partitions > 1:
        for at in sorted(rng.randint(5_000, 110_000) for _ in range(rng.choice([0, 1, 1, 2, 4]))):
            wanted = {
                lane(of): rng.randrange(partitions)
                for of in rng.sample(range(partitions), rng.randint(1, partitions))
            }
            maps.append((at, moved(maps[-1][1], wanted)))
    return maps


def _mail(rng: random.Random, at: int, number: int, maps: Sequence[tuple[int, LaneMap]]) -> Fault:
    """Submit a message by a map that is in force, or that was a little before."""
    of = rng.randrange(maps[0][1].partitions)
    read = at - rng.choice([0, 500, 10_000])
    known = [lane_map for since, lane_map in maps if since <= max(0, read)][-1]
    arrives = known.partition(lane(of))
    return submit(at, number, of, arrives=arrives, version=known.version)


def _fault(rng: random.Random) -> Fault:
    kind = rng.random()
    if kind < 0.55:
        step = rng.choice(_SENDER_STEPS)
        return Strike(step, rng.randint(1, 60 if step == "hb" else 12), _on_sender(rng))
    if kind < 0.75:
        step, most = rng.choice(_SCHEDULER_STEPS)
        return Strike(step, rng.randint(1, most), _on_scheduler(rng))
    return At(rng.randint(5_000, 120_000), *_anywhere(rng))


def _duration(rng: random.Random) -> int:
    low, high = rng.choice([(200, 3_000), (3_000, 15_000), (10_000, 40_000), (45_000, 75_000)])
    return rng.randint(low, high)


def _on_sender(rng: random.Random) -> Action:
    logs = rng.choice([_OUTCOMES, _CONTROL, _DISPATCH, _CONTROL + _DISPATCH + _OUTCOMES])
    actions: list[Action] = [
        Crash(rng.randint(500, 8_000)),
        Stop(_duration(rng), rng.choice([0, 0, rng.randint(500, 10_000)]), rng.random() < 0.5),
        Stun(_duration(rng)),
        Term(),
        Cut(logs, _duration(rng)),
        Cut(rng.choice([_OUTCOMES, _CONTROL + _OUTCOMES]), _duration(rng)),
        Break(logs, _duration(rng)),
        Break(_CONTROL, rng.randint(500, 12_000)),
        ClockStep(rng.randint(-15_000, 15_000)),
        Lag(rng.choice(["control", "dispatch/0"]), _duration(rng), rng.randint(500, 25_000)),
    ]
    return rng.choice(actions)


def _on_scheduler(rng: random.Random) -> Action:
    everything = (*_STATES, *_OUTCOMES, *_DELIVERIES, "control")
    lagging = rng.choice([_OUTCOMES[0], "control", *_DELIVERIES[:2]])
    actions: list[Action] = [
        Crash(rng.randint(500, 30_000)),
        Stop(_duration(rng), rng.randint(3_000, 45_000)),
        Stun(_duration(rng)),
        ClockStep(rng.randint(-15_000, 15_000)),
        Cut(rng.choice([_STATES, everything]), _duration(rng)),
        Lag(lagging, _duration(rng), rng.randint(500, 30_000)),
    ]
    return rng.choice(actions)


def _anywhere(rng: random.Random) -> tuple[str | None, Action]:
    log = rng.choice(["outcomes/0", "control"])
    actions: list[tuple[str | None, Action]] = [
        (None, Slow(log, rng.randint(2_000, 25_000))),
        (None, Hold(log, rng.randint(2_000, 10_000))),
        (None, Leader(log, rng.randint(-1_000, 1_000))),
        (rng.choice(["s0", "s1"]), Term()),
    ]
    return rng.choice(actions)


def _one(rng: random.Random, *actions: Action) -> Action:
    return rng.choice(actions)


# -- traps: faults that belong together, found by thought or by a hunt; the dice turn their times


def _late_take(rng: random.Random, at: int, lease: int) -> list[Fault]:
    """A grant is seen just before t1, and `started` comes late or not at all."""
    late = lease - rng.randint(-500, 6_000)
    hidden = _one(rng, Cut(_OUTCOMES, rng.randint(2_000, 60_000)), Stop(rng.randint(1_000, 9_000)))
    return [
        At(at, "s0", Lag("dispatch/0", lease + 25_000, late)),
        At(at + late, "s0", hidden)
        if rng.random() < 0.5
        else Strike("taken", rng.randint(1, 9), hidden),
        At(at + late - rng.randint(0, 2_000), None, Slow("outcomes/0", rng.randint(500, 15_000))),
    ]


def _hand_over(rng: random.Random, at: int, lease: int) -> list[Fault]:
    """The owner leaves while others read mail.control late."""
    return [
        At(at, "s0", Term()),
        At(
            at - rng.randint(0, 4_000),
            "s1",
            Lag("control", rng.randint(3_000, 30_000), rng.randint(1_000, 22_000)),
        ),
        At(
            at + rng.randint(0, 4_000),
            "s2",
            Lag("control", rng.randint(3_000, 15_000), rng.randint(1_000, 12_000)),
        ),
        At(
            at + rng.randint(500, 9_000),
            rng.choice(["s1", "s2"]),
            Cut(_CONTROL, rng.randint(4_000, 15_000)),
        ),
    ]


def _deaf_owner(rng: random.Random, at: int, lease: int) -> list[Fault]:
    """The owner stands still, or hears nothing of a later claim, and goes on with an attempt."""
    still = _one(rng, Stun(rng.randint(12_000, 70_000)), Stop(rng.randint(3_000, 40_000)))
    deaf = Cut(_CONTROL, rng.randint(12_000, 80_000))
    if rng.random() < 0.5:
        return [At(at, "s0", still), At(at, "s0", deaf)]
    step, count = rng.choice(["taken", "mail", "acked"]), rng.randint(1, 8)
    return [Strike(step, count, still), Strike(step, count, deaf)]


def _claims_meet(rng: random.Random, at: int, lease: int) -> list[Fault]:
    """The owner dies, and several claim at once with their reading behind."""
    return [
        At(
            at,
            "s0",
            _one(rng, Crash(rng.randint(500, 30_000)), Stop(rng.randint(9_000, 40_000))),
        ),
        At(
            at + rng.randint(-3_000, 12_000),
            "s1",
            Lag("control", rng.randint(5_000, 30_000), rng.randint(500, 12_000)),
        ),
        Strike(
            "claimed",
            rng.randint(2, 4),
            Lag("control", rng.randint(3_000, 20_000), rng.randint(1_000, 20_000)),
        ),
        Strike("claimed", rng.randint(2, 4), Cut(_CONTROL, rng.randint(1_000, 15_000))),
    ]


def _lost_outcome(rng: random.Random, at: int, lease: int) -> list[Fault]:
    """The message was taken, its outcome cannot be said, and the slot changes its owner."""
    cut = Cut(_OUTCOMES, rng.randint(10_000, 80_000))
    return [
        Strike(rng.choice(["dot", "replied"]), rng.randint(1, 6), cut),
        At(
            at + rng.randint(0, 20_000),
            "s0",
            _one(rng, Term(), Crash(2_000), Stop(30_000, 3_000)),
        ),
        At(
            at + rng.randint(0, 25_000),
            "sched0",
            Lag("outcomes/0", rng.randint(3_000, 30_000), rng.randint(1_000, 25_000)),
        ),
    ]


def _behind(rng: random.Random, at: int, lease: int) -> list[Fault]:
    """The scheduler reads mail.outcomes late while leases end and owners change."""
    return [
        At(
            at, "sched0", Lag("outcomes/0", rng.randint(20_000, 60_000), rng.randint(3_000, 30_000))
        ),
        At(
            at + rng.randint(0, 10_000),
            "s0",
            _one(
                rng,
                Term(),
                Crash(1_000),
                Lag("dispatch/0", 20_000, 14_000),
                Stop(2_000, 500, same_pod=True),
            ),
        ),
    ]


def _two_in_a_pod(rng: random.Random, at: int, lease: int) -> list[Fault]:
    """A pod starts its process again although the old one lives on, deaf or late."""
    still = Stop(rng.randint(800, 6_000), rng.randint(300, 2_000), same_pod=True)
    deaf = _one(
        rng,
        Cut(_CONTROL, rng.randint(5_000, 20_000)),
        Lag("control", rng.randint(5_000, 40_000), rng.randint(2_000, 15_000)),
    )
    return [
        fault
        for moment in rng.sample(range(at, at + 60_000, 500), 3)
        for fault in (At(moment, "s0", still), At(moment + rng.randint(-500, 500), "s0", deaf))
    ]


def _quick_successor(rng: random.Random, at: int, lease: int) -> list[Fault]:
    """The owner dies with an attempt under way, its successor begins at once, and the scheduler has read little."""
    return [
        Strike(rng.choice(["dot", "mail", "checked"]), count, Crash(rng.randint(300, 2_000)))
        for count in rng.sample(range(1, 10), 3)
    ] + [
        At(at, "sched0", Lag("outcomes/0", 60_000, rng.randint(4_000, 25_000))),
    ]


TRAPS: Final = (
    _late_take,
    _hand_over,
    _deaf_owner,
    _claims_meet,
    _lost_outcome,
    _behind,
    _two_in_a_pod,
    _quick_successor,
)


def run(plan: Plan, variant: Variant = REAL, *, trace: bool = False) -> World:
    """Run a plan until all is settled, or patience ends."""
    world = build(
        plan.shape,
        plan.seed,
        plan.faults,
        plan.offsets,
        variant=variant,
        calm=CALM,
        copies=plan.copies,
        trace=trace,
    )
    sim, checker = world.sim, world.checker
    for until in range(CALM, CALM + PATIENCE + 1, 10_000):
        sim.run(until)
        for log in sim.logs():
            log.clock_ms = 0
        if until > CALM and checker.accepted <= checker.finals.keys():
            break
    checker.end()
    return world


def shrink(plan: Plan, variant: Variant = REAL) -> Plan:
    """Leave out every fault without which the same guarantee is still broken."""
    wanted = _broken(run(plan, variant).checker.violations)
    faults = list(plan.faults)
    for fault in plan.faults:
        fewer = [each for each in faults if each is not fault]
        less = Plan(plan.seed, plan.shape, tuple(fewer), plan.offsets, plan.copies)
        if wanted & _broken(run(less, variant).checker.violations):
            faults = fewer
    return Plan(plan.seed, plan.shape, tuple(faults), plan.offsets, plan.copies)


def _broken(violations: Sequence[Violation]) -> set[str]:
    return {violation.guarantee for violation in violations}


def story(world: World) -> str:
    """Tell a traced run, line by line."""
    lines = [f"{at / 1000:9.2f} {who:8} {text}" for at, who, text in world.sim.trace]
    return "\n".join([*lines, f"broken: {world.checker.violations}"])
