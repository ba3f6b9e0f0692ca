"""Nothing that went wrong passes as right: events, addresses and the receiving servers' own word must agree."""

import json

import pytest

from services.cli.demo.account import Account, Taken, taken
from services.cli.demo.mail import Mail
from shared.records.event import Event
from shared.records.outcome import Wire

GOOD = Mail(1, "bulk", "acme", "ann@a.test", "delivered")
LOST = Mail(2, "bulk", "acme", "unknown.bob@a.test", "bounced")
DELIVERED = {"type": "delivered", "final": True, "wire": Wire(source_ip="127.0.0.11")}


def event(mail: Mail, **fields: object) -> Event:
    given = {"time": "", "tenant": mail.tenant, "submission": mail.id} | fields
    return Event(**given)  # type: ignore[arg-type]


def account(*events: Event, copies: int = 1, peer: str = "127.0.0.11") -> Account:
    made = Account()
    for each in events:
        made.hear(each)
    made.see(Taken(GOOD.recipient, peer, str(at)) for at in range(copies))
    return made


def problems(made: Account, *mails: Mail) -> list[str]:
    return [text.partition(": ")[2] for text in made.problems(mails)]


def test_all_is_well_when_events_addresses_and_receivers_agree() -> None:
    made = account(
        event(GOOD, type="accepted", final=False),
        event(GOOD, type="deferred", final=False),
        event(GOOD, **DELIVERED),
        event(LOST, type="bounced", final=True),
    )
    assert problems(made, GOOD, LOST) == []
    assert made.ends == {"delivered": 1, "bounced": 1}
    assert made.said["deferred"] == 1


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (account(), "no final event, expected delivered"),
        (account(event(GOOD, type="expired", final=True)), "expired, expected delivered"),
        (
            account(event(GOOD, **DELIVERED), event(GOOD, **DELIVERED)),
            "delivered, delivered, expected delivered",
        ),
        (account(event(GOOD, **DELIVERED), copies=0), "the receiving servers have it 0 times"),
        (account(event(GOOD, **DELIVERED), copies=2), "the receiving servers have it 2 times"),
        (
            account(event(GOOD, **DELIVERED), peer="127.0.0.1"),
            "came from 127.0.0.1, the event says 127.0.0.11",
        ),
    ],
)
def test_what_does_not_agree_is_named(made: Account, problem: str) -> None:
    assert problems(made, GOOD) == [problem]


def test_only_a_delivery_that_was_unknown_may_be_there_twice() -> None:
    made = account(event(GOOD, maybe_duplicate=True, **DELIVERED), copies=2)
    assert problems(made, GOOD) == []
    assert made.copies == 1


def test_what_bounced_is_nowhere() -> None:
    made = account(event(LOST, type="bounced", final=True))
    made.see([Taken(LOST.recipient, "127.0.0.11", "x")])
    assert problems(made, LOST) == ["the receiving servers have it 1 times"]


def test_a_receivers_log_gives_what_it_took_and_nothing_else() -> None:
    rows = [
        {"what": "rcpt", "rcpt": "a@b"},
        {"what": "message", "rcpt": "a@b", "peer": "127.0.0.11", "file": "1"},
        {"what": "message", "rcpt": "refuse.a@b", "peer": "127.0.0.11", "file": ""},
        {"what": "throttled"},
    ]
    assert list(taken(map(json.dumps, rows))) == [Taken("a@b", "127.0.0.11", "1")]
