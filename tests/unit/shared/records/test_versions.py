"""A newer version's record is told from rubbish, whatever its fields are, so that nobody throws it away."""

import json
from typing import Any

import pytest

from shared.records.body import BODY
from shared.records.codec import OLDEST, UNSAID, VERSION, Codec, Newer, Unreadable
from shared.records.control import CONTROL
from shared.records.delivery import DELIVERY
from shared.records.event import EVENT
from shared.records.grant import GRANT
from shared.records.outcome import OUTCOME
from shared.records.rejected import REJECTED
from shared.records.state import STATE, Meta
from shared.records.submission import SUBMISSION

CODECS: list[Codec[Any]] = [BODY, CONTROL, DELIVERY, EVENT, GRANT, OUTCOME, REJECTED, STATE, SUBMISSION]  # fmt: skip


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("fields", [{}, {"k": "never seen"}, {"k": "meta", "id": {"now": "a map"}}])
def test_a_higher_version_is_newer_whatever_else_it_says(
    codec: Codec[Any], fields: dict[str, Any]
) -> None:
    found = codec.decode(line(**fields, v=VERSION + 1) + b"\nbody")
    assert found == Newer(f"v: this reader knows version {VERSION}, got {VERSION + 1}")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("version", [OLDEST - 1, -1, "2", None, 2.5, [2]])
def test_no_version_of_ours_is_rubbish(codec: Codec[Any], version: object) -> None:
    found = codec.decode(line(k="never seen", v=version))
    assert isinstance(found, Unreadable)
    assert not isinstance(found, Newer)


def test_what_says_no_version_is_of_the_first_for_ever() -> None:
    assert UNSAID == 1, "mail.state is full of records that leave it out"
    assert STATE.decode(line(k="meta")) == Meta()
    newer = STATE.decode(line(k="meta", v=VERSION + 1))
    assert isinstance(newer, Newer)


def test_a_field_of_a_newer_version_is_passed_over() -> None:
    assert STATE.decode(line(k="meta", to_come={"deep": [1]})) == Meta()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("start", [b'{"tags":', b'{"v":9,"never seen":', b'{"k":"meta","v":', b""])
def test_what_is_nested_without_end_is_rubbish(codec: Codec[Any], start: bytes) -> None:
    found = codec.decode(start + b"[" * 100_000)
    assert isinstance(found, Unreadable)
    assert not isinstance(found, Newer)
