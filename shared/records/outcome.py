"""What a sender says of its attempts in mail.outcomes (partition = the scheduler partition that granted), and the scheduler's marks.

``started`` is written when a ready connection takes the grant; its LogAppendTime decides whether the attempt counts as begun.
``outcome`` says how it ended, ``handback`` that it did not begin. ``mark`` is the scheduler's own second hand: leases are judged by
the stamps of what has been read here, never by a process's clock.
"""

from typing import Final, Literal

import msgspec

from shared.records.codec import Codec, Record

#: delivered, bounced: final. deferred: a retry step. pair_failed: the pair's fault, no attempt counted. unknown: lost after the dot.
Result = Literal["delivered", "deferred", "bounced", "pair_failed", "unknown"]


class Reply(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What the peer said; ``text`` is cut at 1 KiB and holds no control characters."""

    code: int
    text: str = ""
    enhanced: str = ""
    #: connect, banner, ehlo, starttls, auth, mail, rcpt, data, dot
    stage: str = ""


class Wire(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Where the attempt went and how long it took."""

    source_ip: str = ""
    mx: str = ""
    mx_ip: str = ""
    #: The version; ``none: why`` in the clear, ``failed: why`` where that was not allowed; empty: it did not come so far.
    tls: str = ""
    tls_cipher: str = ""
    #: Whether chain and name of the certificate were checked.
    tls_verified: bool = False
    #: Whether TLS went on from an earlier connection's, whose certificate it was.
    tls_resumed: bool = False
    #: Wall time of MAIL, and of the end.
    mail_ns: int = 0
    end_ns: int = 0
    #: Of the message: so many were handed over to the network, before the dot that ends it.
    bytes: int = 0
    #: Milliseconds spent in each stage, by name.
    ms: dict[str, int] = msgspec.field(default_factory=dict)


class Attempted(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Name the attempt; every record of a sender about one derives from it."""

    id: str
    n: int
    slot: int
    epoch: int


class Started(
    Attempted,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="k",
    tag="started",
):
    """Say that a ready connection has taken the grant."""


#: Stages at which nobody has answered yet, unless there is a code.
NOBODY: Final = frozenset({"dns", "connect", "banner"})


class Outcome(
    Attempted,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="k",
    tag="outcome",
):
    """Say how the attempt ended."""

    result: Result
    #: Why, in our words: invalid_mailbox, greylist, mailbox_full, rate, connections, block, policy, connection, tls, dns, auth, ...
    category: str = ""
    #: Whose trouble it is: recipient, message, domain (the sending one), pair, provider.
    scope: str = ""
    reply: Reply | None = None
    wire: Wire | None = None
    #: Of one that ``warns``: the sender's wall clock when it stopped the pair. It goes on with grants that say the same or later.
    warned_ns: int = 0

    @property
    def unreached(self) -> bool:
        """Say whether nobody answered for this delivery's domain, while its pair worked: nothing is learnt about the pair."""
        reply = self.reply
        nobody = reply is not None and reply.code == 0 and reply.stage in NOBODY
        return nobody and self.scope == "recipient" and self.result == "deferred"

    @property
    def warns(self) -> bool:
        """Say whether it is a no that was not about this delivery: nothing more begins at the pair until the scheduler has heard it."""
        ours = self.scope in ("pair", "provider") and self.result in ("deferred", "bounced")
        return ours or self.result == "pair_failed"


class Handback(
    Attempted,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="k",
    tag="handback",
):
    """Give a grant back that was not begun: drain, moved (another MX set), source (nothing can leave), gate (not fit for the dot)."""

    reason: str
    #: For ``moved``: what the sender found.
    site: str | None = None


class Mark(Record, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="mark"):
    """Let a scheduler partition read its own clock against the broker's."""

    sent_ns: int
    owner: str


#: A reply's text is cut at 1 KiB; the line is repeated in an event.
_LINE_BYTES: Final = 1 << 20
OUTCOME: Codec[Started | Outcome | Handback | Mark] = Codec(
    Started | Outcome | Handback | Mark, line_bytes=_LINE_BYTES
)
