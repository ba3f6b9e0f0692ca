"""A changed configuration is taken over by running services while mail flows, and one that is wrong changes nothing."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.support.config import submission
from tests.support.nursery import Launch
from tests.support.saying import heard, said
from tests.support.stack import Events, Stack
from tests.support.yard import Yard

PARTITIONS, SECONDS = 2, 90
NEW_SOURCE = """
[sources.ip-3]
slot = 2
kind = "bind"
address = "127.0.0.13"
ehlo = "m3.example.com"
warmup = "none"
"""


async def until_configured(events: Events, times: int) -> None:
    """Wait until it was told so often what the cluster runs on."""
    async with asyncio.timeout(SECONDS):
        while sum(event.type == "configured" for event in events.other) < times:
            await events.read()


def change(stack: Stack, *edits: tuple[str, str], more: str = "") -> None:
    for old, new in edits:
        assert old in stack.config, old
        stack.config = stack.config.replace(old, new)
    stack.config_path.write_text(stack.config + more)


@pytest.mark.timeout(300)
async def test_sources_limits_and_tenants_change_while_mail_flows(
    tmp_path: Path, kafka: str, prefix: str, launch: Launch
) -> None:
    with Yard(tmp_path, kafka, prefix, launch) as yard:
        receiver = yard.receiver()
        stack = yard.stack(receiver, partitions=PARTITIONS)
        stack.start_all()
        async with Events(stack, PARTITIONS) as events:
            first = [submission(f"u{at}@a.test") for at in range(400)]
            await stack.produce(first)
            # One source goes, another comes, a tenant's domain is added: in the middle of the mail.
            change(
                stack,
                ('[sources.ip-2]\nslot = 1\nkind = "bind"\naddress = "127.0.0.12"', NEW_SOURCE),
                ('ehlo = "m2.example.com"\nwarmup = "none"\n', ""),
                ("ip-2 = 1", "ip-3 = 1"),
                ('domains = ["acme.example"]', 'domains = ["acme.example", "new.example"]'),
            )
            await heard(stack, "config_reloaded")
            await events.until_final(len(first), SECONDS)
            assert events.types() == {"delivered": len(first)}
            before = set(events.finals())

            later = [
                submission(f"v{at}@b.test").replace(b'"bounce@acme.', b'"bounce@new.')
                for at in range(100)
            ]
            await stack.produce(later)
            await events.until_final(len(first) + len(later), SECONDS)
            after = {id_: event for id_, event in events.finals().items() if id_ not in before}
            assert {event.type for event in after.values()} == {"delivered"}
            assert {event.source for event in after.values()} <= {"ip-1", "ip-3"}
            await used(stack, events, "ip-3")
        for service in stack.services:
            assert service.alive
            assert not said(service, "worker_failed")
            assert not said(service, "bug")


async def used(stack: Stack, events: Events, source: str) -> None:
    """Send mail until the source has taken some."""
    end, count = time.monotonic() + SECONDS, 0
    while all(event.source != source for event in events.finals().values()):
        assert time.monotonic() < end
        known = len(events.finals())
        await stack.produce([submission(f"w{count + at}@c.test") for at in range(20)])
        count += 20
        await events.until_final(known + 20, SECONDS)


@pytest.mark.timeout(240)
async def test_what_is_wrong_changes_nothing_and_is_said(
    tmp_path: Path, kafka: str, prefix: str, launch: Launch
) -> None:
    with Yard(tmp_path, kafka, prefix, launch) as yard:
        stack = yard.stack(yard.receiver(), partitions=PARTITIONS)
        stack.start_all()
        async with Events(stack, PARTITIONS) as events:
            change(stack, more="\n[limits.nobody]\nrate = 'often'\n")
            await heard(stack, "config_refused")
            for service in stack.services:
                assert "postyard_config_refused 1.0" in service.metrics()
                (line,) = said(service, "config_refused")
                assert "limits.nobody.rate" in str(line["problems"])
            await stack.produce([submission("a@a.test")])
            await events.until_final(1, SECONDS)
            change(stack, ("ip-1 = 1", "ip-1 = 3"))
            await heard(stack, "config_reloaded")
            for service in stack.services:
                assert "postyard_config_refused 0.0" in service.metrics()
            await stack.produce([submission("b@a.test")])
            await events.until_final(2, SECONDS)
            assert events.types() == {"delivered": 2}


@pytest.mark.timeout(240)
async def test_what_is_published_counts_for_all_who_follow_it_and_for_who_starts_later(
    tmp_path: Path, kafka: str, prefix: str, launch: Launch
) -> None:
    with Yard(tmp_path, kafka, prefix, launch) as yard:
        receiver = yard.receiver()
        stack = yard.stack(
            receiver, partitions=PARTITIONS, more='[configuration]\nfollow = "control"\n'
        )
        stack.start_all()
        changed = tmp_path / "changed.toml"
        changed.write_text(
            stack.config.replace(
                'domains = ["acme.example"]', 'domains = ["acme.example", "new.example"]'
            )
        )
        # What the cluster begins with is told by whoever decides, in its first round.
        async with Events(stack, PARTITIONS) as events:
            await until_configured(events, 1)
        stack.cli("config", "apply", str(changed), "--author", "ada", "--reason", "a new name")
        await heard(stack, "config_reloaded")
        for service in stack.services:
            (line,) = said(service, "config_reloaded")
            assert (line["author"], line["reason"]) == ("ada", "a new name")
            assert line["changed"] == ["tenants.acme.domains"]
        # Its own file has never heard of the name.
        next(service for service in stack.services if service.kind == "ingest").kill()
        stack.start("ingest")
        async with Events(stack, PARTITIONS) as events:
            value = submission("new@a.test").replace(b'"bounce@acme.', b'"bounce@new.')
            await stack.produce([value])
            await events.until_final(1, SECONDS)
            assert events.types() == {"delivered": 1}
            await until_configured(events, 2)
            audit = [event.configured for event in events.other if event.type == "configured"]
            assert [(each.reason, each.changed) for each in audit if each] == [
                ("", ()),
                ("a new name", ("tenants.acme.domains",)),
            ]
            assert audit[-1] is not None
            assert audit[-1].author == "ada"
