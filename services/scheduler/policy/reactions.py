"""What an outcome asks of us, by its category and scope. Pure; the rows are data.

The sender has classified the reply. Whose trouble it is decides who waits: the recipient's or the message's is that delivery's alone, the
sending domain's suspends or slows the domain at the provider, the pair's slows or suspends the pair, the provider's pauses all of its
pairs. What a provider publishes about a reply (how long to stop, with how many connections to come back) holds before the general row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from services.scheduler.policy.published import said_by
from services.scheduler.policy.reaction import (
    AUTH,
    BLOCKED,
    CREDENTIALS,
    PTR,
    SENDER,
    TLS,
    TOO_MUCH,
    Fail,
    Fewer,
    Good,
    Nothing,
    Reaction,
    Slow,
    SlowDomain,
    Suspend,
    SuspendDomain,
    Trouble,
)
from shared.records.outcome import Outcome, Reply

_MIN: Final = 60_000_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """What follows where category and scope are these."""

    category: str
    scope: Literal["pair", "domain"]
    reaction: Reaction


ROWS: Final[tuple[Row, ...]] = (
    Row("rate", "pair", Slow()),
    Row("host", "pair", Trouble()),
    Row("connections", "pair", Fewer()),
    Row("block", "pair", Suspend(fix=BLOCKED)),
    Row("policy", "pair", Suspend(fix=BLOCKED)),
    Row("ptr", "pair", Suspend(fix=PTR, slower=False)),
    Row("tls", "pair", Suspend(fix=TLS, slower=False)),
    Row("credentials", "pair", Suspend(fix=CREDENTIALS, slower=False)),
    Row("auth", "domain", SuspendDomain(AUTH)),
    Row("sender", "domain", SuspendDomain(SENDER)),
    # Gmail's word, of a domain as of an address: stop for ten minutes at least (support.google.com/a/answer/3726730).
    Row("rate", "domain", SlowDomain(TOO_MUCH, 10 * _MIN)),
)

_TABLE: Final[Mapping[tuple[str, str], Reaction]] = {
    (row.category, row.scope): row.reaction for row in ROWS
}
_NO_REPLY: Final = Reply(code=0)
#: At these stages a peer that says "too much" means the connection, not the mail.
_GREETING: Final = frozenset({"connect", "banner", "ehlo"})


def of(provider: str | None, outcome: Outcome) -> Reaction:
    """Say what ``outcome`` asks for; ``provider``: who runs the destination, where that is known."""
    match outcome.result:
        case "delivered":
            return Good()
        case "unknown":
            return Nothing()
        case _ if outcome.scope == "domain":
            # What is published speaks of sources.
            return _of_no(outcome)
        case _:
            return said_by(provider, outcome.reply) or _of_no(outcome)


def _of_no(outcome: Outcome) -> Reaction:
    if outcome.result == "bounced" and outcome.scope == "recipient":
        # The host takes our mail and knows its mailboxes.
        return Good()
    if outcome.scope == "provider":
        return Fail(everywhere=True)
    if outcome.warns:
        return _of_pair(outcome)
    return _TABLE.get((outcome.category, outcome.scope), Nothing())


def _of_pair(outcome: Outcome) -> Reaction:
    reply = outcome.reply or _NO_REPLY
    failed = outcome.result == "pair_failed"
    if outcome.category == "tls" and failed:
        # STARTTLS did not work, which may be this host's alone; a reply that asks for TLS is the provider's word.
        return Fail()
    if outcome.category == "rate" and reply.stage in _GREETING:
        return Fewer()
    return _TABLE.get((outcome.category, "pair"), Fail() if failed else Nothing())
