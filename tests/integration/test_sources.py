"""Proxied sources end to end: the right address, a fail-over, a source without a proxy left, and its return."""

import asyncio
import shutil
import time
from pathlib import Path

import pytest

from tests.integration.sender.sources.seeing import seeing
from tests.support.config import config, submission
from tests.support.nursery import Launch
from tests.support.proxies import Program, microsocks
from tests.support.receiver import start_receiver
from tests.support.stack import Events, Service, Stack

pytestmark = pytest.mark.skipif(
    shutil.which("microsocks") is None, reason="microsocks is not installed"
)

PARTITIONS, MESSAGES = 2, 12
BOUND, FIRST, SECOND = "127.0.0.91", "127.0.0.92", "127.0.0.93"


def proxied(name: str, slot: int, address: str, *via: Program) -> str:
    ways = ", ".join(f'"socks5://127.0.0.1:{each.port}"' for each in via)
    return (
        f'[sources.{name}]\nslot = {slot}\nkind = "proxy"\naddress = "{address}"\nvia = [{ways}]\n'
        f'ehlo = "{name}.example.com"\nwarmup = "none"\n\n'
    )


async def usable(sender: Service, source: str, number: int) -> None:
    """Wait until the sender says so of the source."""
    end = time.monotonic() + 60
    while f'postyard_source_usable{{source="{source}"}} {number}.0' not in sender.metrics():
        assert time.monotonic() < end
        await asyncio.sleep(0.1)


async def sent_by(expected: dict[str, str], stack: Stack, events: Events) -> None:
    """Send mail until each of these sources took some, from its address, and no other source did."""
    found: dict[str, str] = {}
    end = time.monotonic() + 90
    while found != expected:
        assert time.monotonic() < end, found
        before = set(events.finals())
        await stack.produce([submission(f"u{len(before) + at}@a.test") for at in range(MESSAGES)])
        await events.until_final(len(before) + MESSAGES, 90)
        for id_, event in events.finals().items():
            if id_ not in before:
                assert event.type == "delivered", event
                assert event.source in expected, event
                assert event.wire is not None
                found[event.source] = event.wire.source_ip


@pytest.mark.timeout(240)
async def test_a_dead_proxy_suspends_the_source_that_has_no_other_and_mail_goes_by_the_rest(
    tmp_path: Path, kafka: str, prefix: str, launch: Launch
) -> None:
    receiver = start_receiver(tmp_path, "receiver", launch=launch)
    with microsocks(FIRST) as one, microsocks(FIRST) as spare, microsocks(SECOND) as only:
        async with seeing() as echo:
            text = config(
                tmp_path,
                kafka,
                prefix,
                routes={"*.test": (receiver.target, "local")},
                sources=(BOUND,),
                more=proxied("px-1", 1, FIRST, one, spare)
                + proxied("px-2", 2, SECOND, only)
                + f'[sender]\necho = "smtp://{echo.host}:{echo.port}"\n',
            ).replace("{ ip-1 = 1 }", "{ ip-1 = 1, px-1 = 1, px-2 = 1 }")
            stack = Stack(tmp_path, kafka, prefix, text, launch=launch)
            try:
                # Nothing that answers the echo may wait for it.
                await asyncio.to_thread(stack.start_all)
                sender = stack.services[-1]
                for name in ("ip-1", "px-1", "px-2"):
                    await usable(sender, name, 1)
                everything = {"ip-1": BOUND, "px-1": FIRST, "px-2": SECOND}
                async with Events(stack, PARTITIONS) as events:
                    await sent_by(everything, stack, events)
                    one.kill()
                    only.kill()
                    await sent_by({"ip-1": BOUND, "px-1": FIRST}, stack, events)
                    await usable(sender, "px-2", 0)
                    await usable(sender, "px-1", 1)
                    only.start()
                    await usable(sender, "px-2", 1)
                    await sent_by(everything, stack, events)
            finally:
                await asyncio.to_thread(stack.stop)
                receiver.stop()
    assert set(receiver.copies().values()) == {1}
    assert {line["peer"] for line in receiver.seen("message")} == {BOUND, FIRST, SECOND}
    assert set(echo.seen) == {BOUND, FIRST, SECOND}
