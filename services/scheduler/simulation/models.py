"""How mailbox providers behave towards those who send to them: data, one row a provider.

What a row says of connections, messages per connection, waiting times and words is what the provider publishes, or what is known of it
(``source``). How much mail a provider takes from an address before it warns is nobody's published figure: those numbers are plausible
ones of ours, for an address of good reputation. A traffic file may change any of them (``[models.NAME]``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from services.scheduler.simulation import answers
from services.scheduler.simulation.answers import Answer

_MS: Final = 1_000_000
_S: Final = 1_000 * _MS
_MIN: Final = 60 * _S
_H: Final = 60 * _MIN


@dataclass(frozen=True, slots=True)
class Quota:
    """Take at most ``count`` attempts in any window of ``period_ns`` from one source, or of one sending domain."""

    count: int
    period_ns: int
    refusal: Answer
    scope: Literal["source", "domain"] = "source"
    #: Whoever passes it is refused for so long; 0: until the window has room again.
    stop_ns: int = 0
    #: Passing it lowers it for that source: to no less than so many of a thousand; it comes back within a day.
    floor_permille: int = 1000


@dataclass(frozen=True, slots=True)
class Model:
    """One provider."""

    source: str
    #: Time to connect, greet and start TLS; time of one message from MAIL to the answer to the dot. Both vary by half, to either side.
    connect_ns: int = 150 * _MS
    answer_ns: int = 250 * _MS
    #: Of one source at once; one more is refused with ``crowded``.
    connections: int = 50
    crowded: Answer = answers.BUSY
    #: It closes without a word after so many; 0: never.
    messages_per_connection: int = 0
    quotas: tuple[Quota, ...] = ()
    #: A new (source, sender, recipient) is refused for so long; 0: never.
    greylist_ns: int = 0
    #: Of a thousand recipients.
    unknown_permille: int = 5
    full_permille: int = 2
    #: (from, until), ns after the start of the simulation: nobody answers.
    down: tuple[tuple[int, int], ...] = ()


MODELS: Final[Mapping[str, Model]] = {
    "gmail": Model(
        # On 4.7.28 stop for ten minutes at least, go on with one connection and add one by one. IP and domain have quotas.
        source="support.google.com/mail/answer/81126, /a/answer/3726730",
        answer_ns=400 * _MS,
        connections=20,
        crowded=answers.GMAIL_CONNECTIONS,
        quotas=(
            Quota(6_000, 10 * _MIN, answers.GMAIL_SOURCE, stop_ns=10 * _MIN),
            Quota(34_000, 10 * _MIN, answers.GMAIL_DOMAIN, scope="domain", stop_ns=10 * _MIN),
        ),
    ),
    "yahoo": Model(
        # 20 messages a connection, then it closes without a word. TSS04: two hours, as practised.
        source="help.yahoo.com SLN3433, senders.yahooinc.com/smtp-error-codes",
        answer_ns=300 * _MS,
        connections=20,
        messages_per_connection=20,
        quotas=(Quota(20_000, _H, answers.YAHOO_VOLUME, stop_ns=2 * _H),),
    ),
    "microsoft": Model(
        # At most 500 connections of all of ours; an address whose reputation suffers is throttled.
        source="sendersupport.olc.protection.outlook.com/pm/policies.aspx",
        answer_ns=500 * _MS,
        connections=20,
        crowded=answers.MICROSOFT_CONNECTIONS,
        quotas=(Quota(300, _MIN, answers.MICROSOFT_RATE, floor_permille=250),),
    ),
    "apple": Model(
        source="support.apple.com/102322",
        connections=10,
        messages_per_connection=5,
        quotas=(Quota(2_500, 15 * _MIN, answers.APPLE_VOLUME, stop_ns=15 * _MIN),),
    ),
    "comcast": Model(
        # 25 connections of one address; a throttled one waits for 5 to 120 minutes, as practised.
        source="postmaster.comcast.net",
        connections=25,
        crowded=answers.COMCAST_CONNECTIONS,
        quotas=(Quota(1_700, 5 * _MIN, answers.COMCAST_RATE, stop_ns=5 * _MIN),),
    ),
    "greylister": Model(source="RFC 6647", connections=10, greylist_ns=5 * _MIN),
    "plain": Model(source="a host without rules", answer_ns=100 * _MS),
    "dead": Model(source="a host that does not answer", down=((0, 1 << 62),)),
}
