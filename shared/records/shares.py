"""want and shares in mail.control: a limit that several scheduler partitions keep together, dealt in tokens (scheduler's policy.shares)."""

import msgspec

from shared.records.codec import Record


class Want(Record, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="want"):
    """Ask for tokens of limits that cross partitions: how many each limit's mail could use now; nothing said lately is nothing asked."""

    partition: int
    of: dict[str, int]


class Share(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What of one limit was given, and until when it may be used."""

    until_ns: int
    #: Partition -> tokens, each for one attempt.
    tokens: dict[int, int]


class Shares(Record, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="shares"):
    """Give tokens of limits that cross partitions, once each: what is not used in time is lost."""

    #: The round's time of the one who gives; it grows from record to record, over restarts and other owners too.
    given_ns: int
    of: dict[str, Share]
