"""The script against a scripted peer: examples of every turn, then properties over peers that say anything, cut anywhere."""

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.sender.smtp.envelope import Capabilities, Transaction
from services.sender.smtp.reply import Reply
from services.sender.smtp.session import (
    Accepted,
    BodyWanted,
    Dropped,
    Event,
    Lost,
    Phase,
    Refused,
    Script,
    TurnWanted,
)

PIPELINING = Capabilities(
    pipelining=True, size=True, size_max=10_000, eight_bit=True, smtputf8=True
)
LOCKSTEP = Capabilities()
WHAT = Transaction("bounce@example.com", "user@example.net", 100)
MESSAGE = b"Subject: hello\r\n\r\n.dot\r\nend\r\n"


@dataclass
class Run:
    """A script and the answers that its peer gives, in order; the message and the dot are given as soon as they are wanted."""

    script: Script
    gate: bool = True
    turn: bool = True
    events: list[Event] = field(default_factory=list)
    written: bytes = b""

    def start(self) -> "Run":
        self.take(self.script.start())
        return self

    def take(self, events: list[Event]) -> None:
        self.events += events
        self.written += self.script.take_output()
        if TurnWanted() in events and self.turn:
            assert b"RCPT" not in self.written
            self.take(self.script.take_turn())
        if self.script.phase is Phase.BODY and any(
            isinstance(event, BodyWanted) for event in events
        ):
            self.write_body()

    def write_body(self) -> None:
        self.written += b"".join(self.script.body(MESSAGE))
        self.take(self.script.release_dot() if self.gate else self.script.drop("gate"))

    def hear(self, *chunks: bytes) -> "Run":
        for chunk in chunks:
            self.take(self.script.receive(chunk))
        return self


def run(
    capabilities: Capabilities,
    *chunks: bytes,
    what: Transaction = WHAT,
    gate: bool = True,
    reset: bool = False,
) -> Run:
    return Run(Script(what, capabilities, reset=reset), gate=gate).start().hear(*chunks)


WIRE_MESSAGE = b"Subject: hello\r\n\r\n..dot\r\nend\r\n.\r\n"


def test_with_pipelining_one_write_holds_the_envelope_and_data() -> None:
    going = run(PIPELINING)
    assert (
        going.written
        == b"MAIL FROM:<bounce@example.com> SIZE=100\r\nRCPT TO:<user@example.net>\r\nDATA\r\n"
    )
    going.hear(b"250 ok\r\n250 ok\r\n354 go\r\n")
    assert going.written.endswith(WIRE_MESSAGE)
    going.hear(b"250 2.0.0 queued as 7\r\n")
    assert going.script.result == Accepted(Reply(250, "2.0.0", "queued as 7"))
    assert not going.script.closing
    assert not going.script.unreset


def test_without_pipelining_each_command_waits_for_the_reply_before() -> None:
    going = run(LOCKSTEP)
    assert going.written == b"MAIL FROM:<bounce@example.com>\r\n"
    going.hear(b"250 ok\r\n")
    assert going.written.endswith(b">\r\nRCPT TO:<user@example.net>\r\n")
    going.hear(b"250 ok\r\n")
    assert going.written.endswith(b"\r\nDATA\r\n")
    going.hear(b"354 go\r\n", b"250 ok\r\n")
    assert isinstance(going.script.result, Accepted)


@pytest.mark.parametrize(
    ("capabilities", "before"),
    [(PIPELINING, b""), (LOCKSTEP, b"MAIL FROM:<bounce@example.com>\r\n")],
)
def test_the_write_that_holds_rcpt_waits_for_its_turn(
    capabilities: Capabilities, before: bytes
) -> None:
    going = Run(Script(WHAT, capabilities), turn=False).start()
    if before:
        going.hear(b"250 ok\r\n")
    assert going.script.phase is Phase.TURN
    assert going.written == before
    going.take(going.script.take_turn())
    assert b"RCPT TO:<user@example.net>\r\n" in going.written


@pytest.mark.parametrize("capabilities", [PIPELINING, LOCKSTEP])
def test_a_turn_that_does_not_come_leaves_a_connection_that_serves_the_next(
    capabilities: Capabilities,
) -> None:
    going = Run(Script(WHAT, capabilities), turn=False).start()
    if not capabilities.pipelining:
        going.hear(b"250 ok\r\n")
    going.take(going.script.drop("late"))
    assert going.script.result == Dropped("late")
    assert not going.script.closing
    # The peer holds the envelope where it has heard MAIL.
    assert going.script.unreset is not capabilities.pipelining


@pytest.mark.parametrize("said", [b"250 what\r\n", b"25", b"421 4.3.2 bye\r\n"])
def test_who_speaks_while_its_turn_is_waited_for_gets_no_recipient(said: bytes) -> None:
    going = Run(Script(WHAT, LOCKSTEP), turn=False).start().hear(b"250 ok\r\n", said)
    if going.script.result is None:
        going.take(going.script.take_turn())
    assert going.script.closing
    assert b"RCPT" not in going.written
    assert isinstance(going.script.result, Lost | Refused)


def test_the_null_return_path_stays_empty() -> None:
    assert run(LOCKSTEP, what=Transaction("", "a@b.example", 1)).written == b"MAIL FROM:<>\r\n"


def test_what_the_message_needs_is_asked_for_where_it_is_offered() -> None:
    what = Transaction("j\u00f6rg@example.com", "a@b.example", 5, eight_bit=True, smtputf8=True)
    mail, _ = run(PIPELINING, what=what).written.split(b"\r\n", 1)
    assert mail == "MAIL FROM:<j\u00f6rg@example.com> SIZE=5 BODY=8BITMIME SMTPUTF8".encode()


@pytest.mark.parametrize(
    ("capabilities", "what", "enhanced"),
    [
        (PIPELINING, Transaction("a@b.example", "c@d.example", 10_001), "5.3.4"),
        (LOCKSTEP, Transaction("a@b.example", "c@d.example", 1, smtputf8=True), "5.6.7"),
        (LOCKSTEP, Transaction("a@b.example", "\u00e9@d.example", 1), "5.6.7"),
        (LOCKSTEP, Transaction("a@b.example", "c@d.example", 1, eight_bit=True), "5.6.3"),
        (PIPELINING, Transaction("a@b.example", "c@d.example>\r\nDATA", 1), "5.1.3"),
        (PIPELINING, Transaction("a@b.example", "c d@d.example", 1), "5.1.3"),
        (PIPELINING, Transaction("a@b.example", '"a\r\nb"@d.example', 1), "5.1.3"),
        (PIPELINING, Transaction("a@b.example", '"a\u2028b"@d.example', 1), "5.1.3"),
        (PIPELINING, Transaction("a@b.example", "", 1), "5.1.3"),
        (PIPELINING, Transaction("a@b.example> SIZE=1", "c@d.example", 1), "5.1.7"),
    ],
)
def test_what_the_peer_cannot_take_is_declined_without_a_byte(
    capabilities: Capabilities, what: Transaction, enhanced: str
) -> None:
    going = run(capabilities, what=what)
    assert isinstance(going.script.result, Refused)
    assert (going.script.result.stage, going.script.result.reply.enhanced) == ("local", enhanced)
    assert going.written == b""
    assert not going.script.closing


def test_a_quoted_local_part_may_hold_what_would_end_a_path() -> None:
    assert run(LOCKSTEP, what=Transaction("", '"a> <b"@d.example', 1)).script.result is None


def test_a_size_of_nought_means_no_limit() -> None:
    assert Capabilities.of({"size": "0"}) == Capabilities(size=True)
    assert Capabilities.of({"size": "lots"}) == Capabilities(size=True)


def test_a_refused_recipient_ends_when_all_replies_are_in() -> None:
    going = run(PIPELINING, b"250 ok\r\n550 5.1.1 no\r\n")
    assert going.script.result is None
    going.hear(b"503 no recipients\r\n")
    assert going.script.result == Refused("rcpt", Reply(550, "5.1.1", "no"))
    assert not going.script.closing
    assert going.script.unreset


def test_a_reply_to_rcpt_behind_a_refused_mail_changes_nothing() -> None:
    going = run(PIPELINING, b"550 5.1.8 bad sender\r\n250 ok\r\n503 no\r\n")
    assert going.script.result == Refused("mail", Reply(550, "5.1.8", "bad sender"))
    assert not going.script.unreset


def test_a_354_although_the_recipient_was_refused_gets_a_lone_dot() -> None:
    going = run(PIPELINING, b"250 ok\r\n550 no\r\n354 go\r\n")
    assert going.written.endswith(b"DATA\r\n.\r\n")
    assert going.script.result is None
    going.hear(b"554 no valid recipients\r\n")
    assert going.script.result == Refused("rcpt", Reply(550, "", "no"))


def test_without_pipelining_a_refusal_ends_at_once() -> None:
    going = run(LOCKSTEP, b"250 ok\r\n", b"450 later\r\n")
    assert going.script.result == Refused("rcpt", Reply(450, "", "later"))
    assert going.written.endswith(b"RCPT TO:<user@example.net>\r\n")


@pytest.mark.parametrize("capabilities", [PIPELINING, LOCKSTEP])
def test_a_held_envelope_is_reset_first(capabilities: Capabilities) -> None:
    going = run(capabilities, reset=True)
    assert going.written.startswith(b"RSET\r\n")
    going.hear(b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"250 ok\r\n")
    assert isinstance(going.script.result, Accepted)


def test_a_peer_that_cannot_reset_is_left() -> None:
    going = run(PIPELINING, b"500 what\r\n250 ok\r\n", reset=True)
    assert going.script.result == Refused("rset", Reply(500, "", "what"))
    assert going.script.closing


@pytest.mark.parametrize(
    ("heard", "stage"),
    [
        ([], "mail"),
        ([b"250 ok\r\n"], "rcpt"),
        ([b"250 ok\r\n", b"250 ok\r\n"], "data"),
        ([b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"], "dot"),
    ],
)
@pytest.mark.parametrize("capabilities", [PIPELINING, LOCKSTEP])
def test_a_421_ends_it_at_any_moment(
    capabilities: Capabilities, heard: list[bytes], stage: str
) -> None:
    going = run(capabilities, *heard, b"421 4.3.2 closing\r\n")
    assert going.script.result == Refused(stage, Reply(421, "4.3.2", "closing"))  # type: ignore[arg-type]
    assert going.script.closing


def test_a_refusal_stands_when_the_connection_ends_after_it() -> None:
    going = run(PIPELINING, b"250 ok\r\n550 no\r\n")
    going.take(going.script.lost("closed"))
    assert going.script.result == Refused("rcpt", Reply(550, "", "no"))
    assert going.script.closing


def test_lost_before_the_dot_is_not_lost_after_it() -> None:
    before = Script(WHAT, PIPELINING)
    before.start()
    before.take_turn()
    before.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    before.body(MESSAGE)
    before.lost("closed")
    assert before.result == Lost("body", after_dot=False, why="closed")
    after = run(PIPELINING, b"250 ok\r\n250 ok\r\n354 go\r\n")
    after.take(after.script.lost("closed"))
    assert after.script.result == Lost("dot", after_dot=True, why="closed")


def test_the_dot_is_not_written_before_it_is_released() -> None:
    going = run(PIPELINING, b"250 ok\r\n250 ok\r\n354 go\r\n", gate=False)
    assert going.script.result == Dropped("gate")
    assert going.script.closing
    assert not going.written.endswith(b"\r\n")


@pytest.mark.parametrize("early", [b"250 ok\r\n", b"452 4.3.1 disk full\r\n", b"25"])
def test_a_peer_that_speaks_into_the_message_gets_no_dot(early: bytes) -> None:
    script = Script(WHAT, PIPELINING)
    script.start()
    script.take_turn()
    script.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    script.take_output()
    script.body(MESSAGE)
    script.receive(early)
    if script.result is None:
        script.release_dot()
    assert script.take_output() == b""
    assert script.closing
    match script.result:
        case Refused(stage, reply):
            assert (stage, reply.code) == ("body", 452)
        case other:
            assert isinstance(other, Lost)
            assert not other.after_dot


@pytest.mark.parametrize("capabilities", [PIPELINING, LOCKSTEP])
def test_a_reply_that_nobody_asked_for_is_never_paired_with_a_command(
    capabilities: Capabilities,
) -> None:
    going = run(capabilities, b"250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n")
    assert isinstance(going.script.result, Lost)
    assert not going.script.result.after_dot
    assert going.script.closing


def test_more_than_the_last_reply_closes_the_connection() -> None:
    going = run(PIPELINING, b"250 ok\r\n250 ok\r\n354 go\r\n", b"250 ok\r\n421 bye\r\n")
    assert isinstance(going.script.result, Accepted)
    assert going.script.closing


@pytest.mark.parametrize("nonsense", [b"354 go\r\n", b"ok\r\n", b"250-yes\r\n550 no\r\n"])
def test_nonsense_after_the_dot_is_unknown(nonsense: bytes) -> None:
    going = run(PIPELINING, b"250 ok\r\n250 ok\r\n354 go\r\n", nonsense)
    assert isinstance(going.script.result, Lost)
    assert going.script.result.after_dot


# -- properties

CODES = st.sampled_from([250, 250, 250, 251, 354, 354, 421, 450, 452, 550, 554, 220, 334, 299])
LINES = st.lists(
    st.sampled_from(["", "ok", "5.1.1 no", "4.7.1 later", "-", "x" * 600]), min_size=1, max_size=3
)
GARBAGE = st.sampled_from([b"hello\r\n", b"\r\n", b"99 no\r\n", b"250-a\r\n550 b\r\n", b"\xff\xfe"])
REPLIES = st.one_of(
    st.tuples(CODES, LINES).map(
        lambda made: b"".join(
            b"%d%b%b\r\n" % (made[0], b" " if i == len(made[1]) - 1 else b"-", line.encode())
            for i, line in enumerate(made[1])
        )
    ),
    GARBAGE,
)
CAPABILITIES = st.sampled_from([PIPELINING, LOCKSTEP])


def cut(data: bytes, at: list[int]) -> list[bytes]:
    points = [0, *sorted(point % (len(data) + 1) for point in at), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(points)]


@settings(max_examples=400)
@given(
    CAPABILITIES,
    st.lists(REPLIES, max_size=8),
    st.lists(st.integers(0, 5000), max_size=12),
    st.booleans(),
    st.booleans(),
)
def test_whatever_a_peer_says_there_is_one_result_and_it_is_true(
    capabilities: Capabilities, replies: list[bytes], at: list[int], gate: bool, reset: bool
) -> None:
    going = run(capabilities, *cut(b"".join(replies), at), gate=gate, reset=reset)
    going.take(going.script.lost("closed"))
    script, results = (
        going.script,
        [event for event in going.events if not isinstance(event, TurnWanted | BodyWanted)],
    )
    assert results == [script.result]
    assert script.phase is Phase.DONE
    dotted = going.written.endswith(WIRE_MESSAGE)
    match script.result:
        case Accepted(reply):
            assert dotted
            assert reply.positive
        case Lost(after_dot=after_dot):
            assert after_dot == dotted
            assert script.closing
        case Dropped():
            assert not dotted
            assert script.closing
        case Refused(stage, reply):
            assert reply.code >= 400
            assert stage != "dot" or dotted
        case None:
            pytest.fail("no result")
    # Never two messages, never a dot inside one, and nothing after it.
    assert going.written.count(b"\r\n.\r\n") <= 1
    assert going.written.count(b"MAIL FROM") <= 1


@settings(max_examples=200)
@given(CAPABILITIES, st.lists(st.integers(0, 100), max_size=12))
def test_where_good_replies_are_cut_changes_nothing(
    capabilities: Capabilities, at: list[int]
) -> None:
    # A peer of the lock-step kind answers one command at a time.
    chunks = [
        part
        for line in (b"250-ok\r\n250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"250 2.0.0 ok\r\n")
        for part in cut(line, at)
    ]
    assert run(capabilities, *chunks).script.result == Accepted(Reply(250, "2.0.0", "ok"))


@given(CAPABILITIES, st.lists(REPLIES, max_size=8))
def test_a_script_that_stays_open_may_serve_again(
    capabilities: Capabilities, replies: list[bytes]
) -> None:
    going = run(capabilities, *replies)
    if going.script.result is not None and not going.script.closing:
        again = run(capabilities, reset=going.script.unreset)
        good = [b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"250 ok\r\n"]
        again.hear(*([b"250 ok\r\n"] if going.script.unreset else []), *good)
        assert isinstance(again.script.result, Accepted)
