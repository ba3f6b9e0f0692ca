import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from shared.runtime.clock import SystemClock
from shared.runtime.logging import configure

S = 1_000_000_000


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json_with_its_fields() -> None:
    stream = io.BytesIO()
    log = configure("sender", "pod-1", "info", stream=stream)
    log.info("slot_ready", slot=3)
    log.debug("not_said")
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "slot_ready",
        "level": "info",
        "service": "sender",
        "pod": "pod-1",
        "slot": 3,
    }


def test_a_traceback_comes_without_the_variables_of_its_frames() -> None:
    stream = io.BytesIO()
    log = configure("sender", "pod-1", "info", stream=stream)
    password = "hunter" + "2"
    try:
        raise ValueError(len(password))
    except ValueError:
        log.exception("bug")
    (line,) = lines(stream)
    assert line["exception"][0]["exc_type"] == "ValueError"
    assert line["exception"][0]["frames"][0]["name"]
    assert b"hunter2" not in stream.getvalue()


@pytest.mark.parametrize("allowed", [False, True])
def test_addresses_are_logged_only_where_the_operator_wants_them(allowed: bool) -> None:
    stream = io.BytesIO()
    log = configure("sender", "pod-1", "info", recipients=allowed, stream=stream)
    log.info("delivered", recipient="ada@example.com", return_path="x@example.com", n=1)
    assert (b"ada@example.com" in stream.getvalue()) == allowed
    assert lines(stream)[0]["n"] == 1


def test_what_a_library_logs_comes_out_in_our_form() -> None:
    stream = io.BytesIO()
    configure("sender", "pod-1", "info", stream=stream)
    logging.getLogger("aiokafka").warning("no leader for %s", "t")
    logging.getLogger("aiokafka").info("found a coordinator")
    (line,) = lines(stream)
    assert (line["event"], line["logger"], line["message"]) == (
        "library",
        "aiokafka",
        "no leader for t",
    )


@dataclass
class Clock(SystemClock):
    """Moved by hand."""

    at_ns: int = 0

    def mono_ns(self) -> int:
        return self.at_ns


def test_a_librarys_message_is_let_through_once_and_then_counted() -> None:
    stream, clock = io.BytesIO(), Clock()
    configure("sender", "pod-1", "info", stream=stream, clock=clock)
    library = logging.getLogger("aiokafka")
    for tenths in range(250):
        clock.at_ns = tenths * S // 10
        library.error("no leader for %s", f"t{tenths}")
        library.getChild("conn").warning("closed")
    said = [
        (line["event"], line["logger"], line.get("times"), line["message"])
        for line in lines(stream)
    ]
    told = [each for each in said if each[1] == "aiokafka"]
    assert told == [
        ("library", "aiokafka", None, "no leader for t0"),
        ("library_repeated", "aiokafka", 99, "no leader for %s"),
        ("library", "aiokafka", None, "no leader for t100"),
        ("library_repeated", "aiokafka", 99, "no leader for %s"),
        ("library", "aiokafka", None, "no leader for t200"),
    ]
    assert len(said) == 2 * len(told)
    assert {line["level"] for line in lines(stream) if line["logger"] == "aiokafka"} == {"error"}


def test_what_was_counted_is_said_when_something_else_is_heard_or_the_process_ends() -> None:
    stream, clock = io.BytesIO(), Clock()
    configure("sender", "pod-1", "info", stream=stream, clock=clock)
    for _ in range(3):
        logging.getLogger("one").warning("away")
    clock.at_ns = 10 * S
    for _ in range(2):
        logging.getLogger("other").warning("back")
    assert [(line["logger"], line.get("times")) for line in lines(stream)] == [
        ("one", None),
        ("one", 2),
        ("other", None),
    ]
    logging.getLogger().handlers[0].close()
    assert [line.get("times") for line in lines(stream)[3:]] == [1]


def test_a_library_that_never_says_the_same_twice_is_not_remembered_for_ever() -> None:
    stream = io.BytesIO()
    configure("sender", "pod-1", "info", stream=stream, clock=Clock())
    for at in range(3000):
        logging.getLogger("one").warning(f"number {at}")  # noqa: G004 - as libraries do
    logging.getLogger("one").warning("number 2999")
    logging.getLogger("one").warning("number 0")
    assert len(lines(stream)) == 3001


def test_a_value_that_json_does_not_know_is_cut_short() -> None:
    stream = io.BytesIO()
    configure("sender", "pod-1", "info", stream=stream).info("x", value=b"a" * 10_000)
    assert len(lines(stream)[0]["value"]) == 200
