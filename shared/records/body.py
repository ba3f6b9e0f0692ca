"""body: a large or shared message in mail.bodies, stored once and referred to.

The record's value is its line and then the RFC 5322 bytes. Each ingest worker writes to its own partition; the topic keeps records
for max_lifetime + 2 days by LogAppendTime, longer than any delivery lives.
"""

import msgspec

from shared.records.codec import Codec, Record


class BodyRef(msgspec.Struct, frozen=True, gc=False, kw_only=True, array_like=True):
    """Where a body lies in mail.bodies."""

    partition: int
    offset: int
    size_bytes: int


class Body(Record, frozen=True, kw_only=True, omit_defaults=True):
    """The line before a stored body; ``submission`` tells whose it is."""

    submission: str
    tenant: str
    size_bytes: int


BODY: Codec[Body] = Codec(Body)
