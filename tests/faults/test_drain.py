"""A sender that is told to go, with thousands of grants in hand and hundreds of connections open, leaves at once and loses nothing.

What it waits for is the replies to messages that it has sent whole, and one source's peer keeps no other source.
"""

import asyncio
import time

import pytest

from shared.records.control import CONTROL, Claim, Heartbeat, Released
from shared.records.event import Event
from tests.support.config import QUICK_TIMING, submission
from tests.support.reading import Log
from tests.support.stack import Events, Service
from tests.support.yard import Yard

MESSAGES = 5_300
SOURCES = ("127.0.0.11", "127.0.0.12", "127.0.0.13")
CONNECTIONS = 70


def gauge(service: Service, name: str) -> float:
    lines = service.metrics().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))


@pytest.mark.timeout(400)
async def test_a_drain_hands_back_what_it_has_not_begun_and_another_sends_it(yard: Yard) -> None:
    receiver = yard.receiver("--dot-delay", "1")
    limits = f"[limits.local]\nconnections = {CONNECTIONS}\nmessages_per_connection = 1000"
    # Leases of a minute: a queue of thousands takes a while.
    stack = yard.stack(receiver, sources=SOURCES, limits=limits, timing="")
    stack.set_up()
    for kind in ("ingest", "scheduler"):
        stack.start(kind, wait=False)
    leaving = stack.start("sender", "sender-0")
    async with Events(stack, 2) as events:
        await stack.produce(submission(f"u{at}@a.test") for at in range(MESSAGES))
        async with asyncio.timeout(120):
            while (
                gauge(leaving, "postyard_grants_waiting") < 3_000
                or gauge(leaving, "postyard_attempts_under_way") < len(SOURCES) * CONNECTIONS - 10
            ):
                await events.read()
        stack.start("sender", "sender-1", wait=False)
        begun = time.monotonic()
        assert await asyncio.to_thread(leaving.terminate, 60) == 0
        left = time.monotonic() - begun
        # A second for the last replies; a sender that sent its queue would take twenty.
        assert left < 15
        await events.until_final(MESSAGES, 240)
        print(f"\nleft after {left:.1f} s")
        assert set(events.types()) == {"delivered"}
    assert set(receiver.copies().values()) == {1}


@pytest.mark.timeout(200)
async def test_a_peer_that_sits_on_its_reply_keeps_one_source_and_no_longer_than_the_grace_time(
    yard: Yard,
) -> None:
    receiver = yard.receiver("--dot-delay", "600")
    stack = yard.stack(
        receiver,
        limits="[limits.local]\nconnections = 1",
        timing=QUICK_TIMING.replace('attempt_max = "15s"', 'attempt_max = "90s"'),
        more='[sender]\ngrace = "8s"',
    )
    stack.set_up()
    for kind in ("ingest", "scheduler"):
        stack.start(kind, wait=False)
    leaving = stack.start("sender", "sender-0")
    async with Events(stack, 2) as events, Log(stack, [stack.topics.control], 1) as log:
        await stack.produce([submission("somebody@a.test")])
        async with asyncio.timeout(60):
            while not receiver.seen("rcpt") or not gauge(leaving, "postyard_attempts_under_way"):
                await events.read()
        following = stack.start("sender", "sender-1", wait=False)
        async with asyncio.timeout(60):
            while not _serves(following):
                await events.read()
        assert await asyncio.to_thread(leaving.terminate, 60) == 0
        async with asyncio.timeout(60):
            while not (said := _attempts(events)):
                await events.read()
        # The one who knows says so: nobody had to conclude it from silence.
        assert said[0].type == "unknown"
        assert said[0].reply is not None
        assert said[0].reply.text == "its slot goes to another sender"
        busy = {"ip-1": 0, "ip-2": 1}[said[0].source]
        steps: list[tuple[str, int, str]] = []
        async with asyncio.timeout(60):
            while not {("ready", slot, "sender-1") for slot in (0, 1)} <= set(steps):
                await log.read()
                steps = _steps(log)
    ours = {slot: [(what, pod) for what, at, pod in steps if at == slot] for slot in (0, 1)}
    life = [("claim", "sender-0"), ("ready", "sender-0"), ("released", "sender-0")]
    life += [("claim", "sender-1"), ("ready", "sender-1")]
    assert ours == {0: life, 1: life}
    # The other one's next owner was at work before this one's was free.
    free, other = ("released", busy, "sender-0"), ("ready", 1 - busy, "sender-1")
    assert steps.index(other) < steps.index(free)


def _attempts(events: Events) -> list[Event]:
    return [one for said in events.by_delivery.values() for one in said if one.type != "accepted"]


def _serves(service: Service) -> bool:
    try:
        return bool(service.metrics())
    except OSError:
        return False


def _steps(log: Log) -> list[tuple[str, int, str]]:
    """Tell in order what slots went through, and whose each was: claim, first ready heartbeat, release."""
    found: list[tuple[str, int, str]] = []
    pods: dict[str, str] = {}
    for *_, value in log.records:
        step: tuple[str, int, str] | None = None
        match CONTROL.decode(value or b""):
            case Claim(slot=slot, process=process, pod=pod):
                pods[process] = pod
                step = ("claim", slot, pod)
            case Heartbeat(slot=slot, process=process, ready=True):
                step = ("ready", slot, pods[process])
            case Released(slot=slot, process=process):
                step = ("released", slot, pods[process])
            case _:
                pass
        if step is not None and step not in found:
            found.append(step)
    return found
