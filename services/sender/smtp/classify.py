"""Say what a reply means: pure; what words and codes mean is data (`refusals.py`).

The first question is whose fault it is. Before the peer has been given an envelope (connection, banner, EHLO, STARTTLS, AUTH, RSET, or
a 421 in reply to MAIL) nothing has been said about the delivery: the pair failed, and the delivery loses no attempt. From there on the
basic code decides between trying again and giving up, unless a row says otherwise; the enhanced code and the text only explain.

``scope`` says whose trouble it is: the recipient's, the message's, the sending domain's, or the pair's (this source at this provider).
"""

import re
from dataclasses import dataclass
from typing import Final

from services.sender.smtp.refusals import IANA, RULES, SEEN, Kind, Rule, Scope
from services.sender.smtp.reply import Reply
from services.sender.smtp.session import Accepted, Dropped, Lost, Refused, Result

#: Stages at which the delivery has not been spoken of yet.
BEFORE_ENVELOPE: Final = frozenset({"connect", "banner", "ehlo", "starttls", "auth", "rset"})
_CLOSING: Final = 421
_NEW_PASSWORD: Final = 432
_POLICY: Final = re.compile(r"4\.7\.[1-9]\d*")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows for the delivery (``kind``), why, and whose trouble it is."""

    kind: Kind
    category: str = ""
    scope: Scope = ""


#: What a refusal is about at these stages.
_FAILED: Final = {"starttls": "tls", "auth": "credentials"}


def of_reply(stage: str, reply: Reply) -> Verdict:
    """Judge one reply at one stage."""
    rule = _rule(stage, reply)
    if stage in BEFORE_ENVELOPE or (stage == "mail" and reply.code == _CLOSING):
        return Verdict("pair_failed", _before_envelope(stage, reply, rule), "pair")
    if reply.positive:
        return Verdict("delivered")
    kind: Kind = "deferred" if reply.transient else "bounced"
    if rule is None:
        return Verdict(kind, "closing" if reply.code == _CLOSING else "other", _scope(stage))
    return Verdict(rule.kind or kind, rule.category, rule.scope)


def warns(stage: str, reply: Reply) -> bool:
    """Say whether a 421 is a warning: a provider has written down what it means by these words, or says more than 4.7.0 of its policy.

    Else it only ends the connection: the host restarts, or has heard enough on this one ("too many errors" is 4.7.0 with Postfix).
    """
    rule = _rule(stage, reply)
    if rule is None or rule.scope in ("recipient", "message"):
        return False
    return rule.source not in (IANA, SEEN) or _POLICY.fullmatch(reply.enhanced) is not None


def _rule(stage: str, reply: Reply) -> Rule | None:
    return next((row for row in RULES if row.matches(stage, reply)), None)


def _before_envelope(stage: str, reply: Reply, rule: Rule | None) -> str:
    # A host that says 421 is busy, whatever it was asked; any other no to STARTTLS or AUTH is about that, whatever its words are.
    if stage in _FAILED and reply.code != _CLOSING:
        # RFC 4954 6: 454 is a host that cannot look passwords up just now, and nobody should mend ours; 432 wants another one.
        later = stage == "auth" and reply.transient and reply.code != _NEW_PASSWORD
        return "host" if later else _FAILED[stage]
    return rule.category if rule is not None and rule.scope == "pair" else "connection"


def of_result(result: Result) -> Verdict | None:
    """Judge how a transaction ended; None for a dropped one, which is nobody's answer."""
    match result:
        case Accepted():
            return Verdict("delivered")
        case Refused(stage, reply):
            return of_reply(stage, reply)
        case Lost(after_dot=True):
            return Verdict("unknown", "connection", "pair")
        case Lost(stage=stage):
            return of_loss(stage)
        case Dropped():
            return None


def of_loss(stage: str) -> Verdict:
    """Judge a connection that failed, or ended before the final dot."""
    if stage in ("rcpt", "data", "body"):
        # Behind an accepted sender it may be this envelope or message that the peer cannot bear: it must not come back for ever at
        # no cost, and not pause the pair for everybody each time.
        return Verdict("deferred", "connection", _scope(stage))
    return Verdict("pair_failed", "tls" if stage == "starttls" else "connection", "pair")


def _scope(stage: str) -> Scope:
    match stage:
        case "mail":
            return "domain"
        case "rcpt":
            return "recipient"
        case _:
            return "message"
