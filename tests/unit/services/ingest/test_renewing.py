"""Offsets are committed anew although nothing comes: Kafka forgets old ones, and what was accepted would be accepted again."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from services.ingest.doors.kafka import Door, _Lane
from services.ingest.intake import read
from services.ingest.worker import RENEW_NS, Shell, Worker
from shared.kafka.reader import Place
from shared.kafka.suspicion import Suspicion
from shared.records.lanemap import propose
from shared.records.topics import CLASSES
from tests.unit.services.ingest.making import NOW, settings
from tests.unit.services.ingest.test_rejecting import TOPICS, Record

QUICK, BULK = ((TOPICS.submissions(class_), 0) for class_ in CLASSES)


@dataclass
class Commits:
    """A transactor that keeps which offsets each transaction committed, or fails."""

    of: list[dict[Place, int]] = field(default_factory=list)
    fails: bool = False

    @asynccontextmanager
    async def round(self) -> AsyncIterator["Commits"]:
        yield self
        if self.fails:
            raise ConnectionError

    async def send(self, *_: object) -> None:
        """Take a record."""

    def commit_offsets(self, _group: str, offsets: Mapping[Place, int]) -> None:
        self.of.append(dict(offsets))


@dataclass
class Running:
    """A worker that was given these positions, its door, and what it commits."""

    positions: dict[Place, int]
    mono: int = 0
    commits: Commits = field(default_factory=Commits)

    def __post_init__(self) -> None:
        async def resolve(_domains: set[str]) -> dict[str, object]:
            return {}

        shell = SimpleNamespace(
            settings=settings(),
            topics=TOPICS,
            group="ingest",
            log=structlog.get_logger(),
            read=read,
            resolving=SimpleNamespace(resolve=resolve),
            view=SimpleNamespace(lane_map=propose(1, 1, {}, [])),
            clock=SimpleNamespace(now_ns=lambda: NOW, mono_ns=lambda: self.mono),
            meters=SimpleNamespace(count=deque),
        )
        self.worker = Worker(0, cast("Shell", shell), Suspicion(10))
        self.worker._positions = self.positions
        self.lanes = [_Lane(cast("Any", None), place) for place in (QUICK, BULK)]
        self.door = Door(self.lanes)

    def come(self, at: int, offset: int) -> None:
        """Let a record come to one of the inputs."""
        record = Record(b"no submission", self.lanes[at].place[0], offset=offset)
        self.lanes[at].waiting.append(cast("Any", record))
        self.door._settle()

    async def run(self) -> None:
        """Let the worker go on until it waits."""
        running = asyncio.create_task(self.worker._rounds(self.door, cast("Any", self.commits)))
        await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_new_worker_commits_at_once_what_it_was_given_and_again_when_it_has_grown_old() -> (
    None
):
    world = Running({QUICK: 5, BULK: 9})
    await world.run()
    assert world.commits.of == [{QUICK: 5, BULK: 9}]
    world.mono = RENEW_NS - 1_000_000_000
    await world.run()
    assert len(world.commits.of) == 1
    world.mono = RENEW_NS
    await world.run()
    assert world.commits.of == [{QUICK: 5, BULK: 9}] * 2


@pytest.mark.parametrize("passed_ns", [0, RENEW_NS - 600_000_000_000, RENEW_NS, 3 * RENEW_NS])
async def test_a_topic_without_mail_is_renewed_however_much_comes_in_the_other(
    passed_ns: int,
) -> None:
    world = Running({QUICK: 5, BULK: 9})
    await world.run()
    world.mono = passed_ns
    world.come(0, 5)
    await world.run()
    renewed = {} if passed_ns < RENEW_NS else {BULK: 9}
    assert world.commits.of[1:] == [{QUICK: 6} | renewed]


async def test_what_was_never_read_has_nothing_to_forget() -> None:
    world = Running({})
    await world.run()
    assert world.commits.of == []
    world.come(1, 3)
    await world.run()
    world.mono = RENEW_NS
    await world.run()
    assert world.commits.of == [{BULK: 4}, {BULK: 4}]


async def test_a_round_that_failed_moves_nothing() -> None:
    world = Running({BULK: 9})
    world.commits.fails = True
    world.come(1, 9)
    await world.run()
    assert world.worker._positions == {BULK: 9}
    assert world.worker._renewed_ns is None
