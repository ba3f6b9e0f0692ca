"""Claims of the reaction table: every row is run, and whose trouble it is decides who waits."""

from typing import Any

import pytest

from services.scheduler.policy import reactions
from services.scheduler.policy.published import PUBLISHED, Published
from services.scheduler.policy.reaction import (
    BLOCKED,
    Fail,
    Fewer,
    Good,
    Nothing,
    Reaction,
    Slow,
    SlowDomain,
    Suspend,
    SuspendDomain,
)
from services.scheduler.policy.reactions import ROWS, Row
from shared.records.outcome import Outcome, Reply, Result
from shared.runtime import defaults

TAKEN_FOR: tuple[tuple[Result, str, str], ...] = (
    ("bounced", "invalid_mailbox", "recipient"),
    ("deferred", "other", "message"),
    ("pair_failed", "connection", "pair"),
)


def outcome(result: Result, category: str, scope: str, **reply: Any) -> Outcome:
    made: dict[str, Any] = {"code": 421, "stage": "mail"} | reply
    said = Reply(**made) if reply else None
    return Outcome(
        id="d", n=1, slot=0, epoch=1, result=result, category=category, scope=scope, reply=said
    )


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row.provider} {row.sample[2][:24]}")
def test_a_published_row_speaks_of_its_sample_and_no_earlier_row_does(row: Published) -> None:
    code, enhanced, text = row.sample
    said = outcome("deferred", "rate", "pair", code=code, enhanced=enhanced, text=text)
    assert reactions.of(row.provider, said) == row.reaction
    assert row.source
    assert row.provider in defaults.PROVIDERS
    # Another provider's word means what its category says.
    assert reactions.of("other", said) == Slow()
    assert reactions.of(None, said) == Slow()
    # Whatever the sender took it for.
    for result, category, scope in TAKEN_FOR:
        taken_for = outcome(result, category, scope, code=code, enhanced=enhanced, text=text)
        assert reactions.of(row.provider, taken_for) == row.reaction


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.category} {row.scope}")
@pytest.mark.parametrize("result", ["deferred", "bounced"])
def test_a_row_holds_for_its_category_and_scope(row: Row, result: Result) -> None:
    assert reactions.of(None, outcome(result, row.category, row.scope)) == row.reaction
    for scope in ("recipient", "message"):
        found = reactions.of(None, outcome(result, row.category, scope))
        assert found in (Nothing(), Good())


def test_what_an_operator_must_mend_says_what_to_do() -> None:
    for row in ROWS:
        if isinstance(row.reaction, Suspend | SuspendDomain | SlowDomain):
            assert len(row.reaction.fix) > 40
    for published in PUBLISHED:
        if isinstance(published.reaction, Suspend):
            assert published.reaction.fix


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (outcome("delivered", "", ""), Good()),
        (outcome("bounced", "invalid_mailbox", "recipient"), Good()),
        (outcome("deferred", "greylist", "recipient"), Nothing()),
        (outcome("deferred", "mailbox_full", "recipient"), Nothing()),
        (outcome("deferred", "rate", "recipient"), Nothing()),
        (outcome("bounced", "spam", "message"), Nothing()),
        (outcome("unknown", "connection", "pair"), Nothing()),
        (outcome("deferred", "dkim", "domain"), Nothing()),
        (outcome("pair_failed", "connection", "pair"), Fail()),
        (outcome("pair_failed", "closing", "pair"), Fail()),
        (outcome("pair_failed", "tls", "pair"), Fail()),
        (outcome("pair_failed", "rate", "pair", stage="banner"), Fewer()),
        (outcome("pair_failed", "rate", "pair", stage="mail"), Slow()),
        (outcome("pair_failed", "block", "pair", stage="banner"), Suspend(fix=BLOCKED)),
        (outcome("deferred", "host", "provider"), Fail(everywhere=True)),
    ],
)
def test_whose_trouble_it_is_decides(said: Outcome, expected: Reaction) -> None:
    assert reactions.of("gmail", said) == expected


def test_gmails_quota_stops_for_ten_minutes_and_comes_back_with_one_connection() -> None:
    said = outcome("pair_failed", "rate", "pair", enhanced="4.7.28", text="unusual rate")
    assert reactions.of("gmail", said) == Slow(600_000_000_000, 1)


def test_what_is_published_of_sources_does_not_speak_of_a_sending_domain() -> None:
    text = "Gmail has detected an unusual rate of mail from your DKIM domain"
    said = outcome("deferred", "rate", "domain", code=421, enhanced="4.7.28", text=text)
    assert isinstance(reactions.of("gmail", said), SlowDomain)
