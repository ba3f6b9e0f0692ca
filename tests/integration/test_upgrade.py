"""An upgrade and the way back while mail flows: services of two versions beside each other read what the other has written.

The version to come is a copy of this one whose records say more; the one before is out of the history (with --long).
"""

import asyncio
import json
import time
from pathlib import Path

import pytest

from tests.support.config import submission
from tests.support.nursery import ROOT
from tests.support.reading import Log
from tests.support.receiver import Receiver
from tests.support.stack import Events, Service, Stack
from tests.support.versions import before, newer
from tests.support.yard import Yard

PARTITIONS = 2
KINDS = ("ingest", "scheduler", "sender")
#: What a service logs that could not read what another has written, or had a bug because of it.
COMPLAINTS = ("unreadable", "rejected", "newer_version", "worker_failed", '"bug"', "refused")


@pytest.mark.timeout(280)
async def test_mail_flows_through_an_upgrade_to_a_version_that_says_more_and_back(
    yard: Yard, tmp_path: Path
) -> None:
    stack = await there_and_back(yard, newer(tmp_path / "newer"), ROOT)
    topics = stack.topics
    # mail.deliveries is trimmed behind what is done.
    for topic in (topics.dispatch, topics.outcomes, topics.state, topics.events):
        async with Log(stack, [topic]) as log:
            while await log.read():
                pass
        # Both have written it.
        assert len({b'"to_come":' in value for *_, value in log.records if value}) == 2, topic


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_mail_flows_through_an_upgrade_from_the_version_before_and_back(
    yard: Yard, tmp_path: Path
) -> None:
    older = before(tmp_path / "older")
    if older is None:
        pytest.skip("a clone without its history")
    await there_and_back(yard, ROOT, older)


async def there_and_back(yard: Yard, new: Path, old: Path) -> Stack:
    """Roll every service to ``new`` and back, and send mail before, between and after; the first of each lot is deferred meanwhile."""
    receiver = yard.receiver()
    stack = yard.stack(receiver, retry='["4s"]')
    stack.set_up()
    running = [stack.start(kind, wait=False, code=old) for kind in KINDS]
    await asyncio.to_thread(stack.wait_ready, *running)
    sent = 0
    for code in (new, old):
        for at, kind in enumerate(KINDS):
            sent += await lot(stack, sent)
            # As a rolling update does: the next is there before the last goes.
            begun = await asyncio.to_thread(stack.start, kind, code=code, wait=kind != "sender")
            sent += await lot(stack, sent)
            assert await asyncio.to_thread(running[at].terminate) == 0
            await asyncio.to_thread(stack.wait_ready, begun)
            running[at] = begun
    sent += await lot(stack, sent)
    await each_once(stack, receiver, sent)
    for service in stack.services:
        said = service.log.read_text()
        assert not [word for word in COMPLAINTS if word in said], (service.name, said[-3000:])
    return stack


async def lot(stack: Stack, number: int) -> int:
    """Send a few messages, and one that is deferred once."""
    names = [f"defer1.u{number}", *(f"u{number + at}" for at in range(1, 20))]
    return await stack.produce([submission(f"{name}@a.test", id_=name) for name in names])


async def each_once(stack: Stack, receiver: Receiver, messages: int) -> None:
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(messages, 90)
        assert events.types() == {"delivered": messages}
    assert len(receiver.copies()) == messages
    assert set(receiver.copies().values()) == {1}, "each once"


@pytest.mark.timeout(240)
async def test_what_only_a_newer_version_can_know_is_kept_for_it_and_said(
    yard: Yard, tmp_path: Path
) -> None:
    receiver = yard.receiver("--greylist", "15")
    stack = yard.stack(receiver, retry='["15s"]')
    stack.set_up()
    code = newer(tmp_path / "newer", breaking=True)
    running = [stack.start(kind, wait=False, code=code) for kind in KINDS]
    await asyncio.to_thread(stack.wait_ready, *running)
    async with (
        Log(stack, [stack.topics.events]) as events,
        Log(stack, [stack.topics.rejected]) as rejected,
    ):
        await stack.produce([submission(f"u{at}@a.test") for at in range(40)])
        # Refused once, and in mail.state to be tried again.
        await until_said(events, "deferred", 40)
        assert await asyncio.to_thread(running[1].terminate) == 0

        older = stack.start("scheduler", wait=False)
        await stack.produce([submission(f"u{at}@a.test") for at in range(40, 80)])
        await refusing(older)
        assert await asyncio.to_thread(older.terminate) == 0
        assert "worker_failed" not in older.log.read_text()

        await asyncio.to_thread(stack.start, "scheduler", code=code)
        await until_said(events, "delivered", 80)
        while await rejected.read():
            pass
    assert not rejected.records
    assert len(receiver.copies()) == 80
    assert set(receiver.copies().values()) == {1}, "each once"


async def until_said(events: Log, type_: str, times: int) -> None:
    """Wait for so many events of a version that we cannot read, but for their lines."""
    async with asyncio.timeout(90):
        while True:
            lines = [json.loads(value) for *_, value in events.records]
            assert {line["v"] for line in lines} <= {2}
            if sum(line["type"] == type_ for line in lines) == times:
                return
            await events.read()


async def refusing(scheduler: Service) -> None:
    """Wait until it says that it waits for a newer version, in its log and to its probe."""
    end = time.monotonic() + 60
    while '"newer_version"' not in (said := scheduler.log.read_text()):
        assert time.monotonic() < end, said[-3000:]
        await asyncio.sleep(0.2)
    assert "this reader knows version 1, got 2" in said
    assert not scheduler.ready()
