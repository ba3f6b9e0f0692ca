"""What the models of providers say, word for word, and what the sender makes of it.

``result``, ``category`` and ``scope`` are those that the sender's classifier gives for the reply; a test holds each row to it, so the
policy learns here what it would learn from the wire. The words are the providers' own, as their pages show them.
"""

from dataclasses import dataclass
from typing import Final

from shared.records.outcome import Reply, Result


@dataclass(frozen=True, slots=True)
class Answer:
    """How an attempt, or a connection, ends."""

    result: Result
    #: None: nobody answered.
    reply: Reply | None = None
    category: str = ""
    scope: str = ""

    @property
    def closes(self) -> bool:
        """Say whether the connection ends with it: 421 (RFC 5321 3.8), or nobody was there."""
        return self.reply is None or self.reply.code == _CLOSING


_CLOSING: Final = 421


def _row(
    stage: str,
    code: int,
    enhanced: str,
    text: str,
    result: Result,
    category: str = "",
    scope: str = "",
) -> Answer:
    return Answer(
        result, Reply(code=code, text=text, enhanced=enhanced, stage=stage), category, scope
    )


ACCEPTED: Final = _row("dot", 250, "2.0.0", "OK", "delivered")
NO_SUCH_USER: Final = _row(
    "rcpt",
    550,
    "5.1.1",
    "The email account that you tried to reach does not exist",
    "bounced",
    "invalid_mailbox",
    "recipient",
)
MAILBOX_FULL: Final = _row(
    "rcpt",
    452,
    "4.2.2",
    "The email account that you tried to reach is over quota",
    "deferred",
    "mailbox_full",
    "recipient",
)
# RFC 6647: unknown (address, sender, recipient).
GREYLISTED: Final = _row(
    "rcpt",
    451,
    "4.7.1",
    "Greylisting in action, please come back later",
    "deferred",
    "greylist",
    "recipient",
)
#: Nobody answers the connection.
SILENCE: Final = Answer("pair_failed", None, "connection", "pair")
#: The host goes away between two messages.
GONE: Final = Answer("pair_failed", None, "connection", "pair")

# support.google.com/a/answer/3726730
GMAIL_SOURCE: Final = _row(
    "dot",
    421,
    "4.7.28",
    "Gmail has detected an unusual rate of unsolicited mail originating from your IP address. To protect our users from spam, mail "
    "sent from your IP address has been temporarily rate limited.",
    "deferred",
    "rate",
    "pair",
)
GMAIL_DOMAIN: Final = _row(
    "dot",
    421,
    "4.7.28",
    "Gmail has detected an unusual rate of unsolicited mail originating from your DKIM domain. To protect our users from spam, mail "
    "sent from your domain has been temporarily rate limited.",
    "deferred",
    "rate",
    "domain",
)
GMAIL_CONNECTIONS: Final = _row(
    "banner", 421, "4.7.0", "Try again later, closing connection.", "pair_failed", "rate", "pair"
)
# senders.yahooinc.com/smtp-error-codes
YAHOO_VOLUME: Final = _row(
    "mail",
    421,
    "4.7.0",
    "[TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints",
    "pair_failed",
    "block",
    "pair",
)
# Microsoft: sendersupport.olc.protection.outlook.com, policies and troubleshooting
MICROSOFT_RATE: Final = _row(
    "mail",
    451,
    "4.7.650",
    "The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. (S775)",
    "deferred",
    "rate",
    "pair",
)
MICROSOFT_CONNECTIONS: Final = _row(
    "banner",
    421,
    "4.7.652",
    "The mail server [192.0.2.1] has exceeded the maximum number of connections. (S3115)",
    "pair_failed",
    "connections",
    "pair",
)
# support.apple.com/102322
APPLE_VOLUME: Final = _row(
    "mail",
    421,
    "4.7.1",
    "Messages from 192.0.2.1 temporarily deferred due to excessive volume",
    "pair_failed",
    "rate",
    "pair",
)
# The codes that postmaster.comcast.net lists.
COMCAST_RATE: Final = _row(
    "mail",
    421,
    "4.1.0",
    "192.0.2.1 Throttled - try again later. RL000001",
    "pair_failed",
    "rate",
    "pair",
)
COMCAST_CONNECTIONS: Final = _row(
    "banner",
    421,
    "",
    "Too many sessions opened from 192.0.2.1",
    "pair_failed",
    "connections",
    "pair",
)
#: Of a host that says no more than that.
BUSY: Final = _row(
    "banner",
    421,
    "4.3.2",
    "Too many connections, try again later",
    "pair_failed",
    "connections",
    "pair",
)

ALL: Final = {name: value for name, value in globals().items() if isinstance(value, Answer)}
