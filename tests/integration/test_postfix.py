"""A mail server that is not ours takes the mail: Postfix, from Debian, with TLS and its own opinion on recipients."""

import asyncio
import os
import shutil

import dkim
import pytest

from tests.support.config import published, submission
from tests.support.postfix import ReceivingPostfix
from tests.support.stack import Events
from tests.support.yard import Yard

pytestmark = pytest.mark.skipif(
    shutil.which("postfix") is None or os.geteuid() != 0,
    reason="needs Postfix (Debian: postfix), and root to start it",
)


@pytest.mark.timeout(300)
async def test_postfix_gets_signed_mail_over_tls_from_the_sources_own_address(yard: Yard) -> None:
    with ReceivingPostfix(yard.directory / "postfix", "a.test", ["ann", "bob"]) as postfix:
        routes = {"*.test": (f"127.0.0.1:{postfix.port}", "local")}
        stack = yard.stack(routes, sources=("127.0.0.31",))
        stack.start_all()
        text = "A line.\r\n.a line that begins with a dot\r\n..and one with two\r\n\r\nThe end."
        await stack.produce(
            [
                submission("ann@a.test", text=text),
                submission("bob@a.test"),
                submission("nobody@a.test"),
            ]
        )
        async with Events(stack, 2) as events:
            await events.until_final(3, 60)
            finals = {event.to: event for event in events.finals().values()}
        assert {to: event.type for to, event in finals.items()} == {
            "ann@a.test": "delivered",
            "bob@a.test": "delivered",
            "nobody@a.test": "bounced",
        }
        refused = finals["nobody@a.test"]
        assert refused.reply is not None
        assert refused.reply.enhanced == "5.1.1"
        end = asyncio.get_running_loop().time() + 120
        while not (postfix.mailbox("ann") and postfix.mailbox("bob")):
            assert asyncio.get_running_loop().time() < end, postfix.log()
            await asyncio.sleep(0.1)
        (message,) = postfix.mailbox("ann")
    crlf = message.replace(b"\n", b"\r\n")
    assert text.encode() in crlf
    assert b"Received: from m1.example.com (unknown [127.0.0.31])" in message
    assert b"using TLSv1.3" in message
    assert message.startswith(b"Return-Path: <bounce@acme.example>")
    assert dkim.verify(crlf, dnsfunc=published(yard.directory))
