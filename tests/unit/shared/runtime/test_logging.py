import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from shared.runtime.logging import configure


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


def test_a_value_that_json_does_not_know_is_cut_short() -> None:
    stream = io.BytesIO()
    configure("sender", "pod-1", "info", stream=stream).info("x", value=b"a" * 10_000)
    assert len(lines(stream)[0]["value"]) == 200
