"""A sender dies while peers sit on their last replies: nobody can hear those any more, so each such message ends as unknown, once.

Whoever has the slot next does not wait for that: it sends within seconds, and keeps the limits as if the dead one had sent until then.
"""

import asyncio

import pytest

from shared.records.control import CONTROL, Left
from shared.records.event import Event
from tests.support.config import QUICK_TIMING, submission
from tests.support.reading import Log
from tests.support.receiver import most_in_window
from tests.support.stack import Events, Service
from tests.support.yard import Yard

#: As many connections as one begins with to a site that has not answered yet.
SITTING, PARTITIONS = 2, 2
#: Recipients a minute that the one address may try at the peer that answers.
RATE = 120
LIMITS = f"""[limits.silent]
connections = {SITTING + 1}

[limits.prompt]
connections = 4
rate = "{RATE}/min"
"""


class Room:
    """One address, two peers: one never answers the final dot, one does at once."""

    def __init__(self, yard: Yard, attempt_max: str) -> None:
        self.silent = yard.receiver("--dot-delay", "3600", name="silent")
        self.prompt = yard.receiver(name="prompt")
        self.stack = yard.stack(
            {
                "*.silent.test": (self.silent.target, "silent"),
                "*.prompt.test": (self.prompt.target, "prompt"),
            },
            sources=("127.0.0.11",),
            limits=LIMITS,
            timing=QUICK_TIMING.replace('attempt_max = "15s"', f'attempt_max = "{attempt_max}"'),
            unknown="retry = 0",
        )
        self.stack.set_up()
        for kind in ("ingest", "scheduler"):
            self.stack.start(kind, wait=False)
        self.first = self.stack.start("sender", "sender-0")
        self.second: Service | None = None

    async def sit(self, events: Events) -> None:
        """Have messages sent whole to the peer that does not answer, mail flowing to the other, and a second sender there."""
        self.second = self.stack.start("sender", "sender-1", wait=False)
        await self.stack.produce(submission(f"u{at}@a.silent.test") for at in range(SITTING))
        await self.stack.produce(submission(f"u{at}@a.prompt.test") for at in range(2 * RATE))
        async with asyncio.timeout(90):
            while (
                len(self.silent.seen("message")) < SITTING
                or len(self.prompt.seen("message")) < 5
                or not _serves(self.second)
            ):
                await events.read()

    def held(self) -> None:
        """Judge by what the peers saw."""
        assert set(self.silent.copies().values()) == {1}, "what nobody knows of is not sent again"
        assert len(self.silent.copies()) == SITTING
        # A period is a minute; what a connection may move is left out.
        tries = [line["ns"] for line in self.prompt.seen("rcpt")]
        assert most_in_window(tries, 58) <= RATE


@pytest.mark.timeout(240)
async def test_a_sender_killed_while_peers_sit_on_their_last_replies_leaves_each_unknown_once(
    yard: Yard,
) -> None:
    # Long: whoever waited for the attempts' time would not be done within the test's.
    room = Room(yard, "600s")
    async with Events(room.stack, PARTITIONS) as events:
        await room.sit(events)
        room.first.kill()
        killed = len(room.prompt.seen("rcpt"))
        said = await _silent(events, SITTING)
        # Nobody waits twenty minutes for one who cannot answer: the next owner is what tells.
        assert {event.type for event in said} == {"unknown"}
        assert all(event.final for event in said)
        async with asyncio.timeout(60):
            while len(room.prompt.seen("rcpt")) < killed + 5:
                await events.read()
        for _ in range(10):
            await events.read()
        assert len(await _silent(events, SITTING)) == SITTING, "nothing is said of it again"
        assert events.finals(), "two final events of one are an error"
    room.held()
    unsure = events.unknown()
    twice = {rcpt for rcpt, count in room.prompt.copies().items() if count > 1}
    assert twice <= unsure


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_one_who_had_left_and_is_killed_before_the_replies_leaves_each_unknown_once(
    yard: Yard,
) -> None:
    room = Room(yard, "40s")
    async with (
        Events(room.stack, PARTITIONS) as events,
        Log(room.stack, [room.stack.topics.control], 1) as control,
    ):
        await room.sit(events)
        leaving = asyncio.create_task(asyncio.to_thread(room.first.terminate, 90))
        left = await _left(control)
        assert len(left.attempts) == SITTING
        assert room.second is not None
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(room.second.ready):
                await events.read()
        before = len(room.prompt.seen("rcpt"))
        async with asyncio.timeout(30):
            while len(room.prompt.seen("rcpt")) < before + 5:
                await events.read()
        assert not leaving.done()
        room.first.kill()
        await leaving
        said = await _silent(events, SITTING)
        assert {event.type for event in said} == {"unknown"}
        assert all(event.final for event in said)
        # It is said by nobody but the scheduler, when the time of the attempts is over; then their places are free.
        await room.stack.produce(submission(f"more{at}@a.silent.test") for at in range(SITTING + 1))
        async with asyncio.timeout(120):
            while len(room.silent.seen("message")) < 2 * SITTING + 1:
                await events.read()
        assert events.finals()
    tries = [line["ns"] for line in room.prompt.seen("rcpt")]
    assert most_in_window(tries, 58) <= RATE
    assert set(room.silent.copies().values()) == {1}


async def _silent(events: Events, count: int) -> list[Event]:
    """Read until something was said of so many messages to the peer that does not answer; gives all that was."""
    async with asyncio.timeout(90):
        while len(found := _said(events)) < count:
            await events.read()
    return found


def _said(events: Events) -> list[Event]:
    return [
        event
        for each in events.by_delivery.values()
        for event in each
        if event.type != "accepted" and event.to.endswith("silent.test")
    ]


async def _left(control: Log) -> Left:
    """Read until a sender says what it still waits for."""
    async with asyncio.timeout(60):
        while True:
            for *_, value in control.records:
                record = CONTROL.decode(value or b"")
                if isinstance(record, Left):
                    return record
            await control.read()


def _serves(service: Service) -> bool:
    try:
        return bool(service.metrics())
    except OSError:
        return False
