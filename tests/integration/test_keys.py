"""A DKIM key that is missing holds its mail back, says which file it is, and lets the mail go when it is there."""

import asyncio
from pathlib import Path

import dkim
import pytest

from shared.records.event import Event
from tests.support.config import config, published, submission
from tests.support.receiver import start_receiver
from tests.support.stack import Events, Stack

PARTITIONS = 2


@pytest.mark.timeout(300)
async def test_mail_waits_for_a_missing_key_and_never_goes_unsigned(
    tmp_path: Path, kafka: str, prefix: str
) -> None:
    receiver = start_receiver(tmp_path, "receiver", "--maildir", str(tmp_path / "mail"))
    routes = {"*.test": (receiver.target, "local")}
    stack = Stack(tmp_path, kafka, prefix, config(tmp_path, kafka, prefix, routes=routes))
    key, away = tmp_path / "dkim.pem", tmp_path / "away"
    key.rename(away)
    try:
        stack.start_all()
        await stack.produce([submission("u@a.test")])
        async with Events(stack, PARTITIONS) as events:
            async with asyncio.timeout(120):
                while not (found := _deferred(events)):
                    await events.read()
            deferred = found[0]
            assert (deferred.category, deferred.scope) == ("dkim", "domain")
            assert deferred.reply is not None
            assert deferred.reply.text == f"{key}: No such file or directory"
            assert not list(receiver.seen("message"))
            away.rename(key)
            await events.until_final(1, 120)
            assert [event.type for event in events.finals().values()] == ["delivered"]
        (message,) = (tmp_path / "mail" / "new").iterdir()
        assert dkim.verify(message.read_bytes(), dnsfunc=published(tmp_path))
    finally:
        stack.stop()
        receiver.stop()


def _deferred(events: Events) -> list[Event]:
    return [
        event for said in events.by_delivery.values() for event in said if event.type == "deferred"
    ]
