"""The records of waiting deliveries, read again from mail.deliveries when they are due.

What has just been read is kept for a while, bounded by bytes, so that a delivery that is granted at once costs no second read. What is
not kept is read by offset, many together in offset order: a dense stretch is scanned in large portions, and what lies apart is sought,
by several readers side by side that fetch little: what is fetched behind the wanted record is thrown away by the next seek.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from shared.kafka.cluster import SEEK_FETCH_WAIT_MS, Cluster
from shared.kafka.reader import Reader

#: Records between two wanted ones that are read through rather than jumped over: a seek costs about as much.
_DENSE: Final = 60
#: A stretch of so many records is scanned.
_LONG: Final = 400
_SEEKERS: Final = 4
_SEEK_BYTES: Final = 64 << 10
_SCAN_BYTES: Final = 4 << 20
_POLL_MS: Final = 50
_MOST: Final = 1_000
_PATIENCE_POLLS: Final = 600

Place = tuple[str, int]


class BodyLost(Exception):
    """A record that a waiting delivery needs is no longer in mail.deliveries."""


@dataclass(slots=True)
class Bodies:
    """One worker's records: (topic, offset) -> value."""

    cluster: Cluster
    partition: int
    keep_bytes: int
    _kept: OrderedDict[Place, bytes] = field(default_factory=OrderedDict)
    _size: int = 0
    _scanner: Reader | None = None
    _seekers: list[Reader] = field(default_factory=list)
    _starts: Mapping[tuple[str, int], int] = field(default_factory=dict)
    _topics: tuple[str, ...] = ()

    async def open(self, topics: Iterable[str]) -> dict[str, int]:
        """Open the readers for ``topics``, which only ever read where they are sent; gives the first offset of each."""
        self._topics = tuple(topics)
        starts = await self.cluster.start_offsets(
            [(topic, self.partition) for topic in self._topics]
        )
        self._starts = starts
        self._scanner = await self._reader(starts, _SCAN_BYTES)
        return {topic: starts[topic, self.partition] for topic in self._topics}

    async def _open_seekers(self) -> None:
        """Open the others when they are needed first: many a partition never needs them."""
        while len(self._seekers) < _SEEKERS:
            self._seekers.append(await self._reader(self._starts, _SEEK_BYTES))

    async def _reader(self, starts: Mapping[tuple[str, int], int], fetch_bytes: int) -> Reader:
        reader = await self.cluster.reader(
            dict(starts), fetch_wait_ms=SEEK_FETCH_WAIT_MS, fetch_max_bytes=fetch_bytes
        )
        for place in starts:
            reader.pause(place)
        return reader

    async def close(self) -> None:
        """Close the readers."""
        for reader in (self._scanner, *self._seekers):
            if reader is not None:
                await reader.stop()

    def keep(self, topic: str, offset: int, value: bytes) -> None:
        """Keep a record that was just read, and let the oldest go past the bound."""
        self._kept[topic, offset] = value
        self._size += len(value)
        while self._size > self.keep_bytes and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._size -= len(dropped)

    def forget(self, topic: str, offset: int) -> None:
        """Let a record go: its delivery ended or was granted."""
        dropped = self._kept.pop((topic, offset), None)
        if dropped is not None:
            self._size -= len(dropped)

    def missing(self, places: Iterable[Place]) -> list[Place]:
        """Give those of ``places`` that must be read again."""
        return [place for place in places if place not in self._kept]

    async def load(self, places: Iterable[Place]) -> dict[Place, bytes]:
        """Give the records at ``places``, from memory or from the log.

        Raises BodyLost: a record is not there although its delivery waits.
        """
        places = list(places)
        found = {place: self._kept[place] for place in places if place in self._kept}
        for topic in self._topics:
            wanted = sorted(
                offset for name, offset in places if name == topic and (name, offset) not in found
            )
            if wanted:
                found.update(await self._read(topic, wanted))
        return found

    async def _read(self, topic: str, offsets: list[int]) -> dict[Place, bytes]:
        if self._scanner is None:
            raise RuntimeError("open() comes first")
        found: dict[Place, bytes] = {}
        runs = _runs(offsets)
        long = [run for run in runs if run[-1] - run[0] >= _LONG]
        short = iter([run for run in runs if run[-1] - run[0] < _LONG])
        if any(run[-1] - run[0] < _LONG for run in runs):
            await self._open_seekers()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._each(self._scanner, topic, iter(long), found))
                for seeker in self._seekers:
                    # In turn, whoever is free: all take from the same ones.
                    tasks.create_task(self._each(seeker, topic, short, found))
        except ExceptionGroup as failed:
            # The first has ended the others.
            raise failed.exceptions[0] from failed
        return found

    async def _each(
        self, reader: Reader, topic: str, runs: Iterator[list[int]], found: dict[Place, bytes]
    ) -> None:
        here = (topic, self.partition)
        try:
            for run in runs:
                reader.seek(here, run[0])
                reader.resume(here)
                await self._run(reader, here, run, found)
        finally:
            reader.pause(here)

    async def _run(
        self, reader: Reader, here: tuple[str, int], run: list[int], found: dict[Place, bytes]
    ) -> None:
        """Read from the first wanted offset of a run to its last; records in between are read through."""
        topic, at, wanted = here[0], run[0] - 1, set(run)
        for _ in range(_PATIENCE_POLLS + len(run)):
            # No more than that: what is left in the client keeps it from fetching what nobody wants.
            most = min(_MOST, run[-1] - at)
            for record in await reader.poll(max_records=most, wait_ms=_POLL_MS):
                at = record.offset
                if at in wanted and record.value is not None:
                    found[topic, at] = record.value
                    wanted.discard(at)
            if at >= run[-1]:
                break
        if wanted:
            raise BodyLost(f"{topic}/{here[1]} offset {min(wanted)}, read to {at}")


def _runs(offsets: list[int]) -> list[list[int]]:
    """Part sorted offsets where a gap is wide enough to be jumped over."""
    runs = [[offsets[0]]]
    for before, offset in pairwise(offsets):
        if offset - before > _DENSE:
            runs.append([])
        runs[-1].append(offset)
    return runs
