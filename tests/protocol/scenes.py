"""The known interleavings, at the shipped times: each a plan in which a delivery is submitted at 20 s, and something goes wrong.

``breaks`` names the mutants that fall into it: the rule that they lack is what keeps the scene harmless.
"""

from dataclasses import dataclass, field
from typing import Final

from shared.records.lanemap import moved
from shared.runtime.settings import Rate
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
    Slow,
    Stop,
    Strike,
    Stun,
    Term,
)
from tests.protocol.variant import REAL, Variant
from tests.protocol.world import SHIPPED, Shape, World, build, first_map, lane, publish, submit

_S: Final = 1_000_000_000
# The total over slots of some scenes: with the start window and two clocks, a token every 34.5 s.
_TWO: Final = Rate(2, 60 * _S)
OUT: Final = ("outcomes/0",)
CONTROL: Final = ("control",)
DISPATCH: Final = "dispatch/0"


@dataclass(frozen=True, slots=True)
class Scene:
    """One interleaving."""

    faults: tuple[Fault, ...]
    senders: int = 1
    every_ms: int = 1_000
    slots: int = 1
    partitions: int = 1
    total: Rate | None = None
    receiver: str = "ok"
    offsets: dict[str, int] = field(default_factory=dict)
    #: By then, in s, everything must be settled.
    settled: int = 400
    breaks: tuple[str, ...] = ()


def _on(ms: int, who: str, action: Action) -> At:
    return At(ms, who, action)


# The grant is seen a second before t1.
_LATE: Final = _on(19_000, "s0", Lag(DISPATCH, 70_000, 59_000))

# Its pod starts another process although this one lives on.
_TWIN: Final = _on(19_900, "s0", Stop(600, 100, same_pod=True))

# The lane of the first delivery goes from partition 0 to 1.
_MAP: Final = moved(first_map(2), {lane(0): 1})
_BACK: Final = moved(_MAP, {lane(0): 0})

SCENES: Final = {
    "`started` comes after t1": Scene(
        (_on(19_000, "s0", Lag(DISPATCH, 70_000, 45_000)), Strike("taken", 1, Cut(OUT, 22_000))),
        breaks=("takes void `started`",),
    ),
    "an older attempt is handed back while a newer one is under way": Scene(
        (Strike("taken", 1, Cut(OUT, 66_000)),),
        receiver="slow",
        breaks=("settles by any outcome",),
    ),
    "grants pile up on their way": Scene(
        (submit(20_100, 1), submit(20_200, 2), _on(19_900, "s0", Lag(DISPATCH, 30_000, 10_000))),
        breaks=("catches up",),
    ),
    "`started` is never acknowledged": Scene(
        (Strike("taken", 1, Cut(OUT, 90_000)),),
        breaks=("dot before `started`",),
    ),
    "two clocks at the ends of the skew": Scene(
        (_on(19_000, "s0", Lag(DISPATCH, 70_000, 62_800)),),
        offsets={"s0": -1_990, "sched0": 1_990},
    ),
    "a follower lags while `started` is written": Scene(
        (_LATE, Strike("taken", 1, Slow(OUT[0], 15_000))),
        breaks=("judges by its clock",),
    ),
    "a hung transaction hides `started`": Scene(
        (_LATE, Strike("taken", 1, Hold(OUT[0], 9_000))),
        breaks=("judges by its clock",),
    ),
    "a stun between `started` and the dot": Scene(
        (
            _on(20_050, "s0", Stun(35_000)),
            _on(20_050, "s0", Cut(CONTROL, 45_000)),
        ),
        senders=2,
        breaks=("cannot see a stun",),
    ),
    "the outcome is not read yet when the slot changes its owner": Scene(
        (
            Strike("replied", 1, Cut(OUT, 70_000)),
            _on(85_000, "s0", Term()),
            _on(89_000, "sched0", Lag(OUT[0], 10_000, 5_000)),
        ),
        senders=2,
    ),
    "two releases in a row": Scene(
        (
            _on(25_000, "s0", Term()),
            _on(24_000, "s2", Lag("control", 6_000, 3_000)),
            submit(27_500, 1),
            _on(25_500, "s1", Lag(DISPATCH, 10_000, 4_500)),
            _on(28_000, "s1", Cut(CONTROL, 9_500)),
        ),
        senders=3,
    ),
    "an owner dies with a grant": Scene(
        (Strike("taken", 1, Crash(10_000_000)),),
        senders=3,
        settled=180,
    ),
    "nobody knows what became of a hello or a claim": Scene(
        (_on(100, "s0", Break(CONTROL, 30_000)), _on(4_100, "s1", Break(CONTROL, 30_000))),
        senders=2,
        settled=180,
        breaks=("waits for what is lost",),
    ),
    "a stopped owner is replaced under the same name": Scene(
        (Strike("taken", 1, Stop(15_000, 2_000)),),
        settled=180,
        breaks=("never stale",),
    ),
    "a new owner right after the old one's last RCPT": Scene(
        (
            submit(22_000, 1),
            _on(19_000, "s0", Lag(DISPATCH, 30_000, 26_000)),
            _on(47_300, "s0", Term()),
        ),
        senders=2,
        every_ms=30_000,
        breaks=("starts at once",),
    ),
    "the owner's clock is out of the skew": Scene(
        (_on(25_000, "s0", ClockStep(-2_500)), submit(22_000, 1), submit(30_000, 2)),
        senders=2,
        settled=180,
    ),
    "the scheduler's clock is ten minutes ahead": Scene(
        (
            _on(10, "sched0", ClockStep(600_000)),
            _on(25_000, "sched0", Crash(2_000)),
            submit(22_000, 1),
            submit(30_000, 2),
        ),
        settled=180,
    ),
    "the receiver accepts and never answers": Scene((), receiver="tarpit", settled=1_500),
    "an old owner that hears nothing has a twin in its pod": Scene(
        (_TWIN, _on(19_900, "s0", Cut(CONTROL, 10_000)), At(20_000, None, Slow(OUT[0], 3_500))),
        breaks=("waits for nobody",),
    ),
    "an old owner that reads late has a twin in its pod": Scene(
        (
            _TWIN,
            _on(19_900, "s0", Lag("control", 30_000, 12_000)),
            At(20_000, None, Slow(OUT[0], 11_500)),
        ),
        breaks=("fresh from reading",),
    ),
    "an old owner that hears everything has a twin in its pod": Scene(
        (_TWIN, At(20_000, None, Slow(OUT[0], 12_500))),
        breaks=("ignores later claims",),
    ),
    "an owner dies after its dot": Scene(
        (Strike("dot", 1, Crash(500)),),
        breaks=("forgets `started`",),
    ),
    "an owner dies after its dot and the scheduler reads late": Scene(
        (
            _on(19_000, "sched0", Lag(OUT[0], 60_000, 10_000)),
            Strike("dot", 1, Crash(500)),
        ),
        breaks=("judges on sight",),
    ),
    "the scheduler restarts while an attempt is under way": Scene(
        (_on(40_000, "sched0", Crash(1_000)),),
        receiver="tarpit",
        settled=1_500,
        breaks=("loses `started`",),
    ),
    "a lane moves between two grants": Scene(
        (submit(21_000, 1), publish(40_000, _MAP)),
        partitions=2,
        every_ms=30_000,
        breaks=("takes empty hands",),
    ),
    "a lane moves while an attempt is under way": Scene(
        (publish(21_500, _MAP),),
        partitions=2,
        receiver="slow",
        breaks=("moves what is open",),
    ),
    "the new partition knows the map before the old one": Scene(
        (
            _on(19_000, "sched0", Lag("control", 60_000, 50_000)),
            publish(22_000, _MAP),
            submit(25_000, 1, arrives=1, version=2),
        ),
        partitions=2,
        breaks=("grants unheard",),
    ),
    "a lane moves away and back while the other partition hears nothing": Scene(
        (
            _on(19_000, "sched1", Lag("control", 60_000, 50_000)),
            publish(22_000, _MAP),
            publish(30_000, _BACK),
            submit(31_000, 1, version=3),
        ),
        partitions=2,
        breaks=("grants unheard",),
    ),
    "the old partition restarts after it handed over": Scene(
        (
            publish(22_000, _MAP),
            _on(40_000, "sched0", Crash(1_000)),
            _on(39_000, "sched1", Cut(("state/1",), 9_000)),
            publish(45_000, _BACK),
            submit(46_000, 1, version=3),
        ),
        partitions=2,
        breaks=("forgets lanes",),
    ),
    "a delivery moves after its first attempt": Scene(
        (Strike("dot", 1, Crash(500)), publish(60_000, _MAP)),
        partitions=2,
        breaks=("counts anew",),
    ),
    "a copy of a straggler is read after its delivery has moved and ended": Scene(
        (
            Strike("dot", 1, Crash(500)),
            _on(60_000, "sched0", Lag("deliveries.transactional/0", 420_000, 420_000)),
            publish(290_000, _MAP),
            submit(500_000, 1, arrives=1, version=2),
        ),
        partitions=2,
        settled=900,
        breaks=("takes copies",),
    ),
    "a grant under a total is read late": Scene(
        (
            submit(20_100, 1),
            submit(20_200, 2),
            _on(19_000, "s0", Lag(DISPATCH, 40_000, 39_000)),
            _on(19_000, "s0", Lag("dispatch/1", 40_000, 39_000)),
        ),
        slots=2,
        total=_TWO,
        breaks=("starts totals any time",),
    ),
    "a total is kept by clocks at the ends of the skew": Scene(
        (
            submit(20_100, 1),
            submit(20_200, 2),
            _on(19_000, "s0", Lag(DISPATCH, 10_000, 6_300)),
            _on(19_000, "s0", Lag("dispatch/1", 10_000, 6_300)),
            _on(35_000, "s0", Term()),
        ),
        senders=2,
        slots=2,
        total=_TWO,
        offsets={"s0": -1_990, "s1": 1_990},
        breaks=("trusts clocks",),
    ),
    "the scheduler restarts under a total": Scene(
        (
            submit(20_100, 1),
            submit(20_200, 2),
            _on(60_000, "sched0", Crash(1_000)),
        ),
        slots=2,
        total=_TWO,
        breaks=("forgets totals",),
    ),
    "the scheduler is away for five minutes": Scene(
        (
            _on(19_000, "s0", Lag(DISPATCH, 9_000, 5_000)),
            _on(21_000, "s0", Crash(2_000)),
            _on(22_000, "sched0", Crash(300_000)),
        ),
        settled=800,
    ),
}


def play(scene: Scene, variant: Variant = REAL, *, trace: bool = False) -> World:
    """Run a scene to the time when all must be settled."""
    shape = Shape(
        slots=scene.slots,
        partitions=scene.partitions,
        senders=scene.senders,
        rate=Rate(1, scene.every_ms * 1_000_000),
        total=scene.total,
        receiver=scene.receiver,
        timing=SHIPPED,
        retry_ns=300 * _S,
    )
    plan = (submit(20_000, 0), *scene.faults)
    world = build(shape, 1, plan, scene.offsets, variant=variant, trace=trace)
    quiet = max([fault.ms for fault in plan if isinstance(fault, At)]) + 120_000
    for until in range(10_000, scene.settled * 1_000 + 1, 10_000):
        world.sim.run(until)
        if until > quiet and world.checker.accepted <= world.checker.finals.keys():
            break
    world.checker.end()
    return world
