"""Set the stage: settings, names of logs, the checker, and the two shells on one ``Sim``.

Times are shorter than in production where that makes collisions likelier (leases, retries); the ownership's times are the shipped ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from shared.records.codec import encode
from shared.records.delivery import DELIVERY, Delivery
from shared.records.lanemap import LaneMap
from shared.runtime.settings import (
    ClassPolicy,
    LimitRow,
    Pool,
    Provider,
    Rate,
    Settings,
    Source,
    Tenant,
    UnknownPolicy,
)
from shared.runtime.workings import Timing
from tests.protocol import faults
from tests.protocol.checker import Checker
from tests.protocol.engine import CONTROL, EPOCH_MS, MS, Proc, Sim
from tests.protocol.schedulers import Scheduler
from tests.protocol.senders import Receiver, Sender
from tests.protocol.variant import REAL, Variant

_S: Final = 1_000_000_000
CLASS: Final = "transactional"
FAST: Final = Timing(
    lease_ns=15 * _S,
    attempt_max_ns=90 * _S,
    pair_pause_first_ns=5 * _S,
    pair_pause_max_ns=20 * _S,
    greylist_min_ns=20 * _S,
)
SHIPPED: Final = replace(FAST, lease_ns=60 * _S, attempt_max_ns=1_200 * _S)


@dataclass(frozen=True, slots=True)
class Shape:
    """How large the world is, and how fast it may send."""

    partitions: int = 1
    slots: int = 1
    senders: int = 2
    rate: Rate | None = Rate(count=1, period_ns=2 * _S)  # noqa: RUF009 - frozen
    #: Over all slots.
    total: Rate | None = None
    receiver: str = "mixed"
    #: How many of 100 connections fail before RCPT.
    refusing: int = 0
    timing: Timing = FAST
    retry_ns: int = 20 * _S
    #: The senders share the slots out; otherwise each takes what it can get.
    floating: bool = False


def provider(partition: int) -> str:
    """Name the provider whose lane ``partition`` decides."""
    return f"provider-{partition}"


def settings(shape: Shape) -> Settings:
    """Give what an operator of such a world would write."""
    sources = {
        f"ip-{slot}": Source(
            f"ip-{slot}", slot, "bind", "none", ehlo="m.example", address="192.0.2.1"
        )
        for slot in range(shape.slots)
    }
    return Settings(
        sources=sources,
        pools={"pool": Pool("pool", dict.fromkeys(sources, 1))},
        tenants={"acme": Tenant("acme", ("acme.example",), {CLASS: "pool"}, unsigned=True)},
        classes={
            CLASS: ClassPolicy(
                CLASS,
                (shape.retry_ns,),
                24 * 3_600 * _S,
                UnknownPolicy("retry", 2, shape.retry_ns),
            )
        },
        providers={
            name: Provider(name, (f".{name}.example",))
            for name in map(provider, range(shape.partitions))
        },
        limits={"default": LimitRow(2, 100, shape.rate, shape.total)},
        timing=shape.timing,
    )


def lane(partition: int) -> str:
    """Name the lane that ``partition`` decides at the start."""
    return f"provider:{provider(partition)}"


def first_map(partitions: int) -> LaneMap:
    """Give every partition the lane of its own provider."""
    return LaneMap(version=1, partitions=partitions, lanes={lane(p): p for p in range(partitions)})


def publish(ms: int, lane_map: LaneMap) -> faults.At:
    """Put a lane map in force."""
    return faults.At(ms, None, faults.Append(CONTROL, encode(lane_map)))


def submit(
    ms: int, number: int, partition: int = 0, *, arrives: int | None = None, version: int = 1
) -> faults.At:
    """Let a platform's message for the provider of ``partition`` arrive there, or where a map of another version says."""
    now = (EPOCH_MS + ms) * MS
    domain = f"{provider(partition)}.example"
    arrives = partition if arrives is None else arrives
    record = Delivery(
        id=f"m{number}",
        submission=f"s{number}",
        tenant="acme",
        class_=CLASS,
        from_="a@acme.example",
        return_path="a@acme.example",
        to=f"u{number}@{domain}",
        domain=domain,
        provider=provider(partition),
        site=f"mx.{domain}",
        pool="pool",
        map=version,
        accepted_ns=now,
        not_before_ns=0,
        expires_ns=now + 24 * 3_600 * _S,
        size_bytes=2_000,
        header_domain="acme.example",
    )
    return faults.At(ms, None, faults.Append(f"deliveries.{CLASS}/{arrives}", encode(record)))


@dataclass(slots=True)
class World:
    """Everything that runs."""

    sim: Sim
    shape: Shape
    checker: Checker
    settings: Settings
    variant: Variant = REAL
    receiver: Receiver = field(init=False)

    def __post_init__(self) -> None:
        """Set up the receiving side."""
        self.receiver = Receiver(self.sim, self.shape.receiver, self.shape.refusing)

    def start(self) -> None:
        """Write the lane map, start every process."""
        lane_map = first_map(self.shape.partitions)
        self.checker.holders.update(lane_map.lanes)
        self.sim.log(CONTROL).append(encode(lane_map))
        for number in range(self.shape.senders):
            self.sim.at(number * 4_000, self.sender, f"s{number}", None)
        for partition in range(self.shape.partitions):
            self.sim.at(0, self.scheduler, partition)

    def sender(self, name: str, before: Proc | None) -> None:
        """Start a sender; a dead predecessor lends its pod."""
        Sender(
            self.sim,
            self.checker,
            self.settings,
            self.variant,
            self.receiver,
            name,
            before,
            self.sender,
            floating=self.shape.floating,
        )

    def scheduler(self, partition: int) -> None:
        """Start a scheduler of ``partition``."""
        Scheduler(self.sim, self.checker, self.settings, self.variant, partition, self.scheduler)


def build(
    shape: Shape,
    seed: int,
    plan: Sequence[faults.Fault],
    offsets: Mapping[str, int] | None = None,
    *,
    variant: Variant = REAL,
    calm: int = 10**9,
    copies: float = 0.0,
    trace: bool = False,
) -> World:
    """Build a world and start it."""
    sim = Sim(seed, plan, offsets or {}, calm=calm, copies=copies, trace=trace)
    config = settings(shape)
    checker = Checker(sim, config, {id_ for fault in plan if (id_ := _submitted(fault))})
    world = World(sim, shape, checker, config, variant)
    world.start()
    return world


def _submitted(fault: faults.Fault) -> str | None:
    if not isinstance(fault.action, faults.Append):
        return None
    record = DELIVERY.decode(fault.action.value)
    return record.id if isinstance(record, Delivery) else None
