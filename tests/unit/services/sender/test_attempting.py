"""What a connection is told when it asks: nothing leaves that the attempt's gate does not allow in that very moment."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest
import structlog

from services.sender.attempt import WAIT_FOR_FRESH_NS, AttemptGate
from services.sender.attempting import Attempt, Ended
from services.sender.line import Tools
from services.sender.messages import Made, MessageFailed
from services.sender.ownership import Now
from services.sender.pair import Job, Pair
from services.sender.smtp.connection import Errand
from services.sender.smtp.envelope import Transaction
from services.sender.smtp.reply import Reply
from services.sender.smtp.report import Report
from services.sender.smtp.session import Accepted
from shared.kafka.errors import KafkaTrouble, ProducerBroken
from shared.records.grant import Grant
from shared.records.outcome import Wire
from shared.runtime.settings import Settings
from tests.support.grants import grant

if TYPE_CHECKING:
    from services.sender.journal import Journal
    from services.sender.messages import Messages
    from services.sender.smtp.connection import Connection

S = 1_000_000_000
T1 = 60 * S
#: Of the last heartbeat that was read back.
BEAT = 20 * S
FRESH = 5 * S


@dataclass
class Clock:
    """Stands where it is put; whoever sleeps lets it go on by that."""

    at_ns: int = BEAT

    def now_ns(self) -> int:
        return self.at_ns

    def mono_ns(self) -> int:
        return self.at_ns

    async def sleep(self, seconds: float) -> None:
        self.at_ns += round(seconds * S)
        await asyncio.sleep(0)


@dataclass
class Owner:
    """Owns slot 0."""

    epoch: int = 1
    beat_stamp_ns: int = BEAT
    fresh: bool = True
    stopping: bool = False

    def acting(self, mono_ns: int) -> bool:
        return self.fresh

    def may_start(self, mono_ns: int) -> bool:
        return self.fresh and not self.stopping


@dataclass
class World:
    """One attempt, with everybody that it talks to."""

    spacing_ns: int = 0
    owner: Owner = field(default_factory=Owner)
    clock: Clock = field(default_factory=Clock)
    errand: Errand | None = None
    begun: list[Transaction] = field(default_factory=list)
    resumed: int = 0
    abandoned: bool = False
    cancelled: bool = False
    ended: list[Ended] = field(default_factory=list)
    stamped: Callable[[int | KafkaTrouble], None] = lambda _: None
    made: Callable[[Made], None] = lambda _: None
    overhead_bytes: int = 0

    def __post_init__(self) -> None:
        """Begin it."""
        of = grant(t1_ns=T1, spacing_ns=self.spacing_ns)
        gate = AttemptGate(of, self.owner, fresh_ns=FRESH, attempt_max_ns=1200 * S)
        gate.taken(Now(self.clock.at_ns, self.clock.at_ns))
        tools = Tools(
            Settings(),
            self.clock,
            cast("Journal", self),
            cast("Messages", self),
            structlog.get_logger(),
        )
        self.attempt = Attempt(
            tools,
            Pair.of(of, self.clock.at_ns, self.clock),
            Job(of, b"", gate),
            cast("Connection", self),
            lambda _: not self.owner.stopping,
            lambda _, ended: self.ended.append(ended),
        )
        self.attempt.begin()

    # -- the connection

    def begin(self, transaction: Transaction, errand: Errand, *, within_ns: int) -> None:
        self.begun.append(transaction)

    def resume(self) -> None:
        self.resumed += 1

    def abandon(self) -> None:
        self.abandoned = True

    # -- the journal, and the messages

    def started(self, grant: Grant, then: Callable[[int | KafkaTrouble], None]) -> None:
        self.stamped = then

    def ask(self, grant: Grant, body: bytes, then: Callable[[Made], None]) -> Callable[[], object]:
        self.made = then

        def cancel() -> None:
            self.cancelled = True

        return cancel


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not done():
            await asyncio.sleep(0)


async def test_a_dot_goes_when_started_is_acknowledged_in_time_and_the_slot_is_held() -> None:
    world = World()
    assert world.attempt.dot() is None
    world.stamped(BEAT + FRESH)
    assert world.attempt.dot() is True


@pytest.mark.parametrize(
    "stamp",
    [
        # Void for both sides: the scheduler plans it again.
        T1 + 1,
        ProducerBroken("nobody can say"),
    ],
)
async def test_no_dot_goes_without_a_started_that_counts(stamp: int | KafkaTrouble) -> None:
    world = World()
    world.stamped(stamp)
    assert world.attempt.dot() is False


async def test_a_started_that_is_not_acknowledged_is_not_waited_for_for_ever() -> None:
    """The peer has the message but for its dot meanwhile, and would be the first to lose patience."""
    world = World()
    assert world.attempt.dot() is None
    world.clock.at_ns += WAIT_FOR_FRESH_NS
    assert world.attempt.dot() is None
    world.clock.at_ns += 1
    assert world.attempt.dot() is False


async def test_a_bug_in_what_is_waited_for_is_the_attempts_and_not_nobodys() -> None:
    world = World(spacing_ns=3 * S)

    async def broken(seconds: float) -> None:
        raise ZeroDivisionError

    world.clock.sleep = broken  # type: ignore[method-assign]
    assert world.attempt.turn() is None
    await until(lambda: world.resumed == 1)
    with pytest.raises(ZeroDivisionError):
        world.attempt.turn()
    world = World()
    world.owner.fresh = False
    world.stamped(BEAT)
    world.clock.sleep = broken  # type: ignore[method-assign]
    assert world.attempt.dot() is None
    await until(lambda: world.resumed == 1)
    with pytest.raises(ZeroDivisionError):
        world.attempt.dot()


async def test_no_dot_goes_in_an_epoch_that_is_over() -> None:
    world = World()
    world.stamped(BEAT)
    world.owner.epoch = 2
    assert world.attempt.dot() is False


@pytest.mark.parametrize("why", ["nobody has heard of this process", "its clocks stood still"])
async def test_a_dot_waits_for_a_fresh_heartbeat_and_not_for_ever(why: str) -> None:
    world = World()
    stood = why == "its clocks stood still"
    world.owner.fresh = stood
    world.stamped(BEAT + FRESH + 1 if stood else BEAT)
    assert world.attempt.dot() is None
    await until(lambda: world.resumed == 1)
    assert world.attempt.dot() is None
    if stood:
        world.owner.beat_stamp_ns = BEAT + FRESH
    world.owner.fresh = True
    await until(lambda: world.resumed == 2)
    assert world.attempt.dot() is True
    world.owner.fresh = False
    world.clock.at_ns += WAIT_FOR_FRESH_NS + 1
    assert world.attempt.dot() is False


@pytest.mark.parametrize(
    ("owner", "at_ns", "may"),
    [
        (Owner(), BEAT, True),
        (Owner(fresh=False), BEAT, False),
        (Owner(epoch=2), BEAT, False),
        (Owner(), T1, False),
    ],
)
async def test_the_turn_at_rcpt_is_the_gates_to_give(owner: Owner, at_ns: int, may: bool) -> None:
    world = World(owner=owner)
    world.clock.at_ns = at_ns
    assert world.attempt.turn() is may


async def test_a_turn_is_waited_for_and_then_asked_for_again() -> None:
    world = World(spacing_ns=3 * S)
    assert world.attempt.turn() is None
    assert world.attempt.turn() is None
    await until(lambda: world.resumed == 1)
    assert world.attempt.turn() is True
    assert world.clock.at_ns >= BEAT + 3 * S
    world = World(spacing_ns=3 * S)
    assert world.attempt.turn() is None
    world.owner.stopping = True
    await until(lambda: world.resumed == 1)
    assert world.attempt.turn() is False
    assert world.clock.at_ns < BEAT + 3 * S


async def test_there_is_no_message_until_it_is_made_and_none_where_that_fails() -> None:
    world = World()
    assert world.attempt.message() is None
    world.made((b"signature", b"", b"body"))
    assert world.resumed == 1
    assert world.attempt.message() == (b"signature", b"", b"body")
    world = World()
    failed = MessageFailed("dkim", "no key")
    world.made(failed)
    with pytest.raises(MessageFailed):
        world.attempt.message()
    world.attempt.broken(failed)
    assert world.ended == [failed]


async def test_whoever_abandons_it_hears_nothing_more_and_nothing_goes_on_for_it() -> None:
    world = World()
    world.attempt.abandon()
    assert world.abandoned
    assert world.cancelled
    assert not world.ended
    world = World()
    world.owner.fresh = False
    world.stamped(BEAT)
    assert world.attempt.dot() is None
    report = Report(Accepted(Reply(250)), Wire())
    world.attempt.ended(report)
    assert world.ended == [report]
    for _ in range(20):
        await asyncio.sleep(0)
    assert not world.resumed
