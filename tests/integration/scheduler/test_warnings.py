"""What follows a destination's warnings, from topic to wire: nothing goes faster than the cut rate, and what waits loses nothing."""

import itertools
import json

import pytest

from shared.records.event import Event
from tests.support.config import QUICK_TIMING, submission
from tests.support.receiver import Receiver, most_in_window
from tests.support.stack import Events
from tests.support.yard import Yard

PARTITIONS = 2
S = 1_000_000_000
#: Nothing is raised again while the test looks.
NO_STEPS = QUICK_TIMING.replace('step = "1s"', 'step = "1h"')


def rcpt_times(receiver: Receiver) -> list[int]:
    """When each recipient was tried, by MAIL before it, in the order of trying."""
    return [line["mail_ns"] for line in receiver.seen("rcpt")]


def about_sources(events: Events) -> list[Event]:
    return [event for event in events.other if event.type in ("slowed", "suspended", "resumed")]


def told(events: Events) -> dict[str, int]:
    """How many deliveries have had which events."""
    found: dict[str, int] = {}
    for said in events.by_delivery.values():
        types = " ".join(event.type for event in said)
        found[types] = found.get(types, 0) + 1
    return found


@pytest.mark.timeout(240)
async def test_after_too_fast_nothing_is_above_the_cut_rate_and_nothing_that_waited_was_tried(
    yard: Yard,
) -> None:
    receiver = yard.receiver("--script", "60+1=451 4.7.28 unusual rate of mail, slow down")
    stack = yard.stack(
        receiver, sources=("127.0.0.11",), timing=NO_STEPS, limits="[limits.local]\nconnections = 4"
    )
    stack.start_all()
    count = 90
    await stack.produce(submission(f"u{at}@a.test", id_=f"{at}") for at in range(count))
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(count, 150)
        said, of_sources = told(events), about_sources(events)
    # Operators are shown it beside what is configured, and below what waits.
    shown = stack.cli("limits", "show", "local", "--source", "ip-1", "--learnt").stdout
    assert "[limits.local]" in shown
    assert "local from ip-1: " in shown
    assert "was too much" in shown
    (learnt,) = json.loads(stack.cli("queue", "--json").stdout)["learnt"]
    assert (learnt["key"], learnt["source"]) == ("local", "ip-1")
    assert learnt["level"] <= learnt["hurt"]
    # The recipient that was answered so is tried again; nobody else lost an attempt.
    assert said == {"accepted delivered": count - 1, "accepted deferred delivered": 1}
    (slowed,) = of_sources
    assert (slowed.type, slowed.provider, slowed.source) == ("slowed", "local", "ip-1")
    assert (slowed.category, slowed.scope) == ("rate", "pair")
    assert slowed.reply is not None
    assert slowed.reply.enhanced == "4.7.28"
    times = rcpt_times(receiver)
    assert len(times) == count + 1
    warned = times[59]
    after = sorted(at for at in times if at > warned)
    # What was under way on the other connections, and then nothing for as long as the configuration says.
    under_way = [at for at in after if at < warned + 2 * S]
    assert len(under_way) <= 3
    # Sixty in the ten seconds that count are six a second, of which half is left.
    later = after[len(under_way) :]
    assert len(later) > 20
    assert most_in_window(later, 2) <= 8
    assert most_in_window(times[:59], 2) > 12, "it was faster before"


@pytest.mark.timeout(240)
async def test_a_refused_source_is_probed_longer_each_time_and_goes_on_when_probes_are_taken(
    yard: Yard,
) -> None:
    receiver = yard.receiver(
        "--script", "20+2=451 4.7.1 [TSS04] deferred due to unexpected volume or complaints"
    )
    stack = yard.stack(receiver, sources=("127.0.0.11",), limits="[limits.local]\nconnections = 1")
    stack.start_all()
    count = 30
    await stack.produce(submission(f"u{at}@a.test", id_=f"{at}") for at in range(count))
    async with Events(stack, PARTITIONS) as events:
        await events.until_final(count, 150)
        said, of_sources = told(events), about_sources(events)
    scheduler = next(service for service in stack.services if service.kind == "scheduler")
    metrics = scheduler.metrics()
    # Two at most were refused, one of them perhaps twice: with one connection nothing else was under way.
    assert said.get("accepted delivered", 0) >= count - 2
    assert sum(said.values()) == count
    assert [event.type for event in of_sources] == ["suspended", "suspended", "resumed"]
    assert {(event.source, event.provider) for event in of_sources} == {("ip-1", "local")}
    assert "block lists" in of_sources[0].fix
    times = rcpt_times(receiver)
    assert len(times) == count + 2
    gaps = [(later - before) / S for before, later in itertools.pairwise(times)]
    assert gaps[19] >= 2, "suspended before the first probe"
    assert gaps[20] >= 4, "and twice as long before the next"
    assert 'postyard_source_health{provider="local",source="ip-1",what="blocked"}' in metrics
    assert 'postyard_pair_slowed_connections{limit_key="local",source="ip-1"} 1.0' in metrics
    log = scheduler.log.read_text()
    assert log.count('"source_refused"') == 2
    assert log.count('"source_resumed"') == 1
