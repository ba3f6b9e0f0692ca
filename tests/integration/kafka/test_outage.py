"""Kafka goes away, by a kill or by falling silent: nothing is lost, nothing hangs, and everything goes on when it is back."""

import asyncio
import gc
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from services.cli.cluster.broker import LocalKafka
from shared.kafka.cluster import Cluster
from shared.kafka.errors import Fenced, KafkaUnavailable, RoundFailed
from shared.kafka.transactor import Transactor
from tests.support.kafka import Log, owns

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    with LocalKafka(tmp_path_factory.mktemp("outage") / "kafka") as started:
        yield started
    started.remove()


@pytest.fixture
async def own(broker: LocalKafka, request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    await asyncio.to_thread(broker.start)
    cluster = Cluster(broker.bootstrap, client_id="test")
    yield Log(cluster, f"t{abs(hash(request.node.name))}.")
    await cluster.close()
    gc.collect()
    mine = asyncio.current_task()
    assert not [t for t in asyncio.all_tasks() if t is not mine and "aiokafka" in repr(t)]


async def _restart(broker: LocalKafka, away_s: float) -> None:
    await asyncio.to_thread(broker.kill)
    await asyncio.sleep(away_s)
    await asyncio.to_thread(broker.start)


async def _pause(broker: LocalKafka, away_s: float) -> None:
    # Stopped, not killed. A broker that is alone and is killed in the milliseconds between a commit and its markers may drop
    # them when it comes back: it does not find itself in its own metadata yet, takes the partitions for deleted ("likely deleted
    # already and hence can be skipped"), and the last stable offset stands still for ever. With replicas another broker leads.
    await asyncio.to_thread(broker.stop)
    await asyncio.sleep(away_s)
    await asyncio.to_thread(broker.start)


async def _round(tx: Transactor, topic: str, group: str, at: int) -> None:
    async with tx.round() as round_:
        for value in range(at, at + 10):
            await round_.send(topic, value % 2, b"%d" % value)
        round_.commit_offsets(group, {(topic, 0): at + 10})


async def test_rounds_over_a_restart_are_neither_lost_nor_done_twice(
    own: Log, broker: LocalKafka
) -> None:
    topic, group = await own.topic(2), own.prefix + "group"
    until = time.monotonic() + 25
    done = 0
    restarting: asyncio.Task[None] | None = None
    while done < 20 or time.monotonic() < until or restarting is None or not restarting.done():
        try:
            tx = await own.cluster.transactor(own.prefix + "tx")
        except KafkaUnavailable:
            await asyncio.sleep(0.2)
            continue
        try:
            # As a worker: where it stands is what is committed.
            at = (await own.cluster.committed(group, [(topic, 0)]))[topic, 0] or 0
            for _ in range(10):
                await _round(tx, topic, group, at)
                at += 10
                done += 1
                if done == 5:
                    restarting = asyncio.create_task(_pause(broker, 3))
                await asyncio.sleep(0.05)
        except (RoundFailed, Fenced, KafkaUnavailable):
            pass
        finally:
            began = time.monotonic()
            await tx.stop()
            assert time.monotonic() - began < 20
        assert time.monotonic() < until + 60
    await restarting
    await own.settle(own.prefix + "tx")
    committed = (await own.cluster.committed(group, [(topic, 0)]))[topic, 0] or 0
    values = [int(v or b"") for p in range(2) for v in await own.values(topic, p)]
    assert sorted(values) == list(range(committed))


async def test_a_round_without_an_answer_fails_in_bounded_time_and_is_not_committed(
    own: Log, broker: LocalKafka
) -> None:
    topic, group = await own.topic(2), own.prefix + "group"
    tx = await own.cluster.transactor(own.prefix + "tx")
    await _round(tx, topic, group, 0)
    # The markers; see _pause.
    await asyncio.sleep(0.5)
    await asyncio.to_thread(broker.kill)
    began = time.monotonic()
    with pytest.raises(RoundFailed) as failed:
        await _round(tx, topic, group, 10)
    assert isinstance(failed.value.cause, KafkaUnavailable)
    await tx.stop()
    assert time.monotonic() - began < 60
    await asyncio.to_thread(broker.start)
    tx = await own.cluster.transactor(own.prefix + "tx")
    assert await own.cluster.committed(group, [(topic, 0)]) == {(topic, 0): 10}
    await _round(tx, topic, group, 10)
    await tx.stop()
    await own.settle(own.prefix + "tx")
    assert len(await own.values(topic, 0)) + len(await own.values(topic, 1)) == 20


async def test_a_broker_that_is_silent_for_a_while_only_delays_a_round(
    own: Log, broker: LocalKafka
) -> None:
    topic, group = await own.topic(2), own.prefix + "group"
    tx = await own.cluster.transactor(own.prefix + "tx")
    await _round(tx, topic, group, 0)
    pid = broker.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    asyncio.get_running_loop().call_later(3, os.kill, pid, signal.SIGCONT)
    began = time.monotonic()
    await _round(tx, topic, group, 10)
    assert time.monotonic() - began > 2
    await tx.stop()
    await own.settle(own.prefix + "tx")
    assert await own.cluster.committed(group, [(topic, 0)]) == {(topic, 0): 20}


async def test_closing_takes_bounded_time_with_a_silent_broker(
    own: Log, broker: LocalKafka
) -> None:
    topic = await own.topic(2)
    tx = await own.cluster.transactor(own.prefix + "tx")
    producer = await own.cluster.producer()
    reader = await own.cluster.reader({(topic, 0): "start"})
    member = await own.cluster.membership(own.prefix + "group", topic, session_s=6)
    await owns(member, 2)
    await reader.poll()
    await producer.send(topic, 0, b"x")
    await _round(tx, topic, own.prefix + "other", 0)
    pid = broker.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        sending = await producer.put(topic, 0, b"x")
        round_ = tx.round()
        await (await round_.__aenter__()).send(topic, 0, b"x")
        for stop in (tx.stop, producer.stop, reader.stop, member.stop):
            began = time.monotonic()
            await stop()
            assert time.monotonic() - began < 20
    finally:
        os.kill(pid, signal.SIGCONT)
    with pytest.raises(Exception, match="stopped"):
        await sending.done()
    with pytest.raises((RoundFailed, Fenced)):
        await round_.__aexit__(None, None, None)


async def test_a_producer_outlives_a_restart_and_sends_everything_once_in_order(
    own: Log, broker: LocalKafka
) -> None:
    topic = await own.topic(1)
    producer = await own.cluster.producer()
    await producer.send(topic, 0, b"0")
    restarting = asyncio.create_task(_restart(broker, 2))
    sendings = [await producer.put(topic, 0, b"1")]
    for at in range(2, 1500):
        sendings.append(await producer.put(topic, 0, b"%d" % at))
        await asyncio.sleep(0.002)
    await restarting
    async with asyncio.timeout(60):
        for sending in sendings:
            await sending.done()
    await producer.stop()
    assert await own.values(topic) == [b"%d" % at for at in range(1500)]


async def test_a_reader_goes_on_where_it_was_after_a_restart(own: Log, broker: LocalKafka) -> None:
    topic = await own.topic(1)
    reader = await own.cluster.reader({(topic, 0): "start"})
    found: list[bytes | None] = []

    async def read() -> None:
        while len(found) < 200:
            found.extend(record.value for record in await reader.poll())

    reading = asyncio.create_task(read())
    producer = await own.cluster.producer()
    for at in range(100):
        await producer.send(topic, 0, b"%d" % at)
    await _restart(broker, 1)
    for at in range(100, 200):
        await producer.send(topic, 0, b"%d" % at)
    await asyncio.wait_for(reading, 30)
    assert found == [b"%d" % at for at in range(200)]
    await producer.stop()
    await reader.stop()


async def test_a_member_owns_nothing_after_a_silent_session_and_joins_again(
    own: Log, broker: LocalKafka
) -> None:
    topic = await own.topic(4)
    member = await own.cluster.membership(own.prefix + "group", topic, session_s=6)
    await owns(member, 4)
    await asyncio.to_thread(broker.kill)
    killed = time.monotonic()
    await owns(member, 0, 30)
    assert time.monotonic() - killed > 4
    await asyncio.to_thread(broker.start)
    await owns(member, 4, 60)
    assert await asyncio.wait_for(member.wait_confirmed(0, asyncio.get_running_loop().time()), 10)
    await member.stop()


async def test_offsets_and_admin_answer_again_after_a_restart(own: Log, broker: LocalKafka) -> None:
    topic = await own.topic(1)
    assert await own.cluster.end_offsets([(topic, 0)]) == {(topic, 0): 0}
    await own.cluster.committed(own.prefix + "group", [(topic, 0)])
    await _restart(broker, 0)
    assert await own.cluster.end_offsets([(topic, 0)]) == {(topic, 0): 0}
    assert await own.cluster.committed(own.prefix + "group", [(topic, 0)]) == {(topic, 0): None}
    await own.cluster.delete_before({(topic, 0): 0})


async def test_no_broker_is_told_as_such(broker: LocalKafka) -> None:
    await asyncio.to_thread(broker.kill)
    cluster = Cluster(broker.bootstrap, client_id="test")
    began = time.monotonic()
    with pytest.raises(KafkaUnavailable):
        await cluster.transactor("tx")
    with pytest.raises(KafkaUnavailable):
        await cluster.producer()
    with pytest.raises(KafkaUnavailable):
        await cluster.reader({("topic", 0): 0})
    with pytest.raises(KafkaUnavailable):
        await cluster.membership("group", "topic")
    with pytest.raises(KafkaUnavailable):
        await cluster.end_offsets([("topic", 0)])
    assert time.monotonic() - began < 20
    await cluster.close()
    gc.collect()
