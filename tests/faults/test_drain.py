"""A sender that is told to go, with thousands of grants in hand and hundreds of connections open, leaves at once and loses nothing.

What it waits for is the replies to messages that it has sent whole; meanwhile others have its sources, and count those connections.
"""

import asyncio
import time

import pytest

from shared.records.control import CONTROL, Claim, Heartbeat, Left, Released
from shared.records.event import Event
from tests.support.config import QUICK_TIMING, submission
from tests.support.reading import Log
from tests.support.receiver import Receiver
from tests.support.stack import Events, Service, Stack
from tests.support.yard import Yard

MESSAGES = 5_300
SOURCES = ("127.0.0.11", "127.0.0.12", "127.0.0.13")
CONNECTIONS = 70
SITTING_S = 30


def gauge(service: Service, name: str) -> float:
    lines = service.metrics().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))


def one_of_each(stack: Stack) -> Service:
    """Set a stack up and start one of each service; gives the sender, which is to leave."""
    stack.set_up()
    for kind in ("ingest", "scheduler"):
        stack.start(kind, wait=False)
    return stack.start("sender", "sender-0")


@pytest.mark.timeout(400)
async def test_a_drain_hands_back_what_it_has_not_begun_and_another_sends_it(yard: Yard) -> None:
    receiver = yard.receiver("--dot-delay", "1")
    # With a rate, since where none is set one source goes first.
    limits = f"""[limits.local]
connections = {CONNECTIONS}
messages_per_connection = 1000
rate = "1000/s"
"""
    # Leases of a minute: a queue of thousands takes a while.
    stack = yard.stack(receiver, sources=SOURCES, limits=limits, timing="")
    leaving = one_of_each(stack)
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


@pytest.mark.timeout(300)
@pytest.mark.parametrize("connections", [1, 2])
async def test_a_peer_that_sits_on_its_last_reply_keeps_one_connection_and_not_the_source(
    yard: Yard, connections: int
) -> None:
    receiver = yard.receiver("--dot-delay", str(SITTING_S))
    stack = yard.stack(
        receiver,
        sources=SOURCES[:1],
        limits=f"[limits.local]\nconnections = {connections}",
        timing=QUICK_TIMING.replace('attempt_max = "15s"', 'attempt_max = "150s"'),
    )
    leaving = one_of_each(stack)
    async with Events(stack, 2) as events, Log(stack, [stack.topics.control], 1) as log:
        await stack.produce([submission("first@a.test")])
        await taken_whole(receiver, events)
        following = stack.start("sender", "sender-1", wait=False)
        async with asyncio.timeout(60):
            while not _serves(following):
                await events.read()
        left = asyncio.create_task(asyncio.to_thread(leaving.terminate, 120))
        await stack.produce([submission("second@a.test")])
        async with asyncio.timeout(60):
            while ("ready", 0, "sender-1") not in _steps(log):
                await log.read()
        await events.read()
        # The next owner was at work before the peer had said anything.
        assert not _attempts(events)
        assert not left.done()
        await events.until_final(2, 200)
        assert await left == 0
        await _until_left(log)
    # Whoever waited heard the reply: it was sent once, and nobody had to say that nobody knows.
    assert [said.type for said in _attempts(events)] == ["delivered"] * 2
    assert set(receiver.copies().values()) == {1}
    pod = "sender-0"
    life = [("claim", pod), ("ready", pod), ("left 1", pod), ("released", pod)]
    life += [("claim", "sender-1"), ("ready", "sender-1"), ("left 0", pod)]
    assert [(what, pod) for what, _, pod in _steps(log)] == life
    # Its connection counted as the next owner's, as long as it was there.
    first, second = (line["ns"] for line in receiver.seen("message"))
    assert (second - first >= SITTING_S * 10**9) == (connections == 1)


@pytest.mark.timeout(200)
async def test_one_who_leaves_waits_for_a_last_reply_no_longer_than_the_grace_time(
    yard: Yard,
) -> None:
    receiver = yard.receiver("--dot-delay", "600")
    stack = yard.stack(
        receiver,
        sources=SOURCES[:1],
        limits="[limits.local]\nconnections = 1",
        timing=QUICK_TIMING.replace('attempt_max = "15s"', 'attempt_max = "90s"'),
        more='[sender]\ngrace = "8s"',
    )
    leaving = one_of_each(stack)
    async with Events(stack, 2) as events, Log(stack, [stack.topics.control], 1) as log:
        await stack.produce([submission("somebody@a.test")])
        await taken_whole(receiver, events)
        assert await asyncio.to_thread(leaving.terminate, 60) == 0
        async with asyncio.timeout(60):
            while not (said := _attempts(events)):
                await events.read()
        await _until_left(log)
    # The one who knows says so: nobody had to conclude it from silence.
    assert said[0].type == "unknown"
    assert said[0].reply is not None
    assert said[0].reply.text == "its slot goes to another sender"
    assert [what for what, *_ in _steps(log)] == ["claim", "ready", "left 1", "released", "left 0"]


async def _until_left(log: Log) -> None:
    """Read until it was said that nothing is left any more."""
    async with asyncio.timeout(60):
        while not any(what == "left 0" for what, *_ in _steps(log)):
            await log.read()


async def taken_whole(receiver: Receiver, events: Events) -> None:
    """Read events until the receiver has got a message to its end."""
    async with asyncio.timeout(60):
        while not receiver.seen("message"):
            await events.read()


def _attempts(events: Events) -> list[Event]:
    return [one for said in events.by_delivery.values() for one in said if one.type != "accepted"]


def _serves(service: Service) -> bool:
    try:
        return bool(service.metrics())
    except OSError:
        return False


def _steps(log: Log) -> list[tuple[str, int, str]]:
    """Tell in order what slots went through, and whose each was: claim, first ready heartbeat, what it left, release."""
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
            case Left(slot=slot, process=process, attempts=attempts):
                step = (f"left {len(attempts)}", slot, pods[process])
            case _:
                pass
        if step is not None and step not in found:
            found.append(step)
    return found
