"""submission: what a platform produces to mail.submissions.{transactional,bulk}.

One message and one or more recipients. The message is either the RFC 5322 bytes after the line, or ``message``: fields from which
ingest builds MIME. The class is the topic's. Times are RFC 3339; ``expires`` may be a duration such as ``"6h"``.
"""

import msgspec

from shared.records.codec import Codec, Record


class Attachment(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One attached file; ``content`` is base64. With ``cid`` it is an inline part of the HTML."""

    filename: str
    content: str
    content_type: str = "application/octet-stream"
    cid: str | None = None


class Message(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The message as fields; addresses may carry a display name: ``"Ann <ann@example.com>"``."""

    from_: str = msgspec.field(name="from")
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    reply_to: tuple[str, ...] = ()
    subject: str = ""
    text: str | None = None
    html: str | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()


class Submission(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One message for ``to`` (envelope recipients, one delivery each)."""

    tenant: str
    #: The return path (MAIL FROM), byte-identical at every attempt; "" is the null return path.
    from_: str = msgspec.field(name="from")
    to: tuple[str, ...]
    #: Idempotency key; without one the record's own (topic, partition, offset) is the key.
    id: str | None = None
    not_before: str | None = None
    expires: str | None = None
    pool: str | None = None
    stream: str = ""
    tags: tuple[str, ...] = ()
    message: Message | None = None


SUBMISSION: Codec[Submission] = Codec(Submission)
