"""Operators' orders on a real cluster: counted before, done once over a kill, told on mail.events, and what waits is explained."""

import json
import time
from collections import Counter
from typing import Any

import pytest

from shared.records.event import Event
from tests.support.config import submission
from tests.support.saying import heard
from tests.support.stack import Events, Stack
from tests.support.yard import Yard

PARTITIONS = 2
SIGNED = ("--reason", "wrong link", "--author", "ada")


def tagged(to: str, tag: str) -> bytes:
    return submission(to).replace(b'"v": 1', b'"v": 1, "tags": ["%b"]' % tag.encode(), 1)


def dry(stack: Stack, *words: str) -> int:
    said = stack.cli(*words, "--dry-run").stdout
    assert said.startswith("would have "), said
    return int(said.split()[3])


def waiting(stack: Stack) -> dict[str, Any]:
    """Give what `postyard queue` shows by reason and tenant."""
    found: dict[str, Any] = json.loads(stack.cli("queue", "--by", "reason,tenant", "--json").stdout)
    return found


def hits(events: Events, action: str, phase: str = "done") -> dict[int | None, int]:
    """Give partition -> hits, as the audit events have them."""
    return {
        event.order.partition: event.order.hits
        for event in directive_events(events)
        if event.order and (event.order.action, event.order.phase) == (action, phase)
    }


def directive_events(events: Events) -> list[Event]:
    return [event for event in events.other if event.type == "directive"]


async def told(events: Events, action: str, phase: str = "done", seconds: float = 30) -> int:
    """Wait until every partition has said it; gives the sum of their hits."""
    end = time.monotonic() + seconds
    while len(hits(events, action, phase)) < PARTITIONS:
        assert time.monotonic() < end, directive_events(events)
        await events.read()
    return sum(hits(events, action, phase).values())


@pytest.mark.timeout(240)
async def test_a_cancel_of_two_thousand_ends_each_once_over_a_kill_and_says_how_many(
    yard: Yard,
) -> None:
    receiver = yard.receiver()
    stack = yard.stack(
        {f"*.{name}.test": (receiver.target, name) for name in ("one", "two")},
        limits='[limits.one]\nrate = "1/min"\n[limits.two]\nrate = "1/min"',
    )
    stack.start_all()
    scheduler = next(each for each in stack.services if each.kind == "scheduler")
    await stack.produce(
        tagged(f"u{at}@a.{('one', 'two')[at % 2]}.test", "sale" if at < 2000 else "news")
        for at in range(2100)
    )
    async with Events(stack, PARTITIONS) as events:
        await events.until_accepted(2100, 60)
        stack.cli("pause", "--tag", "sale", "--reason", "look first", "--author", "ada")
        await told(events, "pause")
        expected = dry(stack, "cancel", "--tag", "sale")
        sent = sum("sale" in event.tags for event in events.finals().values())
        assert 2000 - sent - 20 <= expected <= 2000 - sent
        # Ordered while nobody decides; the next owner reads what waits in mail.state, and the order in mail.control.
        scheduler.kill()
        stack.cli("cancel", "--tag", "sale", *SIGNED)
        stack.wait_ready(stack.start("scheduler"))
        assert await told(events, "cancel", seconds=90) <= 2000
        await events.read()
        ends = Counter((event.type, event.tags) for event in events.finals().values())
        cancelled = ends["cancelled", ("sale",)]
        assert cancelled == sum(hits(events, "cancel").values())
        assert expected <= cancelled <= 2000
        assert ("cancelled", ("news",)) not in ends
        (who,) = {
            (event.order.author, event.order.action)
            for event in events.finals().values()
            if event.type == "cancelled" and event.order
        }
        assert who == ("ada", "cancel")
        listed = stack.cli("directives", "--done").stdout
        assert f"{cancelled} deliveries, done in 2 of 2 partitions" in listed


@pytest.mark.timeout(240)
async def test_what_waits_is_shown_explained_rerouted_and_slowed(yard: Yard) -> None:
    receiver = yard.receiver()
    stack = yard.stack(
        receiver,
        more="[pools.second]\nsources = { ip-2 = 1 }",
    )
    stack.start_all()
    stack.cli(
        "pause", "--source", "ip-1", "--reason", "blocked", "--author", "ada", "--until-resumed"
    )
    stack.cli("pause", "--stream", "x", "--reason", "y", "--author", "ada")
    stack.config = stack.config.replace(
        "sources = { ip-1 = 1, ip-2 = 1 }", "sources = { ip-1 = 1 }"
    )
    stack.config_path.write_text(stack.config)
    await heard(stack, "config_reloaded")
    await stack.produce(tagged(f"u{at}@a.test", "t") for at in range(40))
    async with Events(stack, PARTITIONS) as events:
        await events.until_accepted(40, 60)
        end = time.monotonic() + 30
        while (rows := (queued := waiting(stack))["rows"]) and rows[0]["total"] < 40:
            assert time.monotonic() < end, queued
        assert [(row["reason"], row["tenant"], row["total"]) for row in rows] == [
            ("directive", "acme", 40)
        ]
        assert queued["missing_partitions"] == []
        assert "TOTAL" in stack.cli("queue").stdout
        id_ = next(iter(events.by_delivery))
        why = stack.cli("explain", id_).stdout
        assert f"{id_} acme bulk to a.test: directive, source=ip-1 (pause-" in why
        assert "ordered by ada: blocked" in why
        assert "goes unknown" in why
        assert dry(stack, "reroute", "--tag", "t", "--pool", "second") == 40
        stack.cli("reroute", "--tag", "t", "--pool", "second", *SIGNED)
        await events.until_final(40, 60)
        assert {event.source for event in events.finals().values()} == {"ip-2"}
        assert await told(events, "reroute") == 40
        gone = stack.cli("explain", id_, check=False)
        assert gone.returncode == 1
        assert "it has ended" in gone.stderr
