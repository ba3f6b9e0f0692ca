"""What refusals mean, as data: one row for each way in which hosts say something, with its source and a sample that the tests run.

The first row that matches holds. Suppression goes by ``invalid_mailbox`` alone, so a row may give it only where no block hides behind
the words: providers answer 550 5.1.1 in a block storm, which is why the rows on blocks and rates come first.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

from services.sender.smtp.reply import Reply

Kind = Literal["delivered", "deferred", "bounced", "pair_failed", "unknown"]
Scope = Literal["", "recipient", "message", "domain", "pair", "provider"]

_RCPT_OR_MESSAGE: Final = frozenset({"rcpt", "data", "body", "dot"})
_ANY: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: where all that is given matches, ``category`` and ``scope`` hold; ``kind`` only where the code would mislead."""

    category: str
    scope: Scope
    source: str
    #: ``(stage, reply line)``, run as a test.
    sample: tuple[str, str]
    text: re.Pattern[str] | None = None
    enhanced: re.Pattern[str] | None = None
    codes: frozenset[int] = frozenset()
    stages: frozenset[str] = _ANY
    kind: Kind | None = None

    def matches(self, stage: str, reply: Reply) -> bool:
        """Say whether the row speaks of this reply."""
        return (
            (not self.codes or reply.code in self.codes)
            and (not self.stages or stage in self.stages)
            and (self.enhanced is None or self.enhanced.fullmatch(reply.enhanced) is not None)
            and (self.text is None or self.text.search(reply.text) is not None)
        )


def _re(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_GMAIL: Final = "support.google.com/a/answer/3726730"
_YAHOO: Final = "senders.yahooinc.com/smtp-error-codes"
_MICROSOFT: Final = "learn.microsoft.com: NDR codes"
IANA: Final = "RFC 3463, RFC 5248 registry"
SEEN: Final = "seen in practice"

#: The first row that matches holds.
RULES: Final[tuple[Rule, ...]] = (
    # -- a recipient that gets too much mail: not a bounce, even as 550
    Rule(
        category="rate",
        scope="recipient",
        kind="deferred",
        source=_GMAIL,
        enhanced=_re(r"[45]\.2\.1"),
        text=_re(r"receiving (?:mail|email) (?:too quickly|at a rate)"),
        sample=(
            "rcpt",
            "550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents",
        ),
    ),
    # -- greylisting: the same address may come again, and must
    Rule(
        category="greylist",
        scope="recipient",
        source="RFC 6647",
        codes=frozenset({421, 450, 451, 452}),
        stages=_RCPT_OR_MESSAGE,
        text=_re(r"gr[ea]y-?list|postgrey|sqlgrey"),
        sample=("rcpt", "451 4.7.1 Greylisting in action, please come back later"),
    ),
    # -- authentication of the sending domain
    Rule(
        category="auth",
        scope="domain",
        source=_GMAIL,
        enhanced=_re(r"[45]\.7\.(?:2[0-4]|2[67]|3[0-2]|40|509|515)"),
        sample=(
            "dot",
            "550 5.7.26 Your email has been blocked because the sender is unauthenticated",
        ),
    ),
    Rule(
        category="auth",
        scope="domain",
        source=_YAHOO,
        enhanced=_re(r"[45]\.7\.9"),
        text=_re(r"\b(?:spf|dkim|dmarc|unauthenticated|authentication)\b"),
        sample=("dot", "550 5.7.9 This mail requires a passing SPF or DKIM"),
    ),
    Rule(
        category="auth",
        scope="domain",
        source=SEEN,
        text=_re(
            r"\b(?:dmarc|dkim|spf)\b.{0,60}(?:fail|reject|policy|not (?:pass|aligned)|required)"
        ),
        sample=("dot", "550 5.7.1 Email rejected per DMARC policy for example.com"),
    ),
    # -- the address this mail comes from
    Rule(
        category="ptr",
        scope="pair",
        source=_GMAIL,
        enhanced=_re(r"[45]\.7\.25"),
        sample=("dot", "550 5.7.25 The IP address sending this message does not have a PTR record"),
    ),
    Rule(
        category="ptr",
        scope="pair",
        source=SEEN,
        text=_re(r"\bptr\b|reverse (?:dns|hostname|lookup)|\brdns\b"),
        sample=("banner", "554 Bad DNS PTR resource record"),
    ),
    # -- what the connection lacks: the next one may have it, so no code ends the delivery
    Rule(
        category="tls",
        scope="pair",
        kind="deferred",
        source=_GMAIL,
        enhanced=_re(r"[45]\.7\.(?:29|10|5|32[1-5])"),
        sample=("mail", "421 4.7.29 This message was sent over a connection without TLS"),
    ),
    Rule(
        category="tls",
        scope="pair",
        kind="deferred",
        source="RFC 3207",
        text=_re(
            r"must issue a starttls|(?:requires?|enforces?) (?:tls|encryption)|encryption (?:is )?required"
        ),
        sample=("mail", "530 5.7.0 Must issue a STARTTLS command first"),
    ),
    # -- Microsoft's throttles blame the address's reputation, and are none the less about speed
    Rule(
        category="rate",
        scope="pair",
        source=_MICROSOFT,
        enhanced=_re(r"4\.7\.(?:5\d\d|6(?!52)\d\d)"),
        sample=(
            "mail",
            "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation.",
        ),
    ),
    Rule(
        category="block",
        scope="pair",
        source="names of block lists",
        text=_re(
            r"spamhaus|spamcop|barracudacentral|sorbs|uceprotect|abusix|invaluement|ipcheck\.proofpoint|senderscore"
            r"|\bdnsbl\b|\brbl\b|block(?: |-)?list|black(?: |-)?list|banned sending ip|\bbl2[13]\b"
        ),
        sample=(
            "rcpt",
            "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
        ),
    ),
    Rule(
        category="block",
        scope="pair",
        source=_YAHOO,
        text=_re(
            r"\[(?:ts|tss|ipts)\d+\]|permanently deferred|very low reputation|poor reputation|ip reputation"
        ),
        sample=(
            "mail",
            "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume",
        ),
    ),
    Rule(
        category="block",
        scope="pair",
        source=_MICROSOFT,
        enhanced=_re(r"5\.7\.(?:511|60[6-9]|6[1-4]\d)|4\.7\.8[5-9]\d"),
        sample=("mail", "550 5.7.606 Access denied [192.0.2.1]"),
    ),
    # -- too many connections, or too fast
    Rule(
        category="connections",
        scope="pair",
        source=_MICROSOFT,
        enhanced=_re(r"4\.7\.652"),
        sample=("mail", "451 4.7.652 The mail server has exceeded the maximum number allowed"),
    ),
    Rule(
        category="connections",
        scope="pair",
        source=SEEN,
        codes=frozenset({421, 450, 451, 452, 550, 554}),
        text=_re(
            r"too many (?:\w+ ){0,2}(?:connections|sessions)"
            r"|max(?:imum)? (?:number of )?(?:\w+ )?connections|connection limit"
        ),
        kind="deferred",
        sample=("banner", "421 Too many concurrent SMTP connections from this address"),
    ),
    Rule(
        category="rate",
        scope="domain",
        source=_GMAIL,
        kind="deferred",
        enhanced=_re(r"[45]\.7\.28"),
        text=_re(r"\byour (?:dkim|spf|sending) domain"),
        sample=(
            "dot",
            "421 4.7.28 Gmail has detected an unusual rate of mail originating from your DKIM domain",
        ),
    ),
    Rule(
        category="rate",
        scope="pair",
        source=_GMAIL,
        enhanced=_re(r"[45]\.7\.28"),
        sample=(
            "dot",
            "421 4.7.28 Gmail has detected an unusual rate of mail originating from your IP address",
        ),
    ),
    Rule(
        category="rate",
        scope="pair",
        kind="deferred",
        source="QQ and NetEase: throttles that are written as 550",
        codes=frozenset({550, 554}),
        text=_re(r"frequency (?:is )?limited|daily limit|hourly limit|rate limit(?:ed)?"),
        sample=("mail", "550 Connection frequency limited"),
    ),
    Rule(
        category="rate",
        scope="pair",
        source=SEEN,
        codes=frozenset({421, 450, 451, 452}),
        text=_re(
            r"too many|too (?:fast|quickly|much mail)|rate.?limit|throttl|slow down|exceed|max(?:imum)? (?:message|connection)"
            r"|excessive (?:volume|rate)|unusual rate|try again later, closing connection"
        ),
        sample=("rcpt", "421 4.7.0 Try again later, closing connection"),
    ),
    # -- the mailbox
    Rule(
        category="mailbox_full",
        scope="recipient",
        source=IANA,
        enhanced=_re(r"[45]\.2\.2"),
        sample=("rcpt", "452 4.2.2 The email account that you tried to reach is over quota"),
    ),
    Rule(
        category="mailbox_full",
        scope="recipient",
        source=SEEN,
        codes=frozenset({450, 452, 550, 552, 554}),
        text=_re(
            r"(?:mailbox|account|user|recipient).{0,40}(?:is full|over.?quota|out of storage)|quota exceeded|exceeded.{0,20}quota"
        ),
        sample=("dot", "552 Mailbox is full"),
    ),
    Rule(
        category="invalid_mailbox",
        scope="recipient",
        source=IANA,
        stages=_RCPT_OR_MESSAGE | {"local"},
        enhanced=_re(r"[45]\.1\.(?:1|3|6|10)"),
        sample=("rcpt", "550 5.1.1 The email account that you tried to reach does not exist"),
    ),
    Rule(
        category="invalid_mailbox",
        scope="recipient",
        source=_MICROSOFT,
        stages=_RCPT_OR_MESSAGE,
        enhanced=_re(r"5\.4\.1"),
        text=_re(r"recipient address rejected"),
        sample=("rcpt", "550 5.4.1 Recipient address rejected: Access denied"),
    ),
    Rule(
        category="mailbox_disabled",
        scope="recipient",
        source=IANA,
        stages=_RCPT_OR_MESSAGE,
        enhanced=_re(r"5\.2\.1"),
        sample=("rcpt", "550 5.2.1 The email account that you tried to reach is inactive"),
    ),
    Rule(
        category="invalid_mailbox",
        scope="recipient",
        source="hosts without enhanced codes",
        codes=frozenset({550, 551, 553, 554}),
        stages=frozenset({"rcpt"}),
        enhanced=_re(r"|5\.0\.0|5\.5\.0"),
        text=_re(
            r"(?:user|mailbox|recipient|address|account).{0,30}(?:unknown|not found|does(?: not|n't) exist|unavailable|invalid)"
            r"|(?:no such|unknown|invalid) (?:user|mailbox|recipient|address)|no mailbox"
        ),
        sample=("rcpt", "550 No such user here"),
    ),
    # -- the domain, the sender, the message
    Rule(
        category="invalid_domain",
        scope="recipient",
        source="RFC 7504; RFC 3463",
        stages=_RCPT_OR_MESSAGE,
        enhanced=_re(r"5\.1\.2"),
        sample=("rcpt", "550 5.1.2 Bad destination host"),
    ),
    Rule(
        category="invalid_domain",
        scope="recipient",
        source="RFC 7504",
        codes=frozenset({556}),
        sample=("rcpt", "556 Domain does not accept mail"),
    ),
    Rule(
        category="sender",
        scope="domain",
        source=IANA,
        enhanced=_re(r"[45]\.1\.[78]"),
        sample=("mail", "550 5.1.8 Sender address rejected: Domain not found"),
    ),
    Rule(
        category="size",
        scope="message",
        source=IANA,
        enhanced=_re(r"5\.(?:3\.4|2\.3)"),
        sample=("mail", "552 5.3.4 Message size exceeds fixed limit"),
    ),
    Rule(
        category="message",
        scope="message",
        source=IANA,
        enhanced=_re(r"5\.6\.\d+"),
        sample=("dot", "550 5.6.0 Headers are not RFC compliant"),
    ),
    Rule(
        category="spam",
        scope="message",
        source=SEEN,
        stages=frozenset({"data", "body", "dot"}),
        text=_re(
            r"\bspam\b|unsolicited|content (?:rejected|denied)|suspicious|\[cs0[12]\]|virus|malware|phish"
        ),
        sample=(
            "dot",
            "550 5.7.1 Our system has detected that this message is likely unsolicited mail",
        ),
    ),
    Rule(
        category="loop",
        scope="message",
        source=IANA,
        enhanced=_re(r"5\.4\.6"),
        sample=("dot", "554 5.4.6 Too many hops"),
    ),
    # -- what is left of refusals for reasons of policy, and of pleas to come again
    Rule(
        category="greylist",
        scope="recipient",
        source="RFC 6647",
        codes=frozenset({450, 451}),
        stages=_RCPT_OR_MESSAGE,
        enhanced=_re(r"|4\.2\.0|4\.7\.[01]"),
        text=_re(r"try (?:again|later)|temporar(?:y|ily)|come back|deferred|retry"),
        sample=("dot", "450 4.2.0 Recipient address rejected: please try again later"),
    ),
    Rule(
        category="rate",
        scope="pair",
        source=IANA,
        enhanced=_re(r"4\.7\.\d+|4\.3\.2|4\.4\.5"),
        sample=("mail", "451 4.7.0 Temporary policy rejection"),
    ),
    Rule(
        category="policy",
        scope="pair",
        source=IANA,
        stages=frozenset({"mail", "banner", "ehlo", "connect"}),
        enhanced=_re(r"5\.7\.\d+"),
        sample=("mail", "550 5.7.1 Access denied"),
    ),
    Rule(
        category="policy",
        scope="message",
        source=IANA,
        enhanced=_re(r"5\.7\.\d+"),
        sample=("dot", "550 5.7.1 Delivery not authorized, message refused"),
    ),
    Rule(
        category="host",
        scope="pair",
        source=IANA,
        enhanced=_re(r"4\.3\.\d+"),
        sample=("rcpt", "452 4.3.1 Insufficient system storage"),
    ),
)
