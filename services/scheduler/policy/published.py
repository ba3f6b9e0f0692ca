"""What providers publish about their own replies, or what is practised there: how long to stop, how to come back. Pure; the rows are data.

These hold before the general rows (``reactions``): such a code means one thing, whatever the sender made of the reply.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from services.scheduler.policy.reaction import (
    BLOCKED,
    PTR,
    Caution,
    Fewer,
    Slow,
    Suspend,
)
from shared.records.outcome import Reply

_S: Final = 1_000_000_000
_MIN: Final = 60 * _S
_H: Final = 60 * _MIN


@dataclass(frozen=True, slots=True)
class Published:
    """What a provider asks for after a reply of its own, or what is practised there; ``sample`` is run as a test."""

    provider: str
    reaction: Caution
    source: str
    sample: tuple[int, str, str]
    enhanced: re.Pattern[str] | None = None
    text: re.Pattern[str] | None = None

    def matches(self, reply: Reply) -> bool:
        """Say whether the row speaks of this reply of its provider."""
        return (self.enhanced is None or self.enhanced.fullmatch(reply.enhanced) is not None) and (
            self.text is None or self.text.search(reply.text) is not None
        )


def _re(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_SENDERS_AT_GOOGLE: Final = "support.google.com/a/answer/3726730"
_SENDERS_AT_YAHOO: Final = "senders.yahooinc.com/smtp-error-codes"
_CODES: Final = "the provider's own codes, as seen in practice"
_PRACTISED: Final = "as practised: KumoMTA's shipped shaping"
_SENDERS_AT_MICROSOFT: Final = "learn.microsoft.com: NDR codes"

#: The first row that matches holds, whatever the sender made of the reply: these codes mean one thing.
PUBLISHED: Final[tuple[Published, ...]] = (
    Published(
        # Stop for ten minutes at least, come back with one connection, add one by one.
        provider="gmail",
        enhanced=_re(r"4\.7\.28"),
        reaction=Slow(10 * _MIN, connections=1),
        source=_SENDERS_AT_GOOGLE,
        sample=(421, "4.7.28", "Gmail has detected an unusual rate of mail from your IP address"),
    ),
    Published(
        provider="gmail",
        enhanced=_re(r"5\.7\.28"),
        reaction=Suspend(1 * _H, BLOCKED, volume=True),
        source=_SENDERS_AT_GOOGLE,
        sample=(550, "5.7.28", "There is an unusual rate of unsolicited mail from your IP address"),
    ),
    Published(
        provider="gmail",
        text=_re(r"very low reputation"),
        reaction=Suspend(1 * _H, BLOCKED),
        source=_PRACTISED,
        sample=(421, "4.7.0", "suspicious due to the very low reputation of the sending IP"),
    ),
    Published(
        provider="yahoo",
        text=_re(r"\[(?:tss|ipts)04\]"),
        # "Unexpected volume or user complaints".
        reaction=Suspend(2 * _H, BLOCKED, volume=True),
        source=f"{_SENDERS_AT_YAHOO}; two hours {_PRACTISED}",
        sample=(421, "4.7.0", "[TSS04] Messages from 192.0.2.1 temporarily deferred"),
    ),
    Published(
        provider="yahoo",
        text=_re(r"\[(?:tss|ipts)05\]"),
        reaction=Suspend(4 * _H, BLOCKED),
        source=f"{_SENDERS_AT_YAHOO}; four hours {_PRACTISED}",
        sample=(421, "4.7.0", "[TSS05] Messages from 192.0.2.1 temporarily deferred"),
    ),
    Published(
        # "Retrying will NOT succeed."
        provider="yahoo",
        text=_re(r"\[(?:ts03|tss09|tss11)\]"),
        reaction=Suspend(24 * _H, BLOCKED),
        source=_SENDERS_AT_YAHOO,
        sample=(553, "5.7.2", "[TSS09] All messages from 192.0.2.1 will be permanently deferred"),
    ),
    Published(
        provider="yahoo",
        text=_re(r"\[(?:bl21|bl23|tss07)\]"),
        reaction=Suspend(24 * _H, f"The address is on a Spamhaus list. {BLOCKED}"),
        source=_SENDERS_AT_YAHOO,
        sample=(553, "5.7.1", "[BL21] Connections will not be accepted from 192.0.2.1"),
    ),
    Published(
        provider="microsoft",
        enhanced=_re(r"4\.7\.652"),
        reaction=Fewer(),
        source=_SENDERS_AT_MICROSOFT,
        sample=(451, "4.7.652", "The mail server has exceeded the maximum number of connections"),
    ),
    Published(
        # "Rate limited due to IP reputation": S775, S3114 and RP-001 to RP-003.
        provider="microsoft",
        text=_re(r"rate limited due to IP reputation|\bRP-00[123]\b"),
        reaction=Slow(lasts=True),
        source=_SENDERS_AT_MICROSOFT,
        sample=(
            451,
            "4.7.650",
            "The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. (S775)",
        ),
    ),
    Published(
        provider="microsoft",
        text=_re(r"\bS31(?:40|50)\b"),
        reaction=Suspend(
            24 * _H,
            f"Microsoft's form for senders takes the request (sender.office.com). {BLOCKED}",
        ),
        source=_SENDERS_AT_MICROSOFT,
        sample=(550, "5.7.1", "Unfortunately, messages from [192.0.2.1] weren't sent (S3140)"),
    ),
    Published(
        provider="microsoft365",
        enhanced=_re(r"5\.7\.(?:511|60[6-9]|6[1-4]\d)"),
        reaction=Suspend(24 * _H, f"sender.office.com takes the request. {BLOCKED}"),
        source=_SENDERS_AT_MICROSOFT,
        sample=(550, "5.7.606", "Access denied, banned sending IP [192.0.2.1]"),
    ),
    Published(
        provider="apple",
        text=_re(r"excessive volume|\[HCM1\]"),
        reaction=Slow(15 * _MIN),
        source=_PRACTISED,
        sample=(421, "4.7.1", "Messages from 192.0.2.1 temporarily deferred: excessive volume"),
    ),
    Published(
        # The throttles last from five minutes to two hours: the middle, and longer where it goes on.
        provider="comcast",
        text=_re(r"\bRL0000\d\d\b"),
        reaction=Slow(30 * _MIN),
        source=_PRACTISED,
        sample=(421, "4.1.0", "192.0.2.1 throttled: RL000001"),
    ),
    Published(
        # Lifted by themselves within a day.
        provider="cox",
        text=_re(r"\b(?:CXBL|CDRBL)\b"),
        reaction=Suspend(24 * _H, BLOCKED),
        source=_CODES,
        sample=(554, "", "cox too many bad commands from 192.0.2.1 AUP#CXBL"),
    ),
    Published(
        provider="cox",
        text=_re(r"\bIPBL\d+\b"),
        reaction=Suspend(fix=BLOCKED),
        source=_CODES,
        sample=(554, "", "192.0.2.1 rejected, see AUP#IPBL0001"),
    ),
    Published(
        provider="cox",
        text=_re(r"\bCXCNCT\b"),
        reaction=Fewer(),
        source=_CODES,
        sample=(421, "", "cox Too many sessions from 192.0.2.1 AUP#CXCNCT"),
    ),
    Published(
        provider="spectrum",
        text=_re(r"AUP#[a-z]*-?1(?:000|2\d\d)\b"),
        reaction=Suspend(fix=BLOCKED),
        source=_CODES,
        sample=(554, "5.7.1", "192.0.2.1 blocked AUP#In-1000"),
    ),
    Published(
        provider="spectrum",
        text=_re(r"AUP#[a-z]*-?11\d\d\b"),
        reaction=Suspend(fix=PTR, slower=False),
        source=_CODES,
        sample=(554, "5.7.1", "no reverse name AUP#In-1110"),
    ),
    Published(
        provider="spectrum",
        text=_re(r"AUP#[a-z]*-?13[0-4]\d\b"),
        reaction=Fewer(),
        source=_CODES,
        sample=(421, "4.7.1", "too many from 192.0.2.1 AUP#In-1310"),
    ),
    Published(
        provider="spectrum",
        text=_re(r"AUP#[a-z]*-?1(?:3[5-9]\d|4\d\d|5[4-8]\d)\b"),
        reaction=Slow(),
        source=_CODES,
        sample=(452, "4.1.0", "too much from 192.0.2.1 AUP#Out-1420"),
    ),
    *(
        Published(
            provider=provider,
            text=_re(r"\b(?:OFR|LPN)\w*_(?:10[1-3]|510)\b"),
            reaction=Suspend(fix=BLOCKED),
            source=_CODES,
            sample=(550, "5.7.1", f"mail from 192.0.2.1 refused {code}_102"),
        )
        for provider, code in (("orange", "OFR004"), ("laposte", "LPN007"))
    ),
    *(
        Published(
            provider=provider,
            text=_re(r"\b(?:OFR|LPN)\w*_104\b"),
            reaction=Fewer(),
            source=_CODES,
            sample=(421, "4.7.1", f"too many connections {code}_104"),
        )
        for provider, code in (("orange", "OFR004"), ("laposte", "LPN007"))
    ),
    Published(
        provider="godaddy",
        text=_re(r"\bIB007\b"),
        reaction=Fewer(),
        source=_CODES,
        sample=(421, "", "temporarily rejected, too many sessions IB007"),
    ),
    Published(
        # As 550 5.1.1 too, which says nothing of the mailbox then.
        provider="godaddy",
        text=_re(r"\bIB(?:101|504|510|607)\b"),
        reaction=Slow(),
        source=_CODES,
        sample=(550, "5.1.1", "sent to too many recipients this hour IB607"),
    ),
    Published(
        provider="godaddy",
        text=_re(r"\bIB10[3-6]\b"),
        reaction=Suspend(fix=BLOCKED),
        source=_CODES,
        sample=(554, "", "connection refused, 192.0.2.1 is listed IB104"),
    ),
    Published(
        provider="godaddy",
        text=_re(r"\bIB108\b"),
        reaction=Suspend(fix=PTR, slower=False),
        source=_CODES,
        sample=(554, "", "192.0.2.1 has no reverse name IB108"),
    ),
    *(
        Published(
            # Throttles that are written as 550.
            provider=provider,
            text=_re(r"frequency (?:is )?limited|\bHL:ITC\b|\bRP:[A-Z]{3}\b"),
            reaction=Slow(),
            source=_CODES,
            sample=(550, "", f"{text}: too much from 192.0.2.1"),
        )
        for provider, text in (("qq", "Connection frequency limited"), ("netease", "HL:ITC"))
    ),
    Published(
        provider="mimecast",
        text=_re(r"temporarily blacklisted|csi\.mimecast\.org"),
        reaction=Suspend(fix=BLOCKED),
        source=_CODES,
        sample=(550, "", "csi.mimecast.org: poor reputation of 192.0.2.1"),
    ),
)

#: Providers that say so of sending domains: there each domain's mail is counted, for a warning to be measured by.
COUNT_DOMAINS: Final = frozenset({"gmail"})

_BY_PROVIDER: Final[Mapping[str, tuple[Published, ...]]] = {
    name: tuple(row for row in PUBLISHED if row.provider == name)
    for name in {row.provider for row in PUBLISHED}
}


def said_by(provider: str | None, reply: Reply | None) -> Caution | None:
    """Give what a provider asks for after a reply; None: nothing that it has published speaks of it."""
    if provider is None or reply is None:
        return None
    rows = _BY_PROVIDER.get(provider, ())
    return next((row.reaction for row in rows if row.matches(reply)), None)
