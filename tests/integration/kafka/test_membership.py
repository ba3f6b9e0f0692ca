"""Who owns which partition is what the group said last; a member that was silent for a session owns nothing, and comes back."""

import asyncio
import time

import pytest

from shared.kafka.closing import close_consumer
from shared.kafka.membership import Membership
from tests.support.kafka import Aside, Log, owns

# The broker's least.
SESSION_S = 6.0


async def _members(log: Log, partitions: int) -> tuple[str, str]:
    return log.prefix + "group", await log.topic(partitions)


async def test_members_share_the_partitions_and_only_what_must_move_moves(log: Log) -> None:
    group, topic = await _members(log, 8)
    first = await log.cluster.membership(group, topic)
    assert await owns(first, 8) == frozenset(range(8))
    second = await log.cluster.membership(group, topic)
    await owns(second, 4)
    kept = await owns(first, 4)
    assert kept | second.owned() == frozenset(range(8))
    third = await log.cluster.membership(group, topic)
    async with asyncio.timeout(60):
        while sorted(len(m.owned()) for m in (first, second, third)) != [2, 3, 3]:
            await asyncio.sleep(0.02)
    assert first.owned() < kept
    before = first.owned(), second.owned()
    await third.stop()
    assert third.owned() == frozenset()
    await owns(first, 4)
    await owns(second, 4)
    assert first.owned() > before[0]
    assert second.owned() > before[1]
    await first.stop()
    await second.stop()


async def test_what_stays_is_owned_all_through_a_rebalance(log: Log) -> None:
    group, topic = await _members(log, 8)
    first = await log.cluster.membership(group, topic)
    await owns(first, 8)
    seen: set[frozenset[int]] = set()

    async def watch() -> None:
        known = first.owned()
        while True:
            known = await first.changed(known)
            seen.add(known)

    watching = asyncio.create_task(watch())
    second = await log.cluster.membership(group, topic)
    await owns(second, 4)
    await owns(first, 4)
    async with asyncio.timeout(30):
        # The watcher's turn may come after ours.
        while first.owned() not in seen:
            await asyncio.sleep(0)
    watching.cancel()
    assert seen == {first.owned()}
    await first.stop()
    await second.stop()


async def _die(member: Membership) -> None:
    """End as by kill -9: nobody is told."""
    polling, consumer = member._task, member._consumer
    assert polling is not None
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
    await close_consumer(consumer, polite_s=0)


async def test_a_pod_that_dies_again_and_again_has_its_partitions_at_once_and_disturbs_nobody(
    log: Log,
) -> None:
    """A session is 30 s: whoever waited for the dead would be late, and the other would hear of each return."""
    group, topic = await _members(log, 8)
    other = await log.cluster.membership(group, topic, instance="pod-a")
    await owns(other, 8)
    member = await log.cluster.membership(group, topic, instance="pod-b")
    had = await owns(member, 4)
    kept = await owns(other, 4)
    generation = other.generation
    for _ in range(3):
        await _die(member)
        member = await log.cluster.membership(group, topic, instance="pod-b")
        assert await owns(member, 4, seconds=20) == had
    # Whoever leads the group may be the one that dies.
    await _die(other)
    other = await log.cluster.membership(group, topic, instance="pod-a")
    assert await owns(other, 4, seconds=20) == kept
    assert (member.generation, other.generation, generation) == (1, 1, 2)
    assert other.owned() | member.owned() == frozenset(range(8))
    # Who leaves is not waited for, named or not.
    await member.stop()
    assert await owns(other, 8, seconds=20) == frozenset(range(8))
    await other.stop()


async def test_two_living_processes_of_one_name_do_not_throw_each_other_out_for_ever(
    log: Log, kafka: str
) -> None:
    group, topic = await _members(log, 4)
    async with Aside(kafka) as aside:
        first = await aside.run(aside.cluster.membership(group, topic, instance="pod"))
        await owns(first, 4)
        second = await log.cluster.membership(group, topic, instance="pod")
        await owns(second, 2, seconds=60)
        await owns(first, 2, seconds=60)
        assert first.owned() | second.owned() == frozenset(range(4))
        await aside.run(first.stop())
        assert await owns(second, 4, seconds=20) == frozenset(range(4))
        await second.stop()


async def test_a_confirmation_was_asked_for_after_the_question(log: Log) -> None:
    group, topic = await _members(log, 2)
    member = await log.cluster.membership(group, topic)
    await owns(member, 2)
    loop = asyncio.get_running_loop()
    for _ in range(3):
        since = loop.time()
        assert await asyncio.wait_for(member.wait_confirmed(1, since), 5)
        # Not by what was known: a heartbeat went there and back.
        assert loop.time() > since + 0.0005
    assert not await member.wait_confirmed(7, loop.time())
    await member.stop()
    assert not await member.wait_confirmed(1, loop.time())


async def test_a_member_whose_loop_is_blocked_loses_its_partitions_and_recovers(
    log: Log, kafka: str
) -> None:
    group, topic = await _members(log, 4)
    async with Aside(kafka) as aside:
        stalled = await aside.run(aside.cluster.membership(group, topic, session_s=SESSION_S))
        await owns(stalled, 4)
        other = await log.cluster.membership(group, topic, session_s=SESSION_S)
        await owns(other, 2)
        await owns(stalled, 2)
        began = time.monotonic()
        aside.block(2.5 * SESSION_S)
        await owns(other, 4)
        assert time.monotonic() - began > SESSION_S / 2
        # It still believes what it was told, since it cannot think; its rounds are fenced.
        assert len(stalled.owned()) == 2
        lost = asyncio.create_task(aside.run(_loss(stalled)))
        await asyncio.wait_for(lost, 30)
        # The first thing that it does is to own nothing; the second, to join again.
        assert time.monotonic() - began < 2.5 * SESSION_S + 20
        await owns(stalled, 2)
        await owns(other, 2)
        assert stalled.owned() | other.owned() == frozenset(range(4))
        await aside.run(stalled.stop())
        await other.stop()


async def _loss(member: Membership) -> None:
    known = member.owned()
    while known:
        known = await member.changed(known)


@pytest.mark.parametrize("blocked_s", [1, 4])
async def test_a_short_stall_costs_nothing(log: Log, kafka: str, blocked_s: int) -> None:
    group, topic = await _members(log, 4)
    async with Aside(kafka) as aside:
        member = await aside.run(aside.cluster.membership(group, topic, session_s=SESSION_S))
        await owns(member, 4)
        loss = asyncio.create_task(aside.run(_loss(member)))
        aside.block(blocked_s)
        await asyncio.sleep(blocked_s + 3)
        assert not loss.done()
        assert member.owned() == frozenset(range(4))
        assert member.generation == 1
        await aside.run(member.stop())
        await loss


async def test_a_client_whose_coordination_ended_is_replaced(log: Log) -> None:
    group, topic = await _members(log, 2)
    member = await log.cluster.membership(group, topic, session_s=SESSION_S)
    await owns(member, 2)
    # aiokafka's own task for it can be cancelled by a race inside it; nothing would ever join again.
    assert member._consumer is not None
    member._consumer._coordinator._coordination_task.cancel()
    await asyncio.wait_for(_loss(member), 10)
    assert await owns(member, 2) == {0, 1}
    await member.stop()
