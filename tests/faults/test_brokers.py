"""Three brokers, as in production: one is killed, one is restarted, leaders and coordinators move, and mail goes on.

With two copies of each record in sync nothing that was acknowledged can be lost, so here a broker may die by kill -9 (with one copy it may
not: test_broker.py).
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.kafka.admin import apply_topics, check_topics
from shared.kafka.cluster import Cluster as KafkaCluster
from shared.records.topics import Topics, declared
from tests.support.brokers import COPIES, IN_SYNC, Brokers
from tests.support.config import submission
from tests.support.nursery import Launch
from tests.support.receiver import Receiver
from tests.support.stack import Events, Service, Stack
from tests.support.yard import Yard

PARTITIONS = 4
LIMITS = '[limits.local]\nconnections = 4\nrate = "10/s"'


@dataclass(slots=True)
class Cluster:
    """Services of each kind on three brokers."""

    brokers: Brokers
    stack: Stack
    receiver: Receiver
    services: list[Service]

    async def produce(self, messages: int) -> None:
        assert messages == await self.stack.produce(
            submission(f"u{at}@a.test") for at in range(messages)
        )

    def judge(self, events: Events, messages: int) -> None:
        """Nothing is lost, nothing came twice but what was said to be unknown, and no process had to be restarted."""
        unknown = events.unknown()
        copies = self.receiver.copies()
        doubled = {rcpt for rcpt, count in copies.items() if count > 1}
        print(f"\nmessages {messages} unknown {len(unknown)} duplicate {len(doubled)}")
        assert set(events.types()) == {"delivered"}
        assert all(service.alive for service in self.services)
        assert len(copies) == messages
        assert doubled <= unknown


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    with Brokers(tmp_path_factory.mktemp("brokers")) as brokers:
        yield brokers


@pytest.fixture
def cluster(tmp_path: Path, brokers: Brokers, launch: Launch) -> Iterator[Cluster]:
    # Of this test's topics; all go with the brokers.
    prefix = f"{tmp_path.name}-"
    with Yard(tmp_path, brokers.bootstrap, prefix, launch) as yard:
        receiver = yard.receiver("--dot-delay", "0.1")
        stack = yard.stack(receiver, partitions=PARTITIONS, limits=LIMITS)
        stack.config = stack.config.replace(
            "[kafka]\n", f"[kafka]\nreplication = {COPIES}\nmin_insync = {IN_SYNC}\n", 1
        )
        stack.set_up()
        kinds = ("ingest", "scheduler", "scheduler", "sender", "sender")
        services = [stack.start(kind, wait=False) for kind in kinds]
        yield Cluster(brokers, stack, receiver, services)


@pytest.mark.parametrize("time", range(8))
async def test_what_was_applied_is_known_to_every_broker(brokers: Brokers, time: int) -> None:
    """Each hears of it by itself; whoever comes next may ask any of them."""
    specs = declared(
        Topics(f"known-{time}-"), partitions=4, slots=4, replication=COPIES, min_insync=IN_SYNC
    )
    here = KafkaCluster(brokers.bootstrap, client_id="test")
    try:
        applied = await apply_topics(here, specs)
        assert len(applied.created) == len(specs)
        assert applied.problems == []
        assert [await check_topics(here, specs) for _ in range(6)] == [[]] * 6
    finally:
        await here.close()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("rounds", [1, pytest.param(5, marks=pytest.mark.long)])
async def test_brokers_that_die_and_restart_in_turn_lose_nothing_and_need_nobody(
    cluster: Cluster, rounds: int
) -> None:
    messages = 400 * rounds
    producing = asyncio.create_task(cluster.produce(messages))
    async with Events(cluster.stack, PARTITIONS) as events:
        await events.until_final(20, 120)
        await producing
        for number in range(rounds * COPIES):
            node = cluster.brokers.nodes[number % COPIES]
            # By kill -9, and as somebody restarts it.
            assert await asyncio.to_thread(node.stop if number % 2 else node.kill)
            await events.until_final(min(messages, len(events.finals()) + 40), 120)
            await asyncio.to_thread(node.start)
            await cluster.brokers.in_sync()
        await events.until_final(messages, 240)
    cluster.judge(events, messages)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_too_few_brokers_stop_everything_and_cost_nothing(cluster: Cluster) -> None:
    """One copy of three is not enough to write, and one voter of three elects nobody."""
    messages = 400
    await cluster.produce(messages)
    async with Events(cluster.stack, PARTITIONS) as events:
        await events.until_final(20, 120)
        first, second, _ = cluster.brokers.nodes
        first.kill()
        second.kill()
        await asyncio.sleep(20)
        await asyncio.gather(*(asyncio.to_thread(node.start) for node in (first, second)))
        await cluster.brokers.in_sync()
        await events.until_final(messages, 240)
    cluster.judge(events, messages)
