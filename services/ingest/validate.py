"""validate: what a submission says around its message. Pure: Submission -> Envelope, or the problems that name field and rule.

A problem of the submission rejects it whole; a problem of one recipient rejects that recipient only. All problems are found, not
the first alone, so that a platform's developer mends them in one go.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from services.ingest.address import Address, parse
from services.ingest.lifetime import Lifetime, lifetime
from services.ingest.problem import Problem
from shared.records.submission import Submission
from shared.runtime.settings import Settings, Tenant
from shared.runtime.workings import Ingest

MAX_ID: Final = 200
_MAX_STREAM: Final = 100
_MAX_TAGS: Final = 20
_MAX_TAG: Final = 100
# Line separators of Unicode too: a log or a table must not break at them.
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient and its place in ``to``."""

    index: int
    address: Address


@dataclass(frozen=True, slots=True)
class RefusedRecipient:
    """One recipient that is rejected alone."""

    index: int
    text: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class Envelope:
    """A submission's options and addresses, checked."""

    tenant: Tenant
    class_: str
    #: None is the null return path.
    return_path: Address | None
    #: Empty where every recipient was refused.
    recipients: tuple[Recipient, ...]
    refused: tuple[RefusedRecipient, ...]
    pool: str
    life: Lifetime


def validate(
    submission: Submission, class_: str, settings: Settings, came_ns: int
) -> Envelope | tuple[Problem, ...]:
    """Check everything but the message."""
    tenant = settings.tenants.get(submission.tenant)
    if tenant is None:
        return (Problem("tenant", "no tenant of this name is configured"),)
    problems = _words(submission)
    return_path = _return_path(submission.from_, tenant)
    recipients, refused = _recipients(submission.to, settings.ingest, problems)
    pool = _pool(submission.pool, class_, tenant.pools)
    life = lifetime(
        submission.not_before,
        submission.expires,
        came_ns=came_ns,
        default_ns=settings.classes[class_].expires_ns,
        max_lifetime_ns=settings.ingest.max_lifetime_ns,
    )
    problems += [part for part in (return_path, pool, life) if isinstance(part, Problem)]
    if (
        problems
        or isinstance(return_path, Problem)
        or isinstance(pool, Problem)
        or isinstance(life, Problem)
    ):
        return tuple(problems)
    return Envelope(tenant, class_, return_path, recipients, refused, pool, life)


def _words(submission: Submission) -> list[Problem]:
    said = "".join((submission.id or "-", submission.stream, *submission.tags))
    if len(said) <= _MAX_TAG and submission.id != "" and not _UNPRINTABLE.search(said):
        # Nearly always, and for a fifth of the cost. (An empty tag adds nothing to the length: see the number of tags below.)
        return [] if len(submission.tags) <= _MAX_TAGS else [_too_many_tags()]
    found = []
    for field, text, most in (
        ("id", submission.id, MAX_ID),
        ("stream", submission.stream, _MAX_STREAM),
        *((f"tags[{at}]", tag, _MAX_TAG) for at, tag in enumerate(submission.tags[:_MAX_TAGS])),
    ):
        if text is None:
            continue
        if len(text) > most:
            found.append(Problem(field, f"is longer than {most} characters"))
        elif _UNPRINTABLE.search(text):
            found.append(Problem(field, "holds control characters or line breaks"))
    if submission.id == "":
        found.append(Problem("id", "is empty: leave it out, or give a key"))
    if len(submission.tags) > _MAX_TAGS:
        found.append(_too_many_tags())
    return found


def _too_many_tags() -> Problem:
    return Problem("tags", f"has more than {_MAX_TAGS} entries")


def _return_path(text: str, tenant: Tenant) -> Address | Problem | None:
    if text in ("", "<>"):
        return None
    address = parse(text, "from")
    if isinstance(address, Address) and address.domain not in tenant.domains:
        return Problem("from", f"{address.domain} is not one of the tenant's domains")
    return address


def _recipients(
    to: tuple[str, ...], bounds: Ingest, problems: list[Problem]
) -> tuple[tuple[Recipient, ...], tuple[RefusedRecipient, ...]]:
    if not to:
        problems.append(Problem("to", "has no recipient"))
    if len(to) > bounds.max_recipients:
        problems.append(
            Problem("to", f"has {len(to)} recipients, more than {bounds.max_recipients}")
        )
        return (), ()
    good: list[Recipient] = []
    refused: list[RefusedRecipient] = []
    seen: dict[Address, int] = {}
    for index, text in enumerate(to):
        field = f"to[{index}]"
        address = parse(text, field)
        if isinstance(address, Address):
            first = seen.setdefault(address, index)
            if first == index:
                good.append(Recipient(index, address))
                continue
            address = Problem(field, f"is the same recipient as to[{first}]")
        refused.append(RefusedRecipient(index, text, address))
    return tuple(good), tuple(refused)


def _pool(asked: str | None, class_: str, pools: Mapping[str, str]) -> str | Problem:
    if asked is None:
        chosen = pools.get(class_)
        return chosen or Problem("pool", f"the tenant has no pool for {class_}: name one")
    if asked not in pools.values():
        return Problem("pool", "is not one of the tenant's pools")
    return asked
