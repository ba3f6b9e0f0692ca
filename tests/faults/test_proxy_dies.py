"""A proxy dies under the messages that go through it: its sources use their next one, and each message has the outcome that it deserves.

Before the final dot a message is not sent, and is tried again; behind it nobody knows, and by the class's policy here it is not.
"""

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_sources import proxied, usable
from tests.support.config import config, submission
from tests.support.proxies import Program, haproxy, microsocks
from tests.support.receiver import Receiver, start_receiver
from tests.support.stack import Events, Stack

pytestmark = pytest.mark.skipif(
    not (shutil.which("microsocks") and Path("/usr/sbin/haproxy").exists()),
    reason="microsocks or haproxy is not installed",
)

PARTITIONS = 2
OTHER = """
[pools.bound]
sources = { ip-1 = 1 }

[tenants.other]
domains = ["acme.example"]
pools = { transactional = "bound", bulk = "bound" }
unsigned = true
"""
BOUND, ADDRESS = "127.0.0.94", "127.0.0.95"


def of_kind(kind: str, directory: Path, number: int) -> Program:
    if kind == "socks5":
        return microsocks(ADDRESS)
    place = directory / f"haproxy-{number}"
    place.mkdir()
    return haproxy(place, ADDRESS)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["socks5", "proxy-v2"])
async def test_a_proxy_that_dies_under_messages_loses_none_and_doubles_none(
    tmp_path: Path, kafka: str, prefix: str, kind: str
) -> None:
    with contextlib.ExitStack() as room:
        # One says nothing to DATA for a while, one nothing to the final dot, one keeps nobody waiting.
        early = room.enter_context(_receiving(tmp_path, "early", "--delay-at", "DATA=20"))
        late = room.enter_context(_receiving(tmp_path, "late", "--dot-delay", "20"))
        prompt = room.enter_context(_receiving(tmp_path, "prompt"))
        first = room.enter_context(of_kind(kind, tmp_path, 1))
        second = room.enter_context(of_kind(kind, tmp_path, 2))
        routes = {
            f"*.{name}.test": (there.target, name)
            for name, there in (("early", early), ("late", late), ("prompt", prompt))
        }
        text = config(
            tmp_path,
            kafka,
            prefix,
            routes=routes,
            sources=(BOUND,),
            unknown="retry = 0",
            more=proxied("px-1", 1, ADDRESS, first, second).replace("socks5://", f"{kind}://"),
        )
        # Mail of one tenant goes through the proxies, that of the other never does.
        text = text.replace("{ ip-1 = 1 }", "{ px-1 = 1 }", 1).replace(
            'attempt_max = "15s"', 'attempt_max = "90s"'
        )
        text += OTHER
        stack = Stack(tmp_path, kafka, prefix, text)
        room.callback(stack.stop)
        await asyncio.to_thread(stack.start_all)
        sender = stack.services[-1]
        for name in ("ip-1", "px-1"):
            await usable(sender, name, 1)
        async with Events(stack, PARTITIONS) as events:
            await stack.produce([submission("one@a.early.test"), submission("two@a.late.test")])
            async with asyncio.timeout(60):
                while not (early.seen("rcpt") and late.seen("message")):
                    await events.read()
            first.kill()
            others = [
                submission(f"other{at}@a.prompt.test").replace(b'"acme"', b'"other"', 1)
                for at in range(20)
            ]
            await stack.produce(
                [*others, *(submission(f"u{at}@a.prompt.test") for at in range(20))]
            )
            await events.until_final(42, 120)
            finals = {final.to: final for final in events.finals().values()}
            said = {one[0].to: [each.type for each in one] for one in events.by_delivery.values()}
        # Nobody knows what the peer made of what it had in whole.
        assert said.pop("two@a.late.test") == ["accepted", "unknown"]
        assert said.pop("one@a.early.test") == ["accepted", "deferred", "delivered"]
        assert set(map(tuple, said.values())) == {("accepted", "delivered")}
        for to, final in finals.items():
            assert final.wire is not None, to
            assert final.wire.source_ip == (BOUND if to.startswith("other") else ADDRESS), to
        assert 'postyard_source_usable{source="px-1"} 1.0' in sender.metrics(), (
            "the second proxy serves it"
        )
    copies = early.copies() + late.copies() + prompt.copies()
    assert len(copies) == 42
    assert set(copies.values()) == {1}


@contextlib.contextmanager
def _receiving(directory: Path, name: str, *options: str) -> Iterator[Receiver]:
    receiver = start_receiver(directory, name, *options)
    try:
        yield receiver
    finally:
        receiver.stop()
