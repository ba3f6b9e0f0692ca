"""A DKIM key that is missing holds its mail back, says which file it is, and lets the mail go when it is there."""

import asyncio

import dkim
import pytest

from shared.records.event import Event
from tests.support.config import published, submission
from tests.support.stack import Events
from tests.support.yard import Yard

PARTITIONS = 2


@pytest.mark.timeout(300)
async def test_mail_waits_for_a_missing_key_and_never_goes_unsigned(yard: Yard) -> None:
    mail = yard.directory / "mail"
    receiver = yard.receiver("--maildir", str(mail))
    stack = yard.stack(receiver)
    key, away = yard.directory / "dkim.pem", yard.directory / "away"
    key.rename(away)
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
    (message,) = (mail / "new").iterdir()
    assert dkim.verify(message.read_bytes(), dnsfunc=published(yard.directory))


def _deferred(events: Events) -> list[Event]:
    return [
        event for said in events.by_delivery.values() for event in said if event.type == "deferred"
    ]
