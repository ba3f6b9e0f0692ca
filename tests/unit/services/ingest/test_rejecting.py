"""Nothing keeps a record from being accepted or rejected: what broke its round would else come back for ever."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import structlog
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.intake import Outcome, Refusal, Source, read
from services.ingest.problem import Problem
from services.ingest.worker import Shell, Worker
from services.ingest.writes import Writes
from shared.kafka.suspicion import Suspicion
from shared.records.lanemap import LaneMap, propose
from shared.records.rejected import REJECTED, Rejected
from shared.records.submission import Submission
from shared.records.topics import Topics
from tests.unit.services.ingest.making import NOW, settings

TOPICS = Topics("")
HEAD = b"From: a@acme.example\r\nTo: b@c.example\r\nSubject: x\r\n\r\nhello\r\n"
LINES = st.sampled_from(
    [
        b'{"v":1,"tenant":"acme","from":"a@acme.example","to":["b@c.example"]}',
        b'{"v":1,"tenant":"nobody","from":"","to":["b","c@d"],"id":"\xff"}',
        b'{"v":1,"tenant":"acme","from":"a@acme.example","to":[]}',
    ]
)
#: With halves of surrogates, which no encoder takes.
ANY_TEXT = st.text(st.characters(), max_size=20)


@dataclass
class Record:
    value: bytes | None
    topic: str = field(default_factory=lambda: TOPICS.submissions("bulk"))
    partition: int = 0
    offset: int = 7
    timestamp: int = NOW // 1_000_000
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def became(
    value: bytes | None, reading: Any = read, *, condemned: bool = False
) -> tuple[Outcome, Writes]:
    """Take a record through all that a round does before its transaction."""
    suspicion = Suspicion(10)
    record = Record(value)
    if condemned:
        suspicion.bad.add((record.topic, record.offset))
    shell = cast(
        "Shell",
        SimpleNamespace(
            settings=settings(), topics=TOPICS, log=structlog.get_logger(), read=reading
        ),
    )
    worker = Worker(0, shell, suspicion)
    lanes = propose(1, 2, {}, [])
    assert isinstance(lanes, LaneMap)
    return worker._encode(worker._step(cast("Any", record), NOW), lanes, {}, NOW)


def told(writes: Writes) -> Rejected:
    (first, *_) = writes.records
    assert first.topic == TOPICS.rejected
    found = REJECTED.decode(first.value)
    assert isinstance(found, Rejected), found
    return found


@given(
    st.none() | st.binary(max_size=200) | st.builds(lambda line: line + b"\n" + HEAD, LINES),
    st.booleans(),
)
def test_any_bytes_are_accepted_or_rejected(value: bytes | None, condemned: bool) -> None:
    outcome, writes = became(value, condemned=condemned)
    if isinstance(outcome, Refusal):
        assert told(writes).offset == 7
    else:
        assert not condemned
        assert writes.records


@given(ANY_TEXT, st.lists(st.tuples(ANY_TEXT, ANY_TEXT), max_size=3), ANY_TEXT)
def test_whatever_a_refusal_says_the_record_is_rejected(
    reason: str, said: list[tuple[str, str]], name: str
) -> None:
    def refusing(source: Source, *_: object) -> Refusal:
        problems = tuple(Problem(*each) for each in said)
        return Refusal(source, reason, problems, Submission(tenant=name, from_=name, to=(name,)))

    outcome, writes = became(b"\x00" * 10, refusing)
    assert isinstance(outcome, Refusal)
    assert told(writes).size_bytes == 10


def test_a_record_that_breaks_its_reading_is_rejected() -> None:
    def broken(*_: object) -> Refusal:
        raise ValueError("\ud800")

    outcome, writes = became(b"{}", broken)
    assert isinstance(outcome, Refusal)
    assert told(writes).reason == "internal"
