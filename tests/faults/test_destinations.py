"""One destination's trouble is nobody else's; a source is never replaced by another address."""

import asyncio
import itertools
import socket

import pytest

from tests.support.config import QUICK_TIMING, submission
from tests.support.stack import Events
from tests.support.yard import Yard

PARTITIONS = 2


@pytest.mark.timeout(240)
async def test_a_slow_site_and_a_silent_name_server_harm_nobody(yard: Yard) -> None:
    slow = yard.receiver("--delay", "90", name="slow")
    good = yard.receiver(name="good")
    with socket.socket(
        socket.AF_INET, socket.SOCK_DGRAM
    ) as silent:  # A name server that never answers.
        silent.bind(("127.0.0.1", 0))
        dns = (
            f'[dns]\nnameservers = ["127.0.0.1"]\nport = {silent.getsockname()[1]}\ntimeout = "5s"'
        )
        routes = {"*.slow.test": (slow.target, "slowly"), "*.good.test": (good.target, "local")}
        timing = QUICK_TIMING.replace('attempt_max = "15s"', 'attempt_max = "100s"')
        stack = yard.stack(routes, timing=timing, more=dns)
        stack.start_all()
        bad = [f"u{at}@a.slow.test" for at in range(40)] + [
            f"u{at}@nowhere{at % 7}.example.org" for at in range(40)
        ]
        fine = [f"u{at:03}@a.good.test" for at in range(200)]
        mixed = [rcpt for pair in zip(bad * 3, fine[: len(bad) * 3], strict=False) for rcpt in pair]
        order = list(dict.fromkeys([*mixed, *fine]))
        await stack.produce(submission(rcpt) for rcpt in order)
        async with Events(stack, PARTITIONS) as events:
            end = asyncio.get_running_loop().time() + 120
            while len(good.copies()) < len(fine):
                assert asyncio.get_running_loop().time() < end, (
                    f"{len(good.copies())} of {len(fine)} in 120 s"
                )
                await events.read()
        at = {line["rcpt"]: line["ns"] / 1e9 for line in good.seen("message")}
        # Partitions, connections and sources blur the order; nobody is overtaken by seconds of later mail.
        behind = itertools.accumulate((at[rcpt] for rcpt in reversed(fine)), min)
        overtaken = max(
            at[rcpt] - later for rcpt, later in zip(reversed(fine), behind, strict=True)
        )
        # A lease that ran out on a busy machine costs some seconds; the slow site takes 90 for a command.
        assert overtaken < 45, f"overtaken by {overtaken:.1f} s"


@pytest.mark.timeout(240)
async def test_an_address_that_cannot_be_bound_suspends_its_source_and_the_others_send(
    yard: Yard,
) -> None:
    receiver = yard.receiver()
    sources = (
        "127.0.0.21",
        "127.0.0.22",
        "192.0.2.77",
    )  # The last is not this machine's (RFC 5737).
    stack = yard.stack(receiver, sources=sources)
    stack.set_up()
    stack.start("ingest")
    stack.start("scheduler")
    service = stack.start("sender")
    await stack.produce(submission(f"u{at}@a.test") for at in range(120))
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(120, 60)
        finals = list(events.finals().values())
    assert {event.type for event in finals} == {"delivered"}
    peers = {line["rcpt"]: line["peer"] for line in receiver.seen("message")}
    assert set(peers.values()) == {"127.0.0.21", "127.0.0.22"}
    for event in finals:
        assert event.wire is not None
        assert event.wire.source_ip == peers[event.to], (
            "the event names the address that the receiver saw"
        )
    assert 'postyard_source_usable{source="ip-3"} 0.0' in service.metrics()
