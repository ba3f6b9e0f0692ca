import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sender.smtp import classify
from services.sender.smtp.classify import Verdict, of_reply, of_result
from services.sender.smtp.refusals import RULES, Rule
from services.sender.smtp.reply import Reply, of_text
from services.sender.smtp.session import Accepted, Dropped, Lost, Refused


def reply(line: str) -> Reply:
    code, _, text = line.partition(" ")
    return of_text(int(code), text)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.category}: {rule.sample[1][:40]}")
def test_a_row_is_the_first_that_matches_its_sample(rule: Rule) -> None:
    stage, line = rule.sample
    assert next(row for row in RULES if row.matches(stage, reply(line))) is rule


@pytest.mark.parametrize(
    ("stage", "line", "verdict"),
    [
        ("rcpt", "550 5.1.1 no such user", Verdict("bounced", "invalid_mailbox", "recipient")),
        (
            "rcpt",
            "550 5.1.10 RESOLVER.ADR.RecipientNotFound",
            Verdict("bounced", "invalid_mailbox", "recipient"),
        ),
        ("rcpt", "450 5.1.1 unknown", Verdict("deferred", "invalid_mailbox", "recipient")),
        ("rcpt", "421 4.7.0 rate", Verdict("deferred", "rate", "pair")),
        ("rcpt", "450 4.2.0 Greylisted", Verdict("deferred", "greylist", "recipient")),
        ("rcpt", "451 4.7.1 Please try again later", Verdict("deferred", "greylist", "recipient")),
        ("rcpt", "450 please try again in 5 minutes", Verdict("deferred", "greylist", "recipient")),
        ("dot", "451 4.7.1 greylisting", Verdict("deferred", "greylist", "recipient")),
        ("dot", "452 4.2.2 full", Verdict("deferred", "mailbox_full", "recipient")),
        ("rcpt", "552 5.2.2 over quota", Verdict("bounced", "mailbox_full", "recipient")),
        ("mail", "421 4.3.2 shutting down", Verdict("pair_failed", "rate", "pair")),
        ("mail", "421 bye", Verdict("pair_failed", "connection", "pair")),
        ("banner", "554 no service", Verdict("pair_failed", "connection", "pair")),
        ("banner", "421 too many connections", Verdict("pair_failed", "connections", "pair")),
        (
            "banner",
            "554 5.7.1 blocked using zen.spamhaus.org",
            Verdict("pair_failed", "block", "pair"),
        ),
        ("ehlo", "550 5.1.1 no such user", Verdict("pair_failed", "connection", "pair")),
        ("starttls", "454 TLS not available", Verdict("pair_failed", "tls", "pair")),
        ("starttls", "454 4.7.0 try later", Verdict("pair_failed", "tls", "pair")),
        ("starttls", "421 too many connections", Verdict("pair_failed", "connections", "pair")),
        ("starttls", "421 bye", Verdict("pair_failed", "connection", "pair")),
        # What the connection lacks is no reason to give the mail up.
        (
            "mail",
            "530 5.7.0 Must issue a STARTTLS command first",
            Verdict("deferred", "tls", "pair"),
        ),
        ("auth", "535 5.7.8 bad", Verdict("pair_failed", "credentials", "pair")),
        ("auth", "432 4.7.12 change it", Verdict("pair_failed", "credentials", "pair")),
        # What the host cannot do just now is no password of ours.
        (
            "auth",
            "454 4.7.0 Temporary authentication failure",
            Verdict("pair_failed", "host", "pair"),
        ),
        ("rset", "500 what", Verdict("pair_failed", "connection", "pair")),
        ("rcpt", "421 closing", Verdict("deferred", "closing", "recipient")),
        ("dot", "421 closing", Verdict("deferred", "closing", "message")),
        ("rcpt", "499 unheard of", Verdict("deferred", "other", "recipient")),
        ("rcpt", "599 unheard of", Verdict("bounced", "other", "recipient")),
        ("dot", "554 transaction failed", Verdict("bounced", "other", "message")),
        ("dot", "550 5.7.1 not for us", Verdict("bounced", "policy", "message")),
        # A throttle in the clothes of a bounce.
        ("mail", "550 Ip frequency limited", Verdict("deferred", "rate", "pair")),
        (
            "rcpt",
            "550 5.2.1 user is receiving mail too quickly",
            Verdict("deferred", "rate", "recipient"),
        ),
        # A block storm must not suppress recipients.
        ("rcpt", "550 5.1.1 rejected, see spamhaus", Verdict("bounced", "block", "pair")),
        # Ours, on the peer's behalf.
        ("local", "552 5.3.4 too large", Verdict("bounced", "size", "message")),
        ("local", "550 5.6.7 no SMTPUTF8", Verdict("bounced", "message", "message")),
        ("local", "553 5.1.3 not an address", Verdict("bounced", "invalid_mailbox", "recipient")),
        ("dot", "250 2.0.0 queued, no spam here", Verdict("delivered")),
    ],
)
def test_a_reply_is_judged(stage: str, line: str, verdict: Verdict) -> None:
    assert of_reply(stage, reply(line)) == verdict


@given(
    st.sampled_from(["mail", "rcpt", "data", "dot"]), st.integers(400, 599), st.text(max_size=60)
)
def test_an_envelope_that_was_refused_is_never_delivered_and_never_lost_without_a_word(
    stage: str, code: int, text: str
) -> None:
    verdict = of_reply(stage, of_text(code, text))
    assert verdict.kind in {"deferred", "bounced", "pair_failed"}
    assert verdict.category
    assert verdict.scope
    if code < 500:
        assert verdict.kind != "bounced"


@given(
    st.sampled_from(sorted(classify.BEFORE_ENVELOPE)), st.integers(400, 599), st.text(max_size=60)
)
def test_what_comes_before_the_envelope_is_always_the_pairs(
    stage: str, code: int, text: str
) -> None:
    verdict = of_reply(stage, of_text(code, text))
    assert (verdict.kind, verdict.scope) == ("pair_failed", "pair")


def test_results_are_judged_by_where_they_ended() -> None:
    ok = Reply(250)
    assert of_result(Accepted(ok)) == Verdict("delivered")
    assert of_result(Refused("dot", Reply(554))) == Verdict("bounced", "other", "message")
    assert of_result(Lost("dot", after_dot=True, why="")) == Verdict(
        "unknown", "connection", "pair"
    )
    assert of_result(Lost("mail", after_dot=False, why="")) == Verdict(
        "pair_failed", "connection", "pair"
    )
    assert of_result(Lost("rcpt", after_dot=False, why="")) == Verdict(
        "deferred", "connection", "recipient"
    )
    assert of_result(Lost("body", after_dot=False, why="")) == Verdict(
        "deferred", "connection", "message"
    )
    assert of_result(Dropped("gate")) is None


@pytest.mark.parametrize(
    ("line", "warns"),
    [
        ("421 4.7.28 Gmail has detected an unusual rate of mail from your IP address", True),
        ("421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred", True),
        ("421 4.7.26 unauthenticated mail is refused", True),
        # Only this connection ends.
        ("421 4.4.2 mx.example.net Error: timeout exceeded", False),
        ("421 4.3.2 the service is shutting down", False),
        ("421 4.7.0 mx.example.net Error: too many errors", False),
        ("421 too many messages in this session", False),
        ("421 Service not available, closing transmission channel", False),
    ],
)
def test_a_421_warns_where_it_says_more_than_that_the_connection_ends(
    line: str, warns: bool
) -> None:
    assert classify.warns("mail", reply(line)) == warns
