"""intake: one record of mail.submissions.* -> a draft of its deliveries, or a refusal. Pure, and total but for bugs of ours.

    decode -> (another partition's?) -> validate (envelope) -> compose (where the message came as fields) -> normalise -> Draft

Ids come from the record's own place in the log, so that the same record gives the same deliveries whoever reads it, and however often.

A submission with an idempotency key belongs to the partition of its key, where it is known whether the key was taken: one that lies
elsewhere is a stray, and goes there first.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.ingest.compose import compose
from services.ingest.normalise import (
    NO_ONE_CLICK,
    Normalised,
    Stamp,
    message_id,
    normalise,
)
from services.ingest.problem import Problem
from services.ingest.validate import MAX_ID, Envelope, RefusedRecipient, validate
from shared.records.codec import Unreadable, split
from shared.records.key import named
from shared.records.submission import SUBMISSION, Submission
from shared.records.topics import MAX_RECORD_BYTES
from shared.runtime.settings import Settings, Tenant

#: What a delivery and its event cost beside the body, roughly.
_PER_RECIPIENT_BYTES: Final = 1500
_MS: Final = 1_000_000
#: The largest value that Kafka takes: a batch has a header of its own, and a record its key.
LARGEST_BYTES: Final = MAX_RECORD_BYTES - (64 << 10)

#: The partition that a key belongs to.
Home = Callable[[bytes], int]


class Source(NamedTuple):
    """Where a submission lies: enough to name it for ever."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    class_: str
    #: When Kafka took the stray that this was.
    strayed_ms: int | None = None

    @property
    def submission(self) -> str:
        """Name the submission that brought no key of its own."""
        return f"{self.topic}-{self.partition}-{self.offset}"

    def delivery(self, index: int) -> str:
        """Name the delivery to ``to[index]``."""
        return f"{self.class_[0]}{self.partition}-{self.offset}-{index}"

    def came_ns(self, now_ns: int) -> int:
        """Say when Kafka took it, by the broker's clock; never later than ``now_ns``, and now where no broker has stamped it."""
        stamps = [stamp for stamp in (self.timestamp_ms, self.strayed_ms) if stamp is not None]
        return min(now_ns, *(stamp * _MS if stamp >= 0 else now_ns for stamp in stamps))

    def token(self) -> str:
        """Make a name that tells strangers nothing: for Message-ID and Received."""
        place = f"{self.topic}/{self.partition}/{self.offset}/{self.timestamp_ms}"
        return hashlib.blake2b(place.encode(), digest_size=14).hexdigest()


@dataclass(frozen=True, slots=True)
class Draft:
    """A submission that is accepted, before anybody knows where its recipients' mail goes."""

    source: Source
    #: See ``Source.token``.
    token: str
    submission: Submission
    envelope: Envelope
    message: Normalised
    warnings: tuple[str, ...]

    @property
    def id(self) -> str:
        """Name it: by its key, or by its place."""
        return self.submission.id or self.source.submission

    def prepend(self, index: int) -> str:
        """Give the header lines of one recipient."""
        if not self.message.lacks_message_id:
            return ""
        return message_id(f"{self.token}.{index}", self.message.header_domain)

    def stored(self, inline_max: int) -> bool:
        """Say whether the body goes to mail.bodies, once, rather than along with each delivery."""
        return len(self.message.data) * len(self.envelope.recipients) > inline_max

    def cost_bytes(self, inline_max: int) -> int:
        """Estimate what it adds to a round."""
        count = len(self.envelope.recipients)
        copies = 1 if self.stored(inline_max) else count
        return len(self.message.data) * copies + count * _PER_RECIPIENT_BYTES


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record that is rejected; ``submission`` is there where it could be read."""

    source: Source
    #: As in ``shared.records.rejected``.
    reason: str
    problems: tuple[Problem, ...]
    submission: Submission | None = None
    #: Where only the recipients were wrong, all of them.
    refused: tuple[RefusedRecipient, ...] = ()


@dataclass(frozen=True, slots=True)
class Stray:
    """A submission that another partition has to read, because of its key."""

    source: Source
    partition: int


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A submission that was accepted before, under its key."""

    source: Source
    submission: Submission
    #: Where it lies that was accepted: see ``Source.submission``.
    earlier: str


#: What becomes of a record.
Outcome = Draft | Refusal | Stray | Duplicate


def read(  # noqa: PLR0911 - one for each step
    source: Source,
    value: bytes | None,
    settings: Settings,
    now_ns: int,
    home: Home | None = None,
) -> Draft | Refusal | Stray:
    """Read one record; without ``home`` every key belongs here."""
    submission = SUBMISSION.decode(value)
    if isinstance(submission, Unreadable) or value is None:
        reason = submission.reason if isinstance(submission, Unreadable) else ""
        return Refusal(source, "unreadable", (Problem("record", reason[:500]),))
    if home is not None and _keyed(submission, settings) and len(value) <= LARGEST_BYTES:
        partition = home(named(submission.tenant, submission.id or "").encode())
        # Once: where two do not agree about partitions it would go to and fro.
        if partition != source.partition and source.strayed_ms is None:
            return Stray(source, partition)
    envelope = validate(submission, source.class_, settings, source.came_ns(now_ns))
    if isinstance(envelope, tuple):
        return _refusal(source, submission, envelope)
    if not envelope.recipients:
        problems = tuple(one.problem for one in envelope.refused)
        return Refusal(source, "invalid", problems, submission, envelope.refused)
    raw = _message(submission, split(value)[1])
    if isinstance(raw, tuple):
        return _refusal(source, submission, raw)
    token = source.token()
    message = normalise(
        raw,
        domains=envelope.tenant.domains,
        max_bytes=settings.ingest.max_message,
        stamp=Stamp(
            date_ns=max(now_ns, envelope.life.not_before_ns),
            now_ns=now_ns,
            token=token,
            message_id=source.class_ == "transactional",
        ),
    )
    if isinstance(message, Problem):
        return _refusal(source, submission, (message,))
    if not (envelope.tenant.unsigned or signs(envelope.tenant, message.header_domain)):
        rule = f"the tenant has no DKIM key for {message.header_domain}"
        return _refusal(source, submission, (Problem("header.from", rule),))
    return Draft(
        source,
        token,
        submission,
        envelope,
        message,
        _warnings(envelope, message),
    )


def key_of(outcome: Draft | Refusal) -> str | None:
    """Give the idempotency key of what was read; None: it has none, or what it has is no matter."""
    submission = outcome.submission
    if submission is None or (isinstance(outcome, Refusal) and outcome.reason == "internal"):
        return None
    return named(submission.tenant, submission.id) if submission.id else None


def _keyed(submission: Submission, settings: Settings) -> bool:
    """Say whether it has a key that can be taken; any other is refused where it lies."""
    id_ = submission.id
    return id_ is not None and 0 < len(id_) <= MAX_ID and submission.tenant in settings.tenants


def _refusal(source: Source, submission: Submission, problems: tuple[Problem, ...]) -> Refusal:
    reason = "too_large" if any(problem.too_large for problem in problems) else "invalid"
    return Refusal(source, reason, problems, submission)


def _message(submission: Submission, body: bytes) -> bytes | tuple[Problem, ...]:
    if submission.message is None:
        return body or (Problem("message", "is missing: neither fields nor bytes after the line"),)
    if body:
        return (Problem("message", "is there twice: as fields and as bytes after the line"),)
    return compose(submission.message, submission.to)


def signs(tenant: Tenant, domain: str) -> bool:
    """Say whether a key of the tenant fits: the domain's own, or that of one above it (relaxed alignment)."""
    return any(domain == key.domain or domain.endswith(f".{key.domain}") for key in tenant.dkim)


def _warnings(envelope: Envelope, message: Normalised) -> tuple[str, ...]:
    found = [text for text in message.warnings if text != NO_ONE_CLICK or envelope.class_ == "bulk"]
    path = envelope.return_path
    if path is not None and not _related(path.domain, message.header_domain):
        found.append("From is not aligned with the return path")
    if not signs(envelope.tenant, message.header_domain):
        found.append("not signed: no DKIM key fits the From domain")
    return tuple(found)


def _related(one: str, other: str) -> bool:
    return one == other or one.endswith(f".{other}") or other.endswith(f".{one}")
