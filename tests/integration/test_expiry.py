"""Mail whose time is over while it waits: nobody connects for it, and its end is said, with the real scheduler and sender."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shared.records.outcome import OUTCOME, Handback
from tests.support.config import QUICK_TIMING, submission
from tests.support.reading import Log
from tests.support.receiver import Receiver
from tests.support.stack import Events
from tests.support.yard import Yard

PARTITIONS = 2
EXPIRES_S, BUSY_S, LEASE_S = 10, 13, 40


def expiring(to: str, id_: str) -> bytes:
    line, _, rest = submission(to, id_=id_).partition(b"\n")
    return json.dumps(json.loads(line) | {"expires": f"{EXPIRES_S}s"}).encode() + b"\n" + rest


@asynccontextmanager
async def counting() -> AsyncIterator[tuple[str, list[int]]]:
    """Give a server's address, and a list that grows with each connection to it."""
    connections: list[int] = []

    def connected(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", connections


async def until_seen(receiver: Receiver, rcpt: str) -> None:
    async with asyncio.timeout(60):
        while rcpt not in {line["rcpt"] for line in receiver.seen("rcpt")}:
            await asyncio.sleep(0.1)


@pytest.mark.timeout(180)
async def test_a_password_for_once_that_comes_too_late_opens_no_connection(yard: Yard) -> None:
    """It is granted, and waits at the sender for the pair's only connection; its time is over first, and no lease is waited for."""
    busy = yard.receiver("--dot-delay", str(BUSY_S))
    async with counting() as (other, connections):
        stack = yard.stack(
            {"*.busy.test": (busy.target, "local"), "*.other.test": (other, "local")},
            sources=("127.0.0.11",),
            limits="[limits.local]\nconnections = 1",
            timing=QUICK_TIMING.replace('lease = "6s"', f'lease = "{LEASE_S}s"').replace(
                'attempt_max = "15s"', 'attempt_max = "60s"'
            ),
        )
        stack.start_all()
        await stack.produce([submission("first@a.busy.test", id_="first")], "transactional")
        await until_seen(busy, "first@a.busy.test")
        await stack.produce([expiring("otp@a.other.test", "otp")], "transactional")
        async with Events(stack, PARTITIONS) as events:
            await events.until_final(2, 90)
            ends = {event.submission: event for event in events.finals().values()}
        async with Log(stack, [stack.topics.outcomes]) as outcomes:
            await outcomes.read(2_000)
            back = [one for one, _ in outcomes.decoded(OUTCOME) if isinstance(one, Handback)]
    assert (ends["first"].type, ends["otp"].type) == ("delivered", "expired")
    assert ends["otp"].attempt is None
    assert ends["otp"].age_s is not None
    # Its time counts from when Kafka took it, its age from when ingest did.
    assert EXPIRES_S / 2 < ends["otp"].age_s < LEASE_S
    assert connections == []
    assert [one.reason for one in back] == ["over"], (
        "it was granted, and the sender looked at its time"
    )


@pytest.mark.timeout(180)
async def test_one_that_lay_in_kafka_while_ingest_stood_still_opens_no_connection(
    yard: Yard,
) -> None:
    async with counting() as (other, connections):
        stack = yard.stack({"*.other.test": (other, "local")})
        stack.start_all()
        next(each for each in stack.services if each.kind == "ingest").kill()
        await stack.produce([expiring("otp@a.other.test", "otp")], "transactional")
        await asyncio.sleep(EXPIRES_S + 1)
        stack.wait_ready(stack.start("ingest"))
        async with Events(stack, PARTITIONS) as events:
            await events.until_final(1, 90)
            (end,) = events.finals().values()
    assert (end.type, end.attempt) == ("expired", None)
    assert connections == []
