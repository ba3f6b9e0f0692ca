"""Nothing of a message reaches the command stream: what hides an end of message arrives as it was, or is refused; it never splits.

Receivers that can be fooled differ in what they take for an end of message (CVE-2023-51764, -51765, -51766), so the wire is judged by the
most gullible of them, which takes every CR and every LF for a line's end.
"""

import re
from typing import Final

import pytest

from services.ingest import address
from services.ingest.normalise import Stamp, normalise
from services.ingest.problem import Problem
from services.sender.smtp.envelope import Capabilities, Transaction
from services.sender.smtp.session import Phase, Refused, Script

SEQUENCES: Final = (
    b"\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n.\r\n",
    b"\n.\r",
    b"\r.\n",
    b"\r\n\n.\r\n",
    b"\r\n\r.\r\n",
    b"\r\r\n.\r\n",
    b"\n\r\n.\n\r\n",
    b"\r\n.\r\r\n",
    b"\r\n\0.\r\n",
    b"\r\n..\r\n",
)
SECOND: Final = (
    b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<b@example.net>\r\nDATA\r\nFrom: a\r\n\r\nx\r\n.\r\n"
)
HEAD: Final = b"From: News <n@acme.example>\r\nSubject: hello"
TAIL: Final = b"end\r\n"
POSITIONS: Final = {
    "header": lambda evil: HEAD + evil + b"\r\nX-Y: z\r\n\r\n" + TAIL,
    "begin": lambda evil: HEAD + b"\r\n\r\n" + evil.removeprefix(b"\r\n") + TAIL,
    "middle": lambda evil: HEAD + b"\r\n\r\nline\r\nand" + evil + TAIL,
    "end": lambda evil: HEAD + b"\r\n\r\nline" + evil,
}
#: What somebody, somewhere, takes for the end of a message.
GULLIBLE: Final = re.compile(rb"(?:\r\n|\r|\n)\.(?:\r\n|\r|\n)")
STAMP: Final = Stamp(0, 0, "t0", message_id=False)
CAPABILITIES: Final = [Capabilities(), Capabilities(pipelining=True, eight_bit=True)]


def wire(message: bytes, capabilities: Capabilities) -> bytes | None:
    """Give what a peer hears behind its 354; None: it got no end of message."""
    script = Script(Transaction("b@acme.example", "u@example.net", len(message)), capabilities)
    script.start()
    for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
        if script.phase is Phase.TURN:
            script.take_turn()
        script.receive(reply)
    if script.phase is Phase.TURN:
        script.take_turn()
    script.take_output()
    assert script.phase is Phase.BODY
    heard = b"".join(script.body(message))
    if script.result is None:
        script.release_dot()
        heard += script.take_output()
    if script.result is not None:
        assert isinstance(script.result, Refused)
        assert script.closing
        assert script.take_output() == b""
        return None
    return heard


def unstuffed(heard: bytes) -> bytes:
    """Give what a receiver that follows RFC 5321 4.5.2 makes of it."""
    assert heard.endswith(b"\r\n.\r\n")
    text = heard.removesuffix(b".\r\n").replace(b"\r\n.", b"\r\n")
    return text.removeprefix(b".")


@pytest.mark.parametrize("capabilities", CAPABILITIES)
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_the_sender_passes_it_on_byte_by_byte_or_not_at_all(
    sequence: bytes, position: str, capabilities: Capabilities
) -> None:
    message = POSITIONS[position](sequence + SECOND)
    heard = wire(message, capabilities)
    if heard is None:
        assert re.search(rb"(?<!\r)\n|\r(?!\n)", message), "only a bare CR or LF is refused here"
        return
    assert unstuffed(heard) == message
    assert [found.end() for found in GULLIBLE.finditer(heard)] == [len(heard)]


@pytest.mark.parametrize("lines", ["CRLF", "LF"])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_what_ingest_lets_through_arrives_as_one_message(
    sequence: bytes, position: str, lines: str
) -> None:
    message = POSITIONS[position](sequence + SECOND)
    if lines == "LF":
        # All of it with LF alone, which ingest converts, but for what the sequence itself has.
        message = message.replace(b"\r\n", b"\n")
    found = normalise(message, domains={"acme.example"}, max_bytes=1 << 20, stamp=STAMP)
    if isinstance(found, Problem):
        return
    assert b"\0" not in message
    # What was added stands before what came.
    assert found.data.endswith(message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    for capabilities in CAPABILITIES:
        heard = wire(found.data, capabilities)
        assert heard is not None, "ingest lets nothing through that the sender refuses"
        assert unstuffed(heard) == found.data
        assert [end.end() for end in GULLIBLE.finditer(heard)] == [len(heard)]


def test_some_sequences_arrive_and_some_are_refused() -> None:
    """Otherwise the two tests above would show nothing."""
    fates = {
        sequence: wire(POSITIONS["middle"](sequence), Capabilities()) is not None
        for sequence in SEQUENCES
    }
    assert {sequence for sequence, arrives in fates.items() if arrives} == {
        b"\r\n.\r\n",
        b"\r\n..\r\n",
        b"\r\n\0.\r\n",
    }


INJECTIONS: Final = [*(sequence.decode() for sequence in SEQUENCES), "\u2028", "\x85", ">", " "]
PLACES: Final = ("{}u@example.net", "u{}v@example.net", "u@{}example.net", "u@example.net{}")
COMMAND: Final = "RCPT TO:<evil@example.org>"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("injection", INJECTIONS)
def test_no_address_adds_to_a_command(injection: str, place: str) -> None:
    text = place.format(injection + COMMAND)
    assert isinstance(address.parse(text, "to[0]"), Problem)
    for transaction in (
        Transaction("b@acme.example", text, 1),
        Transaction(text, "u@b.example", 1),
    ):
        script = Script(transaction, Capabilities(pipelining=True, smtputf8=True))
        script.start()
        assert isinstance(script.result, Refused)
        assert script.result.stage == "local"
        assert script.take_output() == b""
