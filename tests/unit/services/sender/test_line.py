"""What a line does when nothing more is to begin: its slot waits for nobody, and leaves nothing behind."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

import pytest
import structlog
import structlog.testing

from services.sender.line import Line, Tools
from services.sender.messages import Made, MessageFailed
from services.sender.reach import Unreachable
from services.sender.smtp.connection import Connection, Errand
from services.sender.smtp.envelope import Transaction
from services.sender.smtp.reply import Reply
from services.sender.smtp.report import Report
from services.sender.smtp.session import Accepted, Refused, Stage
from shared.records.control import Unanswered
from shared.records.grant import Grant
from shared.records.outcome import Handback, Outcome, Wire
from shared.runtime.settings import Settings
from tests.support.grants import grant
from tests.support.virtualtime import StoppedClock

if TYPE_CHECKING:
    from services.sender.journal import Journal
    from services.sender.messages import Messages
    from services.sender.ownership import SlotOwner
    from services.sender.reach import Reach


@dataclass
class Owner:
    """Owns slot 0, until it stops."""

    slot: int = 0
    epoch: int = 1
    source: str = "ip-1"
    stopping: bool = False
    beat_stamp_ns: int = 0

    def acting(self, mono_ns: int) -> bool:
        return True

    def may_start(self, mono_ns: int) -> bool:
        return not self.stopping


@dataclass
class Said:
    """What was said in mail.outcomes."""

    records: list[Outcome | Handback] = field(default_factory=list)
    unacknowledged: dict[int, int] = field(default_factory=lambda: {0: 0})
    is_prompt: bool = True

    def say(self, grant: Grant, record: Outcome | Handback) -> None:
        self.records.append(record)

    def prompt(self, partition: int) -> bool:
        return self.is_prompt

    def started(self, grant: Grant, then: Callable[[int], None]) -> None:
        then(0)

    def has_said(self, epoch: int) -> bool:
        return not self.unacknowledged[0]


@dataclass
class NoMessages:
    """Has none, and says so."""

    overhead_bytes: int = 0

    def ask(self, grant: Grant, body: bytes, then: Callable[[Made], None]) -> Callable[[], object]:
        failed = MessageFailed("body", "it is not there")
        return asyncio.get_running_loop().call_soon(then, failed).cancel


@dataclass
class SilentHost:
    """Never answers."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    left: bool = False

    async def connect(self, grant: Grant, turn: object) -> Connection:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left = True
        raise AssertionError


@dataclass(eq=False)
class GoodHost:
    """One connection, which stays."""

    usable: bool = True
    count: int = 0
    closed: bool = False
    errand: Errand | None = None

    @property
    def peer(self) -> "GoodHost":
        return self

    def wire(self) -> None:
        return None

    async def connect(self, grant: Grant, turn: object) -> "GoodHost":
        return self

    def serves(self, connection: Connection, grant: Grant) -> bool:
        return True

    def begin(self, transaction: Transaction, errand: Errand, *, within_ns: int) -> None:
        self.count += 1
        self.errand = errand

    def resume(self) -> None:
        assert self.errand is not None
        try:
            self.errand.message()
        except MessageFailed as error:
            self.errand.broken(error)

    def close(self) -> None:
        self.closed = True


def a_line(owner: Owner, said: Said, host: SilentHost | GoodHost) -> Line:
    tools = Tools(
        Settings(),
        StoppedClock(),
        cast("Journal", said),
        cast("Messages", NoMessages()),
        structlog.get_logger(),
    )
    return Line(cast("SlotOwner", owner), cast("Reach", host), tools)


def numbered(number: int) -> Grant:
    return grant(id=f"m{number}", t1_ns=10**18)


NOBODY: Final[tuple[Stage, Reply]] = ("rcpt", Reply(550, "5.1.1", "no such user"))


@dataclass(eq=False)
class WarningHost(GoodHost):
    """Refuses every message with the same words."""

    says: tuple[Stage, Reply] = ("mail", Reply(450, "4.7.1", "Too many messages, slow down"))

    def wire(self) -> Wire:  # type: ignore[override]
        return Wire()

    def learn(self, connection: Connection, report: Report) -> None:
        pass

    def begin(self, transaction: Transaction, errand: Errand, *, within_ns: int) -> None:
        self.count += 1
        report = Report(Refused(*self.says), Wire())
        asyncio.get_running_loop().call_soon(errand.ended, report)


async def test_after_a_warning_nothing_begins_that_was_granted_before_it_was_heard() -> None:
    owner, said, host = Owner(), Said(), WarningHost()
    line = a_line(owner, said, host)
    for number in range(20):
        line.offer(numbered(number), b"")
    await until(lambda: len(said.records) == 20)
    # Two connections at most had begun: such is the slow start.
    outcomes = [each for each in said.records if isinstance(each, Outcome)]
    assert 1 <= len(outcomes) <= 2
    assert host.count == len(outcomes)
    back = [each for each in said.records if isinstance(each, Handback)]
    assert {each.reason for each in back} == {"pair"}
    heard = max(each.warned_ns for each in outcomes)
    assert heard > 0
    # What comes from the log afterwards was granted before; what knows of the warning goes.
    line.offer(grant(id="old", t1_ns=10**18, heard_ns=heard - 1), b"")
    line.offer(grant(id="new", t1_ns=10**18, heard_ns=heard), b"")
    await until(lambda: len(said.records) == 22)
    ends = {each.id: type(each) for each in said.records[20:]}
    assert ends == {"old": Handback, "new": Outcome}
    await line.close()


async def test_a_no_about_one_recipient_stops_nobody() -> None:
    owner, said, host = Owner(), Said(), WarningHost(says=NOBODY)
    line = a_line(owner, said, host)
    for number in range(20):
        line.offer(numbered(number), b"")
    await until(lambda: len(said.records) == 20)
    assert {type(each) for each in said.records} == {Outcome}
    await line.close()


async def test_connections_over_a_smaller_limit_end() -> None:
    owner, said, host = Owner(), Said(), WarningHost(says=NOBODY)
    line = a_line(owner, said, host)
    line.offer(grant(id="a", t1_ns=10**18, connections=4), b"")
    line.offer(grant(id="b", t1_ns=10**18, connections=4), b"")
    line.offer(grant(id="c", t1_ns=10**18, connections=1), b"")
    line.offer(grant(id="d", t1_ns=10**18, connections=1), b"")
    await until(lambda: len(said.records) == 4)
    await until(lambda: len(line._tasks) == 1)
    assert not line.waiting()
    await line.close()


@dataclass(eq=False)
class ClumsyHost(GoodHost):
    async def connect(self, grant: Grant, turn: object) -> "GoodHost":
        raise ZeroDivisionError("a bug of ours")


async def test_a_bug_at_one_connection_is_told_and_what_waits_behind_it_is_not_forgotten() -> None:
    owner, said = Owner(), Said()
    line = a_line(owner, said, ClumsyHost())
    with structlog.testing.capture_logs() as logs:
        for number in range(3):
            line.offer(numbered(number), b"")
        # Each has its own; what it had in hand is settled by its lease.
        await until(lambda: len(logs) == 3)
    assert {(each["event"], each["source"], each["log_level"]) for each in logs} == {
        ("courier_failed", "ip-1", "error")
    }
    assert {type(each["exc_info"]) for each in logs} == {ZeroDivisionError}
    assert not line.waiting()
    await line.close()


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not done():
            await asyncio.sleep(0)


async def until_idle(line: Line) -> None:
    async with asyncio.timeout(30):
        while not line.idle:
            await asyncio.sleep(0)


async def test_a_line_that_stops_waits_for_no_connection() -> None:
    owner, said, host = Owner(), Said(), SilentHost()
    line = a_line(owner, said, host)
    for number in range(3):
        line.offer(numbered(number), b"")
    await host.asked.wait()
    assert not line.idle
    owner.stopping = True
    line.stop()
    await until_idle(line)
    assert host.left
    back = [(each.id, each.reason) for each in said.records if isinstance(each, Handback)]
    assert sorted(back) == [(f"m{number}", "drain") for number in range(3)]
    assert len(said.records) == len(back)


async def test_a_line_that_stops_leaves_no_connection_beside_the_next_owners() -> None:
    owner, said, host = Owner(), Said(), GoodHost()
    line = a_line(owner, said, host)
    line.offer(numbered(1), b"")
    async with asyncio.timeout(30):
        while not said.records:
            await asyncio.sleep(0)
    assert not host.closed
    assert not line.idle
    owner.stopping = True
    line.stop()
    await until_idle(line)
    assert host.closed
    assert host.count == 1


async def test_a_line_is_idle_only_when_what_was_said_is_acknowledged() -> None:
    """Who takes over settles what it does not find, so nothing may still be on its way."""
    owner, said, host = Owner(), Said(), GoodHost()
    line = a_line(owner, said, host)
    assert line.idle
    said.unacknowledged[0] = 1
    assert not line.idle
    said.unacknowledged[0] = 0
    line.offer(numbered(1), b"")
    assert not line.idle
    await line.close()
    assert line.idle


async def test_any_number_of_grants_that_end_at_once_end_in_turn() -> None:
    """Each begins in the breath in which the one before it ends; nested, they would exhaust the stack."""

    class HostThatEndsAtOnce(WarningHost):
        def begin(self, transaction: Transaction, errand: Errand, *, within_ns: int) -> None:
            self.count += 1
            errand.ended(Report(Refused(*self.says), Wire()))

    owner, said, host = Owner(), Said(), HostThatEndsAtOnce(says=NOBODY)
    line = a_line(owner, said, host)
    for number in range(3000):
        line.offer(numbered(number), b"")
    await until(lambda: len(said.records) == 3000)
    assert host.count == 3000
    assert len({each.id for each in said.records}) == 3000
    assert line.busy == 0 or not line.waiting()
    await line.close()


async def test_nothing_begins_while_what_must_be_said_of_it_cannot_be_and_all_does_when_it_can() -> (
    None
):
    owner, said, host = Owner(), Said(is_prompt=False), GoodHost()
    line = a_line(owner, said, host)
    for number in range(3):
        line.offer(numbered(number), b"")
    for _ in range(200):
        await asyncio.sleep(0)
    assert (host.count, host.errand) == (0, None)
    assert not said.records
    said.is_prompt = True
    await until(lambda: len(said.records) == 3)
    assert host.count == 3
    # What waits for it is handed back at a drain like all that has not begun.
    said.is_prompt = False
    line.offer(numbered(3), b"")
    owner.stopping = True
    line.stop()
    await until(lambda: len(said.records) == 4)
    assert isinstance(said.records[3], Handback)
    assert said.records[3].reason == "drain"
    await line.close()


async def test_a_bug_in_an_attempt_ends_its_connection_and_the_next_grant_gets_another() -> None:
    class HostWithABug(WarningHost):
        def begin(self, transaction: Transaction, errand: Errand, *, within_ns: int) -> None:
            self.count += 1
            if self.count == 1:
                self.usable = False
                asyncio.get_running_loop().call_soon(errand.broken, ZeroDivisionError())
            else:
                self.usable = True
                asyncio.get_running_loop().call_soon(
                    errand.ended, Report(Refused(*self.says), Wire())
                )

    owner, said, host = Owner(), Said(), HostWithABug(says=NOBODY)
    line = a_line(owner, said, host)
    errors: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    line.offer(grant(id="a", t1_ns=10**18, connections=1), b"")
    line.offer(grant(id="b", t1_ns=10**18, connections=1), b"")
    await until(lambda: len(said.records) == 1)
    # Of the other nothing is known, so nothing is said: the scheduler's judgement is `unknown`.
    assert [each.id for each in said.records] == ["b"]
    await line.close()


class SittingHost(GoodHost):
    """Says nothing about what it has got whole, until it is asked to."""

    behind_dot: bool = False

    def wire(self) -> Wire:  # type: ignore[override]
        return Wire()

    def resume(self) -> None:
        pass

    def answers(self) -> None:
        assert self.errand is not None
        self.errand.ended(Report(Accepted(Reply(250)), Wire()))

    def give_up(self, why: str, *, after_dot: bool) -> bool:
        return False


async def test_what_only_waits_for_a_last_reply_is_left_to_nobody_else_and_ends_its_connection() -> (
    None
):
    owner, said, host = Owner(), Said(), SittingHost()
    line = a_line(owner, said, host)
    line.offer(grant(id="m1", t1_ns=10**18, connections=1), b"")
    line.offer(grant(id="m2", t1_ns=10**18, connections=1), b"")
    await until(lambda: host.count == 1)
    assert line.unanswered(1) is None
    host.behind_dot = True
    assert line.unanswered(1) == (Unanswered(id="m1", n=1, key="big", site="mx.x.example"),)
    owner.stopping = True
    line.stop()
    # What was granted before the scheduler heard of it finds no connection that would hand it back.
    line.offer(grant(id="m4", t1_ns=10**18, connections=1), b"")
    said.unacknowledged[0] = 1
    assert line.unanswered(1) is None
    said.unacknowledged[0] = 0
    following = line.successor()
    # Whoever left the slot may have it again: what is old takes nothing of what comes then.
    owner.stopping, owner.epoch = False, 2
    following.new_epoch()
    following.elsewhere(line.unanswered(1) or ())
    following.offer(grant(id="m3", epoch=2, t1_ns=10**18, connections=1), b"")
    assert (following.waiting(), len(following._tasks)) == (1, 0)
    host.answers()
    await until(lambda: not line._tasks)
    assert line.unanswered(1) == ()
    assert host.closed
    assert host.count == 1
    # Its place is free now.
    following.elsewhere(())
    await until(lambda: host.count == 2)
    assert [each.id for each in said.records] == ["m2", "m4", "m1"]
    await following.close()


@dataclass(eq=False)
class ProvidersHost(GoodHost):
    """Takes mail for every site but ``dead``, whose hosts do not answer at ``stage``."""

    stage: str = "connect"
    reply: Reply | None = None

    def wire(self) -> Wire:  # type: ignore[override]
        return Wire()

    def resume(self) -> None:
        pass

    async def connect(self, grant: Grant, turn: object) -> "GoodHost":
        if grant.site == "dead":
            raise Unreachable("no answer in time", stage=self.stage, reply=self.reply)
        return self

    def begin(self, transaction: Transaction, errand: Errand, *, within_ns: int) -> None:
        self.count += 1
        report = Report(Accepted(Reply(250)), Wire(end_ns=StoppedClock().now_ns()))
        asyncio.get_running_loop().call_soon(errand.ended, report)


@pytest.mark.parametrize(
    ("host", "works", "result"),
    [
        (ProvidersHost(), True, "deferred"),
        (ProvidersHost(stage="banner"), True, "deferred"),
        (ProvidersHost(stage="dns"), True, "deferred"),
        # Nobody's mail is taken: it is the provider's trouble, or ours.
        (ProvidersHost(), False, "pair_failed"),
        (ProvidersHost(stage="dns"), False, "pair_failed"),
        # The host's own word, and what went wrong later.
        (ProvidersHost(stage="banner", reply=Reply(554)), True, "pair_failed"),
        (ProvidersHost(stage="ehlo"), True, "pair_failed"),
    ],
)
async def test_one_domain_that_points_at_nobody_does_not_pause_its_providers_other_mail(
    host: ProvidersHost, works: bool, result: str
) -> None:
    owner, said = Owner(), Said()
    line = a_line(owner, said, host)
    if works:
        line.offer(grant(id="good", t1_ns=10**18, connections=9), b"")
        await until(lambda: len(said.records) == 1)
    line.offer(grant(id="bad", site="dead", t1_ns=10**18, connections=9), b"")
    await until(lambda: any(each.id == "bad" for each in said.records))
    bad = next(each for each in said.records if each.id == "bad")
    assert isinstance(bad, Outcome)
    assert bad.result == result
    assert bad.unreached == (result == "deferred")
    assert bad.warns == (result == "pair_failed")
    await line.close()


async def test_a_site_that_has_just_taken_mail_says_nothing_of_its_own_failure() -> None:
    owner, said, host = Owner(), Said(), ProvidersHost()
    line = a_line(owner, said, host)
    pair = line._pair(grant(connections=9))
    pair.worked.good("dead", StoppedClock().now_ns())
    line.offer(grant(id="bad", site="dead", t1_ns=10**18, connections=9), b"")
    await until(lambda: bool(said.records))
    assert isinstance(said.records[0], Outcome)
    assert said.records[0].result == "pair_failed"
    await line.close()


@dataclass
class SourceOfMany:
    """Gives a connection of its own each time; what the source, and what stands, is good enough for may change."""

    usable: bool = True
    secure: bool = True
    made: list[ProvidersHost] = field(default_factory=list)

    async def connect(self, grant: Grant, turn: object) -> GoodHost:
        self.made.append(ProvidersHost())
        return self.made[-1]

    def serves(self, connection: Connection, grant: Grant) -> bool:
        return self.secure


@pytest.mark.parametrize("changed", ["usable", "secure", "messages", "nothing"])
async def test_a_connection_is_used_again_only_by_what_it_is_still_good_for(changed: str) -> None:
    """Of a suspended source nobody knows when its address became another; what must be encrypted goes by no clear connection."""
    owner, said, source = Owner(), Said(), SourceOfMany()
    line = a_line(owner, said, cast("GoodHost", source))
    line.offer(grant(id="m1", t1_ns=10**18), b"")
    await until(lambda: len(said.records) == 1)
    if changed in ("usable", "secure"):
        setattr(source, changed, False)
    most = 1 if changed == "messages" else 9
    line.offer(grant(id="m2", t1_ns=10**18, messages_per_connection=most), b"")
    await until(lambda: len(said.records) == 2)
    assert source.made[0].closed == (changed != "nothing")
    assert len(source.made) == (1 if changed == "nothing" else 2)
    # Nor in the same breath, without the coroutine.
    if changed in ("usable", "secure"):
        setattr(source, changed, True)
    line.offer(grant(id="m3", t1_ns=10**18), b"")
    line.offer(grant(id="m4", t1_ns=10**18), b"")
    if changed in ("usable", "secure"):
        setattr(source, changed, False)
    before = len(source.made)
    await until(lambda: len(said.records) == 4)
    assert (len(source.made) > before) == (changed in ("usable", "secure"))
    await line.close()
