"""One process's wall clock is set while mail flows: that process stops deciding while its clock does not fit, and goes on when it does.

The clock is libfaketime's, from a file that the test writes; what counts time that passes is left as it is.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.config import submission
from tests.support.nursery import ROOT, launch
from tests.support.receiver import Receiver, most_in_window
from tests.support.stack import Events
from tests.support.yard import Yard

_FOUND = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
pytestmark = pytest.mark.skipif(not _FOUND, reason="faketime is not installed")

PARTITIONS, RATE, CONNECTIONS, MESSAGES = 2, 4, 4, 100
LIMITS = f'[limits.local]\nconnections = {CONNECTIONS}\nrate = "{RATE}/s"'
#: A clock that is an hour ahead would take all mail for expired.
EXPIRES = '[classes.bulk]\nexpires = "30m"'


@dataclass
class SetClock:
    """The wall clock of the processes that are started with it."""

    file: Path

    def __post_init__(self) -> None:
        self.step(0)

    def step(self, seconds: int) -> None:
        """Set it to so many seconds from the machine's."""
        whole = self.file.with_suffix(".new")
        whole.write_text(f"{seconds:+d}\n")
        whole.replace(self.file)

    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(_FOUND[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seconds", [3600, -3600, 3])
@pytest.mark.parametrize("whose", ["scheduler", "sender"])
async def test_a_clock_that_is_set_stops_its_process_and_passes_no_limit(
    yard: Yard, whose: str, seconds: int
) -> None:
    receiver = yard.receiver()
    # The skew of these times is a second: three are too many.
    stack = yard.stack(receiver, sources=("127.0.0.11",), limits=LIMITS)
    stack.config = stack.config.replace("[classes.bulk]", EXPIRES, 1)
    # What is started from a process that runs already has that one's clock.
    stack.launch = launch
    clock = SetClock(yard.directory / "clock")
    stack.set_up()
    for kind in ("ingest", "scheduler", "sender"):
        env = clock.environment() if kind == whose else {}
        stack.start(kind, None, wait=False, code=ROOT, **env)
    async with Events(stack, PARTITIONS) as events:
        await stack.produce(submission(f"u{at}@a.test") for at in range(MESSAGES))
        await _taken(receiver, events, 10)
        clock.step(seconds)
        # What was granted before may still go.
        await asyncio.sleep(6)
        stopped = len(receiver.seen("rcpt"))
        async with asyncio.timeout(30):
            for _ in range(20):
                await events.read()
        meanwhile = len(receiver.seen("rcpt")) - stopped
        clock.step(0)
        await _taken(receiver, events, stopped + 5)
        await events.until_final(MESSAGES, 200)
        assert set(events.types()) == {"delivered"}, "nothing expired, and nobody doubts"
    print(f"\n{whose} {seconds:+d} s: {meanwhile} RCPT while its clock was wrong")
    assert meanwhile <= 1
    assert set(receiver.copies().values()) == {1}
    tries = [line["ns"] for line in receiver.seen("rcpt")]
    # What was under way when the clock was set is cut off before its dot, and tried again.
    assert MESSAGES <= len(tries) <= MESSAGES + CONNECTIONS
    # Half a second is what a receiver's clock and a busy machine may blur.
    assert most_in_window(tries, 10) <= RATE * 10.5


async def _taken(receiver: Receiver, events: Events, count: int) -> None:
    """Read events until the receiver was tried so often."""
    async with asyncio.timeout(90):
        while len(receiver.seen("rcpt")) < count:
            await events.read()
