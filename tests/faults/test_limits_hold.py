"""A limit holds in the receiving server's own log, whatever is killed or stalls."""

import asyncio
import signal

import pytest

from tests.support.config import submission
from tests.support.receiver import most_in_window
from tests.support.yard import Yard


@pytest.mark.timeout(400)
async def test_a_rate_and_a_total_hold_over_kills_and_a_stall(yard: Yard) -> None:
    receiver = yard.receiver()
    limits = '[limits.local]\nconnections = 4\nrate = "60/min"\ntotal_rate = "100/min"'
    stack = yard.stack(receiver, limits=limits)
    stack.set_up()
    stack.start("ingest")
    scheduler = stack.start("scheduler", "scheduler-0")
    sender = stack.start("sender", "sender-0")
    # Three times what the total allows in the test's time.
    await stack.produce(submission(f"u{at}@a.test") for at in range(700))
    await asyncio.sleep(20)
    scheduler.kill()
    scheduler = stack.start("scheduler", "scheduler-0", wait=False)
    await asyncio.sleep(12)
    sender.kill()
    sender = stack.start("sender", "sender-0", wait=False)
    await asyncio.sleep(15)
    sender.signal(signal.SIGSTOP)
    await asyncio.sleep(15)
    sender.signal(signal.SIGCONT)
    await asyncio.sleep(20)
    rcpts = receiver.seen("rcpt")
    assert len(rcpts) > 30, "it did send, however busy the machine is"
    by_address = {line["peer"] for line in rcpts}
    assert by_address == {"127.0.0.11", "127.0.0.12"}
    for address in by_address:
        times = [line["ns"] for line in rcpts if line["peer"] == address]
        assert most_in_window(times, 58) <= 60, address
    total = most_in_window([line["ns"] for line in rcpts], 58)
    print(f"\nmost in 58 s: {total} of 100 in all, {len(rcpts)} RCPT")
    assert total <= 100


@pytest.mark.timeout(240)
async def test_recipients_stay_spaced_when_a_peer_answers_many_envelopes_at_once(
    yard: Yard,
) -> None:
    # Without PIPELINING each RCPT waits for the peer: one that stands still gets as many MAILs as there are connections.
    receiver = yard.receiver("--no-pipelining")
    limits = '[limits.local]\nconnections = 30\nrate = "600/min"'
    stack = yard.stack(receiver, limits=limits, sources=("127.0.0.11",))
    stack.start_all()
    await stack.produce(submission(f"u{at}@a.test") for at in range(400))
    async with asyncio.timeout(60):
        while len(receiver.seen("rcpt")) < 20:
            await asyncio.sleep(0.1)
    receiver.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(4)
    receiver.process.send_signal(signal.SIGCONT)
    begun = len(receiver.seen("rcpt"))
    async with asyncio.timeout(60):
        while len(receiver.seen("rcpt")) < begun + 60:
            await asyncio.sleep(0.1)
    # 10 a second and no more; a receiver that reads late may see some of the next second's.
    most = most_in_window([line["ns"] for line in receiver.seen("rcpt")], 2)
    print(f"\nmost in 2 s: {most} RCPT of 20")
    assert most <= 28


@pytest.mark.timeout(240)
async def test_connections_are_no_more_than_their_rate_allows(yard: Yard) -> None:
    # One message each, so that the receiver's RCPTs are its connections.
    receiver = yard.receiver()
    limits = '[limits.local]\nmessages_per_connection = 1\nconnection_rate = "300/min"'
    stack = yard.stack(receiver, limits=limits, sources=("127.0.0.11",))
    stack.start_all()
    await stack.produce(submission(f"u{at}@a.test") for at in range(40))
    async with asyncio.timeout(90):
        while len(receiver.seen("rcpt")) < 40:
            await asyncio.sleep(0.1)
    most = most_in_window([line["ns"] for line in receiver.seen("rcpt")], 4)
    print(f"\nmost in 4 s: {most} connections of 20")
    assert most <= 28
