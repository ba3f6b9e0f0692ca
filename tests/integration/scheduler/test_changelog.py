"""mail.state on the real broker: compaction takes away what is no longer so, and what is read back is what was."""

import asyncio
import random
import time

import pytest

from services.scheduler import changelog
from services.scheduler.policy.ledger import Ledger
from shared.kafka.admin import apply_topics
from shared.kafka.cluster import Cluster
from shared.protocol.control import ControlView
from shared.records.codec import encode
from shared.records.lanemap import propose
from shared.records.outcome import Outcome
from shared.records.topics import Topics, TopicSpec, declared
from shared.runtime.settings import Settings
from tests.support.kafka import Log
from tests.unit.services.scheduler.policy.making import delivery
from tests.unit.services.scheduler.policy.slots import live
from tests.unit.services.scheduler.policy.test_ledger import make_settings

S = 1_000_000_000
START = 1_700_000_000 * S
ROUNDS, EACH, KEPT = 30, 150, 100


def state_topic(prefix: str) -> TopicSpec:
    """Give mail.state as it is declared, but with segments of a second, and a cleaner that takes whatever there is."""
    (found,) = (
        spec
        for spec in declared(Topics(prefix), partitions=1, slots=1, replication=1, min_insync=1)
        if spec.name == Topics(prefix).state
    )
    assert found.config["cleanup.policy"] == "compact"
    assert int(found.config["delete.retention.ms"]) <= 3_600_000
    quick = {"segment.ms": "1000", "min.cleanable.dirty.ratio": "0.01"}
    return TopicSpec(found.name, 1, 1, {**found.config, **quick})


class World:
    """One partition that delivers what comes, and what it writes."""

    def __init__(self, config: Settings) -> None:
        """Begin with a slot that is owned."""
        self.config, self.view, self.now = config, ControlView(), START
        self.view.feed(0, START, propose(1, 1, config.providers, []))
        self.ledger = self.fresh()
        self.offset = 0

    def fresh(self) -> Ledger:
        return Ledger(0, self.config, self.view, random.Random(1))

    def take_in(self, count: int, **more: object) -> None:
        for _ in range(count):
            record = delivery(f"d{self.offset}", self.now, 72 * 3600 * S, **more)
            self.ledger.on_delivery(record.class_, self.offset, record)
            self.offset += 1

    def round(self) -> list[tuple[bytes, bytes | None]]:
        """Grant what is due, end what was granted before, and give what is written."""
        self.now += S
        for slot in (0, 1):
            live(self.view, slot, self.now)
        self.ledger.begin(self.now)
        self.ledger.plan(1000, 1 << 30)
        decided = self.ledger.take()
        written = list(changelog.writes(decided, self.now, {"outcomes": self.offset}))
        for granted in decided.granted:
            grant = granted.grant
            said = Outcome(
                id=grant.id, n=grant.n, slot=grant.slot, epoch=grant.epoch, result="delivered"
            )
            self.ledger.on_outcome(self.now, said)
        return written


@pytest.mark.timeout(180)
async def test_compaction_takes_away_what_ended_and_leaves_all_that_waits(
    kafka: str, prefix: str
) -> None:
    cluster = Cluster(kafka, client_id="test")
    try:
        await compaction(Log(cluster, prefix))
    finally:
        await cluster.close()


async def compaction(log: Log) -> None:
    """Write as a scheduler does, wait for the cleaner, and read back."""
    topic = state_topic(log.prefix)
    applied = await apply_topics(log.cluster, [topic])
    assert not applied.problems
    world, written = World(make_settings()), 0
    world.take_in(KEPT, not_before_ns=START + 48 * 3600 * S)
    transactor = await log.cluster.transactor(f"{log.prefix}changelog")
    try:
        for at in range(ROUNDS):
            world.take_in(EACH if at < ROUNDS - 2 else 0)
            if at == ROUNDS - 1:
                # A segment is closed by the first record that comes when its time is over; the last one is never cleaned.
                await asyncio.sleep(1.5)
            async with transactor.round() as round_:
                for key, value in world.round():
                    await round_.send(topic.name, 0, value, key=key)
                    written += 1
    finally:
        await transactor.stop()
    assert written > 2 * (ROUNDS - 2) * EACH
    assert len(world.ledger.entries) == KEPT
    # Of each that ended its tombstone is left for a while, for whoever is reading.
    left = await until_fewer(log, topic.name, (ROUNDS - 2) * EACH + 2 * KEPT)
    assert left >= KEPT
    restored = world.fresh()
    meta = await changelog.restore(log.cluster, topic.name, 0, restored)
    assert meta.positions == {"outcomes": world.offset}
    before, after = (
        {id_: encode(entry) for id_, entry in ledger.entries.items()}
        for ledger in (world.ledger, restored)
    )
    assert after == before


async def until_fewer(log: Log, topic: str, most: int) -> int:
    """Wait until the cleaner has left so many records, and give how many there are; it looks every fifteen seconds."""
    end = time.monotonic() + 100
    while len(found := await log.records(topic)) > most:
        assert time.monotonic() < end, f"{len(found)} records are still there"
        await asyncio.sleep(1)
    return len(found)
