"""rejected: what could not be read or accepted, on mail.rejected, in the same transaction as the offset that passed it."""

from shared.records.codec import Codec, Record

#: So much of the value is kept.
KEEP_BYTES = 4096


class Rejected(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Name the record and the reason; the first 4 KiB of its value follow the line."""

    time: str
    topic: str
    partition: int
    offset: int
    #: unreadable, invalid, too_large, conflict, internal
    reason: str
    detail: str = ""
    field: str = ""
    size_bytes: int = 0


REJECTED: Codec[Rejected] = Codec(Rejected)
