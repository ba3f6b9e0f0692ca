"""A round waits for names, but never longer than its bound, and never twice for the same dead name server."""

import asyncio
from dataclasses import dataclass, field

import structlog

from services.ingest.resolving import Resolving
from services.ingest.route import Resolved
from shared.net.destinations import Answer, Destination, NoDomain
from shared.runtime.clock import SystemClock

MS = 1_000_000


@dataclass
class Names:
    """Name servers with chosen manners."""

    asked: list[str] = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def routed(self, domain: str) -> Destination | None:
        return Destination((), "routed", "r") if domain == "routed.test" else None

    async def resolve(self, domain: str) -> Answer:
        self.asked.append(domain)
        if domain == "dead.example":
            await self.wake.wait()
        if domain == "bug.example":
            raise ValueError("a bug")
        if domain == "none.example":
            return NoDomain("no such domain")
        return Destination((), f"mx.{domain}", None)


def resolving(names: Names, wait_ns: int = 50 * MS) -> Resolving:
    return Resolving(names, structlog.get_logger(), wait_ns=wait_ns)


async def test_what_is_found_in_time_is_given_and_nothing_else() -> None:
    names = Names()
    one = resolving(names)
    found = await one.resolve(["a.example", "none.example", "routed.test", "bug.example"])
    assert found == {
        "a.example": Resolved("mx.a.example", None),
        "routed.test": Resolved("routed", "r"),
    }
    assert "routed.test" not in names.asked
    await one.close()


async def test_a_dead_name_server_costs_one_wait_and_not_one_for_each_round() -> None:
    names, clock = Names(), SystemClock()
    one = resolving(names, 300 * MS)
    began = clock.mono_ns()
    assert set(await one.resolve(["dead.example", "a.example"])) == {"a.example"}
    for _ in range(20):
        assert set(await one.resolve(["dead.example", "a.example"])) == {"a.example"}
    assert names.asked.count("dead.example") == 1
    # Twenty more waits would take six seconds.
    assert clock.mono_ns() - began < 5000 * MS
    names.wake.set()
    await asyncio.sleep(0.01)
    assert set(await one.resolve(["dead.example"])) == {"dead.example"}
    await one.close()


async def test_close_leaves_no_look_up_behind() -> None:
    one = resolving(Names())
    await one.resolve(["dead.example"])
    await one.close()
    assert len(asyncio.all_tasks()) == 1
