"""All slots of a process over one log: they are claimed, handed on and given up, and no two processes ever act for the same one."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import structlog

from services.sender.dispatch import Dispatch
from services.sender.line import Tools
from services.sender.ownership import Identity
from services.sender.reach import Common, guard_of
from services.sender.slots import Slots
from shared.kafka.controlfeed import ControlFeed
from shared.kafka.errors import ProducerBroken
from shared.kafka.producer import Stamped
from shared.protocol.control import ControlView
from shared.records.codec import Unreadable
from shared.records.control import (
    CONTROL,
    Claim,
    Control,
    Heartbeat,
    Left,
    Present,
    Released,
    Unanswered,
    control_key,
)
from shared.records.grant import Grant
from shared.records.outcome import Handback, Outcome
from shared.records.topics import Topics
from shared.runtime.settings import Settings, Source
from tests.support.grants import grant
from tests.support.virtualtime import LoopClock, run

if TYPE_CHECKING:
    from services.sender.journal import Journal
    from services.sender.messages import Messages
    from shared.kafka.cluster import Cluster
    from shared.net.destinations import Destinations

S = 1_000_000_000
CLOCK = LoopClock()
HERE = Source("ip-1", 0, "bind", "none", ehlo="m1.acme.example", address="127.0.0.1")
ALSO_HERE = replace(HERE, name="ip-2", slot=1)
ELSEWHERE = replace(HERE, name="ip-3", slot=2, address="198.51.100.9")
RELAYS = tuple(
    Source(f"relay-{slot}", slot, "smarthost", "none", host="smtp.relay.example")
    for slot in (4, 5, 6, 7)
)


def having(*sources: Source) -> Settings:
    return Settings(sources={source.name: source for source in sources})


@dataclass
class Kafka:
    """One log, mail.control."""

    records: list[tuple[int, bytes, Control | None]] = field(default_factory=list)

    def of(self, kind: type[Control], process: str = "") -> list[Control]:
        """Give what of one kind was said, by ``process`` if one is named."""
        found = [record for _, _, record in self.records if isinstance(record, kind)]
        return [each for each in found if process in {"", getattr(each, "process", "")}]


@dataclass
class Client:
    """How one process speaks to it, until it is cut off; the end of each partition of mail.dispatch is 7."""

    kafka: Kafka
    cut: bool = False
    broken: bool = False

    async def producer(self, *, linger_ms: int) -> "Client":
        return self

    async def send(self, topic: str, partition: int, value: bytes | None, *, key: bytes) -> Stamped:
        await CLOCK.sleep(0.002)
        if self.cut:
            raise ProducerBroken("cut off")
        record = None if value is None else CONTROL.decode(value)
        assert not isinstance(record, Unreadable)
        stamp_ms = CLOCK.now_ns() // 1_000_000
        self.kafka.records.append((stamp_ms * 1_000_000, key, record))
        return Stamped(len(self.kafka.records) - 1, stamp_ms)

    async def end_offsets(self, places: Iterable[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
        return dict.fromkeys(places, 7)

    async def stop(self) -> None:
        pass


@dataclass
class Said:
    """What a process said in mail.outcomes, and how much of mail.control there was then."""

    kafka: Kafka
    records: list[tuple[int, Outcome | Handback]] = field(default_factory=list)
    unacknowledged: Counter[int] = field(default_factory=Counter)

    def say(self, grant: Grant, record: Outcome | Handback) -> None:
        self.records.append((len(self.kafka.records), record))

    def has_said(self, epoch: int) -> bool:
        return True

    def prompt(self, partition: int) -> bool:
        return True


class Nothing:
    """Takes other settings, and does nothing else."""

    def renew(self, settings: Settings) -> None:
        pass


@dataclass
class Process:
    """One sender process."""

    kafka: Kafka
    settings: Settings
    name: str
    dead_predecessor: str | None = None
    pod: str = ""
    client: Client = field(init=False)
    slots: Slots = field(init=False)
    said: Said = field(init=False)

    def __post_init__(self) -> None:
        """Wire it as the service does, with its edges cut off."""
        self.client = Client(self.kafka)
        cluster, log, topics = cast("Cluster", self.client), structlog.get_logger(), Topics()
        view = ControlView()
        self.said = Said(self.kafka)
        nothing = Nothing()
        self.slots = Slots(
            settings=self.settings,
            cluster=cluster,
            topics=topics,
            clock=CLOCK,
            view=view,
            feed=ControlFeed(cluster, topics.control, view, log),
            dispatch=Dispatch(cluster, topics.dispatch, CLOCK, log),
            me=Identity(self.name, self.pod or f"pod-{self.name}", self.dead_predecessor),
            tools=Tools(
                self.settings,
                CLOCK,
                cast("Journal", self.said),
                cast("Messages", nothing),
                log,
            ),
            common=Common(
                self.settings,
                cast("Destinations", nothing),
                guard_of(self.settings),
                CLOCK,
                random.Random(self.name),
                log,
            ),
            log=log,
        )
        for source in self.settings.sources.values():
            self.slots.add(source)
        self.reading = asyncio.create_task(self._read())
        self.turning = asyncio.create_task(self.slots.run())

    async def _read(self) -> None:
        view = self.slots.view
        while True:
            for offset in range(view.position, len(self.kafka.records)):
                stamp_ns, key, record = self.kafka.records[offset]
                if record is None:
                    view.bury(offset, key)
                else:
                    view.feed(offset, stamp_ns, record)
                    self.slots.heard(stamp_ns, record)
            self.slots.feed.at_end = True
            await CLOCK.sleep(0.01)

    def acts(self, slot: int) -> bool:
        """Say whether it may act for a slot now."""
        known = self.slots.slots.get(slot)
        return known is not None and known.owner.acting(CLOCK.mono_ns())

    async def kill(self) -> None:
        """End it without a word."""
        self.client.cut = True
        for task in (self.turning, self.reading):
            task.cancel()
        await asyncio.gather(self.turning, self.reading, return_exceptions=True)

    async def over(self) -> None:
        """Wait until it has ended by itself."""
        await self.turning
        self.reading.cancel()
        with suppress(asyncio.CancelledError):
            await self.reading


async def until(done: Callable[[], bool], *among: Process, within_s: float = 60) -> None:
    """Let time pass until ``done``; at no moment do two of ``among`` act for one slot."""
    end = CLOCK.mono_ns() + round(within_s * S)
    while not done():
        assert CLOCK.mono_ns() < end, "it never came to this"
        numbers = {slot for each in among for slot in each.slots.slots}
        for slot in numbers:
            assert sum(each.acts(slot) for each in among) <= 1, slot
        await CLOCK.sleep(0.02)


async def passing(seconds: float, *among: Process) -> None:
    """Let time pass."""
    end = CLOCK.mono_ns() + round(seconds * S)
    await until(lambda: CLOCK.mono_ns() >= end, *among, within_s=seconds + 1)


def a_grant_for_later(process: Process, slot: int) -> Grant:
    """Permit an attempt that may not begin for a minute."""
    epoch, now = process.slots.slots[slot].epoch, CLOCK.now_ns()
    made = grant(slot=slot, epoch=epoch, t0_ns=now + 60 * S, t1_ns=now + 120 * S)
    process.slots.slots[slot].line.offer(made, b"")
    return made


def test_slots_whose_addresses_are_here_are_claimed_and_their_grants_read_from_before_the_claim() -> (
    None
):
    async def main() -> None:
        one = Process(Kafka(), having(HERE, ALSO_HERE, ELSEWHERE), "one")
        await until(lambda: len(one.slots.owned()) == 2, one)
        assert one.slots.owned() == ["ip-1", "ip-2"]
        assert {claim.slot for claim in one.kafka.of(Claim) if isinstance(claim, Claim)} == {0, 1}
        for slot in (0, 1):
            assert one.slots.dispatch.follows(slot)
            assert one.slots.slots[slot].owner.dispatch_from == 7
        assert not one.slots.dispatch.follows(2)
        await one.kill()

    run(main())


def test_a_slot_of_a_process_that_was_killed_is_taken_after_silence_and_the_fence() -> None:
    async def main() -> None:
        kafka = Kafka()
        one = Process(kafka, having(HERE), "one")
        await until(lambda: one.acts(0), one)
        two = Process(kafka, having(HERE), "two")
        await passing(30, one, two)
        assert not two.slots.slots[0].owner.claimed
        await one.kill()
        died_ns = CLOCK.mono_ns()
        # What it had read back last still holds for the five seconds of ``fresh``.
        await until(lambda: two.acts(0), one, two)
        times = two.settings.timing
        assert CLOCK.mono_ns() - died_ns > times.silence_ns + times.wait_ns - 2 * S
        assert len(kafka.of(Claim)) == 2
        await two.kill()

    run(main())


def test_a_process_that_drains_hands_back_first_releases_then_and_claims_nothing_more() -> None:
    async def main() -> None:
        kafka = Kafka()
        one = Process(kafka, having(HERE, RELAYS[0]), "one")
        await until(lambda: len(one.slots.owned()) == 2, one)
        waits = a_grant_for_later(one, 0)
        await passing(1, one)
        assert not one.said.records
        one.slots.drain()
        comes_late = a_grant_for_later(one, 4)
        await one.over()
        assert {(each.id, each.slot) for _, each in one.said.records} == {
            (waits.id, 0),
            (comes_late.id, 4),
        }
        released = {
            each.slot: at
            for at, (_, _, each) in enumerate(kafka.records)
            if isinstance(each, Released)
        }
        assert all(at <= released[each.slot] for at, each in one.said.records)
        # Whoever shares the floating slots out must not count on it; then its pod is forgotten.
        last = kafka.of(Present)[-1]
        assert isinstance(last, Present)
        assert last.leaving
        assert kafka.records[-1][1] == b"present/pod-one"
        assert kafka.records[-1][2] is None
        assert len(kafka.of(Claim)) == 2

    run(main())


def test_a_released_slot_is_taken_at_once() -> None:
    async def main() -> None:
        kafka = Kafka()
        one = Process(kafka, having(HERE), "one")
        await until(lambda: one.acts(0), one)
        two = Process(kafka, having(HERE), "two")
        await passing(1, one, two)
        one.slots.drain()
        await one.over()
        left_ns = CLOCK.mono_ns()
        await until(lambda: two.acts(0), one, two)
        assert CLOCK.mono_ns() - left_ns < 2 * S
        await two.kill()

    run(main())


def test_a_source_that_is_gone_new_or_changed_is_released_claimed_or_served_anew() -> None:
    async def main() -> None:
        kafka = Kafka()
        one = Process(kafka, having(HERE, ALSO_HERE), "one")
        await until(lambda: len(one.slots.owned()) == 2, one)
        before = one.slots.slots[0].epoch
        waits = a_grant_for_later(one, 0)
        await passing(1, one)
        changed = replace(HERE, ehlo="other.acme.example")
        one.slots.renew(having(changed, replace(HERE, name="ip-4", slot=3)))
        await until(lambda: one.slots.owned() == ["ip-4", "ip-1"], one)
        assert [(each.id, each.slot) for _, each in one.said.records] == [(waits.id, 0)]
        assert one.slots.slots[0].source is changed
        assert one.slots.slots[0].epoch > before
        assert 1 not in one.slots.slots
        assert {each.slot for each in kafka.of(Released) if isinstance(each, Released)} == {0, 1}
        await one.kill()

    run(main())


def test_how_a_source_is_warmed_up_is_no_reason_to_give_it_up() -> None:
    async def main() -> None:
        one = Process(Kafka(), having(HERE), "one")
        await until(lambda: one.acts(0), one)
        one.slots.renew(having(replace(HERE, warmup="slow")))
        await passing(5, one)
        assert one.acts(0)
        assert not one.kafka.of(Released)
        await one.kill()

    run(main())


def test_a_source_that_changes_just_before_a_drain_is_not_served_anew() -> None:
    async def main() -> None:
        kafka = Kafka()
        one = Process(kafka, having(HERE), "one")
        await until(lambda: one.acts(0), one)
        one.slots.renew(having(replace(HERE, ehlo="other.acme.example")))
        one.slots.drain()
        async with asyncio.timeout(30):
            await one.over()
        assert len(kafka.of(Claim)) == 1
        assert len(kafka.of(Released)) == 1

    run(main())


def test_a_source_that_is_new_while_the_process_drains_is_left_to_others() -> None:
    async def main() -> None:
        kafka = Kafka()
        one = Process(kafka, having(HERE), "one")
        await until(lambda: one.acts(0), one)
        one.slots.drain()
        one.slots.renew(having(HERE, ALSO_HERE))
        async with asyncio.timeout(30):
            await one.over()
        assert len(kafka.of(Claim)) == 1

    run(main())


def test_floating_slots_are_shared_out_and_moved_with_never_two_that_act() -> None:
    async def main() -> None:
        kafka = Kafka()
        one = Process(kafka, having(*RELAYS), "one")
        await until(lambda: len(one.slots.owned()) == 4, one)
        two = Process(kafka, having(*RELAYS), "two")
        await until(
            lambda: len(one.slots.owned()) == len(two.slots.owned()) == 2,
            one,
            two,
            within_s=120,
        )
        await passing(30, one, two)
        assert not set(one.slots.owned()) & set(two.slots.owned())
        two.slots.drain()
        await until(lambda: len(one.slots.owned()) == 4, one, two)
        await two.over()
        await one.kill()

    run(main())


def test_what_a_dead_process_left_counts_for_its_slots_next_owner_until_its_heir_comes() -> None:
    async def main() -> None:
        kafka = Kafka()
        under_way = tuple(Unanswered(id=id_, n=1, key="big", site="mx.big") for id_ in "ab")
        for record in (
            Claim(slot=0, source="ip-1", process="dead", pod="pod-three"),
            Heartbeat(slot=0, epoch=0, process="dead", ready=True, mono_ns=0, wall_ns=0),
            Left(slot=0, epoch=0, process="dead", attempts=under_way),
            Released(slot=0, epoch=0, process="dead"),
        ):
            kafka.records.append((CLOCK.now_ns(), control_key(record), record))
        two = Process(kafka, having(HERE), "two")
        await until(lambda: two.acts(0), two)
        await passing(30, two)
        assert two.slots.slots[0].line.left() == 2
        # Nobody knows whether that one is dead.
        other = Process(kafka, having(), "other")
        await passing(5, two, other)
        assert two.slots.slots[0].line.left() == 2
        heir = Process(kafka, having(), "three", dead_predecessor="dead")
        await passing(5, two, other, heir)
        assert two.slots.slots[0].line.left() == 0
        assert two.acts(0)
        nothing = kafka.of(Left, "three")
        assert nothing == [Left(slot=0, epoch=0, process="three")]
        for each in (two, other, heir):
            await each.kill()

    run(main())


def test_a_process_whose_voice_is_cut_off_stops_acting_before_another_begins() -> None:
    async def main() -> None:
        kafka = Kafka()
        one = Process(kafka, having(HERE), "one")
        await until(lambda: one.acts(0), one)
        two = Process(kafka, having(HERE), "two")
        await passing(1, one, two)
        # It still reads, and believes that it is well.
        one.client.cut = True
        await until(lambda: two.acts(0), one, two)
        assert not one.acts(0)
        beats = [each for each in kafka.of(Heartbeat, "two") if isinstance(each, Heartbeat)]
        assert beats[0].ready
        for each in (one, two):
            await each.kill()

    run(main())
