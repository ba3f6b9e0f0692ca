"""key: an idempotency key on mail.keys, and the submission that was accepted under it.

The record's key is the idempotency key with its tenant before it. It is written by the ingest worker that owns it, in the transaction that
accepted the submission, to the partition of the submission; Kafka forgets it after a day.
"""

from typing import Annotated

import msgspec

from shared.records.codec import Codec, Natural, Record

Class = Annotated[str, msgspec.Meta(pattern="^(transactional|bulk)$")]
#: The first 64 bits of a hash.
Fingerprint = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]


def named(tenant: str, id_: str) -> str:
    """Name a tenant's key; no tenant's name holds a slash."""
    return f"{tenant}/{id_}"


class Key(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Name the submission: its class, and its offset in the partition where this lies too."""

    class_: Class = msgspec.field(name="class")
    offset: Natural
    #: Of the submission's value: whoever sends it again sends the same.
    fingerprint: Fingerprint


KEY: Codec[Key] = Codec(Key)
