"""What waits in the benchmarks of the scheduler: deliveries of many tenants for many sites, the same every time.

Traffic is as uneven as it is in life: the n-th tenant and the n-th site have a share of about 1/n. Each tenant has one pool, each pool
sources of its own. Every record is decoded from its bytes, as from the log: nothing is shared that would not be shared there.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from services.cli.lanes import pools_of
from shared.protocol.control import ControlView
from shared.records.codec import encode
from shared.records.control import Claim, Heartbeat
from shared.records.delivery import DELIVERY, Delivery
from shared.records.lanemap import propose
from shared.runtime import defaults
from shared.runtime.settings import LimitRow, Pool, Settings, Source, Tenant
from shared.runtime.workings import Scheduler

S: Final = 1_000_000_000
START: Final = 1_700_000_000 * S
CLASS: Final = "bulk"
_POOL: Final = 10
_MANY: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class Size:
    """How many there are of what makes a scheduler's work wide."""

    tenants: int
    sites: int
    sources: int


SMALL: Final = Size(10, 10, 10)
LARGE: Final = Size(1_000, 10_000, 1_000)


def settings(size: Size, *, rate: LimitRow | None = None) -> Settings:
    """Write the configuration: no limit but the connections, unless ``rate`` says one for all."""
    sources = {
        f"ip-{at}": Source(
            f"ip-{at}", at, "bind", "none", ehlo=f"m{at}.example.com", address=_address(at)
        )
        for at in range(size.sources)
    }
    names = list(sources)
    pools = {
        f"pool-{at}": Pool(f"pool-{at}", dict.fromkeys(names[at * _POOL : (at + 1) * _POOL], 1))
        for at in range(size.sources // _POOL)
    }
    tenants = {
        f"tenant-{at}": Tenant(
            f"tenant-{at}", (f"t{at}.example",), {CLASS: f"pool-{at % len(pools)}"}
        )
        for at in range(size.tenants)
    }
    # Nobody knows these sites, and yet they are not to grow: it is the scheduler that is measured.
    default = rate or replace(defaults.LIMITS["default"], start_rate=None)
    limits = {**defaults.LIMITS, "default": default}
    return Settings(
        sources=sources,
        pools=pools,
        tenants=tenants,
        classes=defaults.CLASSES,
        limits=limits,
        scheduler=Scheduler(max_waiting=_MANY),
    )


def _address(at: int) -> str:
    return f"198.18.{at // 256}.{at % 256}"


def records(size: Size, count: int, *, due_ns: int = START, spread_ns: int = 0) -> Iterator[bytes]:
    """Give as many delivery records; each is due at ``due_ns``, or up to ``spread_ns`` later."""
    rng = random.Random(1)
    pools = size.sources // _POOL
    tenants = rng.choices(range(size.tenants), cum_weights=_shares(size.tenants), k=count)
    sites = rng.choices(range(size.sites), cum_weights=_shares(size.sites), k=count)
    for at, (tenant, site) in enumerate(zip(tenants, sites, strict=True)):
        due = due_ns + (rng.randrange(spread_ns) if spread_ns else 0)
        record = Delivery(
            id=f"b3-{10_000_000 + at}-0",
            submission=f"{rng.getrandbits(128):032x}",
            tenant=f"tenant-{tenant}",
            class_=CLASS,
            from_=f"bounce@t{tenant}.example",
            return_path=f"bounce@t{tenant}.example",
            to=f"somebody.{at}@site-{site}.example",
            domain=f"site-{site}.example",
            site=f"mx1.site-{site}.example,mx2.site-{site}.example",
            pool=f"pool-{tenant % pools}",
            map=1,
            accepted_ns=START + at,
            not_before_ns=due,
            expires_ns=due + 3 * 86_400 * S,
            size_bytes=2_000 + at % 1_000,
            header_domain=f"t{tenant}.example",
            stream="news",
            tags=("campaign-7",),
        )
        yield encode(record)


def _shares(count: int) -> list[float]:
    return list(accumulate(1 / (at + 1) for at in range(count)))


def read(value: bytes) -> Delivery:
    """Read a record as the worker does."""
    found = DELIVERY.decode(value)
    assert isinstance(found, Delivery), found
    return found


def ready(config: Settings, now_ns: int = START) -> ControlView:
    """Give a view in which every slot has a sender that is ready."""
    view = ControlView()
    view.feed(0, now_ns, propose(1, 1, config.providers, [], pools=pools_of(config)))
    for source in config.sources.values():
        claim = Claim(slot=source.slot, source=source.name, process="p", pod="p")
        view.feed(view.position, now_ns, claim)
    beat(config, view, now_ns)
    return view


def beat(config: Settings, view: ControlView, now_ns: int) -> None:
    """Let every slot's sender be heard of."""
    for source in config.sources.values():
        said = Heartbeat(
            slot=source.slot,
            epoch=view.epoch(source.slot),
            process="p",
            ready=True,
            mono_ns=0,
            wall_ns=now_ns,
        )
        view.feed(view.position, now_ns, said)
