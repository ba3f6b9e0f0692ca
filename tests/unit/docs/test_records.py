"""docs/records.md is true: every example is read and written again, and every field of every record is in its table."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.records import backoff, control, health, shares, state
from shared.records.body import BODY, Body
from shared.records.codec import Codec, Unreadable, encode, split
from shared.records.configuration import Configuration
from shared.records.delivery import DELIVERY, Delivery, Handover, Late
from shared.records.event import EVENT, Configured, Event, Ordering
from shared.records.grant import GRANT, Grant
from shared.records.key import KEY, Key
from shared.records.lanemap import LaneMap
from shared.records.outcome import (
    OUTCOME,
    Handback,
    Mark,
    Outcome,
    Reply,
    Started,
    Wire,
)
from shared.records.rejected import REJECTED, Rejected
from shared.records.submission import SUBMISSION, Attachment, Message, Submission

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "records.md").read_text()
#: What an example's fence names -> how it is read.
CODECS: dict[str, Codec[Any]] = {
    "submission": SUBMISSION,
    "event": EVENT,
    "rejected": REJECTED,
    "key": KEY,
    "delivery": DELIVERY,
    "handover": DELIVERY,
    "late": DELIVERY,
    "grant": GRANT,
    "started": OUTCOME,
    "outcome": OUTCOME,
    "handback": OUTCOME,
    "mark": OUTCOME,
    "state": state.STATE,
    "body": BODY,
    "control": control.CONTROL,
}
#: Heading -> the type whose fields its table lists.
TYPES: dict[str, type[msgspec.Struct]] = {
    "submission": Submission,
    "message": Message,
    "attachment": Attachment,
    "event": Event,
    "ordering": Ordering,
    "configured": Configured,
    "reply": Reply,
    "wire": Wire,
    "rejected": Rejected,
    "key": Key,
    "delivery": Delivery,
    "handover": Handover,
    "late": Late,
    "grant": Grant,
    "started": Started,
    "outcome": Outcome,
    "handback": Handback,
    "mark": Mark,
    "state of a delivery": state.DeliveryState,
    "open": state.Open,
    "state of a pair": state.PairState,
    "health": health.Health,
    "back-off": backoff.Backoff,
    "allowance": backoff.Allowance,
    "suspension": backoff.Suspension,
    "warm-up": state.WarmupState,
    "state of a total": state.TotalState,
    "spill-over": state.SpillState,
    "state of a sending domain": state.DomainState,
    "state of a lane": state.LaneState,
    "state of a delivery that moved": state.MovedState,
    "state of a parked unit": state.ParkedState,
    "state of an order": state.OrderState,
    "meta": state.Meta,
    "body": Body,
    "claim": control.Claim,
    "heartbeat": control.Heartbeat,
    "released": control.Released,
    "left": control.Left,
    "unanswered": control.Unanswered,
    "hello": control.Hello,
    "present": control.Present,
    "source": control.SourceState,
    "lanemap": LaneMap,
    "configuration": Configuration,
    "answering": control.Answering,
    "directive": control.Directive,
    "rate": control.OrderedRate,
    "want": shares.Want,
    "shares": shares.Shares,
    "share": shares.Share,
}
SECTIONS = {
    part.partition("\n")[0].strip(): part
    for part in re.split(r"^###? ", PAGE, flags=re.MULTILINE)[1:]
}
EXAMPLES = re.findall(r"^```json (\w+)\n(.*?)\n```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def fields(kind: type[msgspec.Struct]) -> set[str]:
    """The names on the wire, but for the version, which every record has."""
    names = {field.encode_name for field in msgspec.structs.fields(kind)} - {"v"}
    tag = kind.__struct_config__.tag_field
    return names | {tag} if tag else names


@pytest.mark.parametrize(("kind", "text"), EXAMPLES)
def test_every_example_is_read_and_written_again(kind: str, text: str) -> None:
    value = text.encode()
    record = CODECS[kind].decode(value)
    assert not isinstance(record, Unreadable), record
    line, body = split(value)
    again = encode(record, body)
    assert json.loads(split(again)[0]) == json.loads(line)
    assert split(again)[1] == body
    assert CODECS[kind].decode(again) == record


@pytest.mark.parametrize("heading", TYPES)
def test_every_field_is_in_its_table(heading: str) -> None:
    listed = re.findall(r"^\| `([^`]+)` \|", SECTIONS[heading], flags=re.MULTILINE)
    assert len(set(listed)) == len(listed)
    assert set(listed) == fields(TYPES[heading])


def test_every_field_is_in_some_example() -> None:
    shown: dict[type, set[str]] = {kind: set() for kind in TYPES.values()}

    def look(value: Any, raw: Any) -> None:
        if isinstance(value, msgspec.Struct) and isinstance(raw, dict):
            shown.setdefault(type(value), set()).update(raw)
            for field in msgspec.structs.fields(type(value)):
                look(getattr(value, field.name), raw.get(field.encode_name))
        elif isinstance(value, dict) and isinstance(raw, dict):
            for name, one in value.items():
                look(one, raw[str(name)])
        elif isinstance(value, tuple | list) and isinstance(raw, list):
            for one, other in zip(value, raw, strict=True):
                look(one, other)

    for kind, text in EXAMPLES:
        line = split(text.encode())[0]
        look(CODECS[kind].decode(line), json.loads(line))
    for kind, names in shown.items():
        assert names - {"v"} == fields(kind), kind


def test_no_record_is_missing_on_the_page() -> None:
    def types(codec: Codec[Any]) -> set[type]:
        kind = codec._decoder.type
        return set(getattr(kind, "__args__", (kind,)))

    documented = set(TYPES.values())
    for codec in CODECS.values():
        assert types(codec) <= documented
    assert {kind for kind, _ in EXAMPLES} == set(CODECS)
