"""Ask every scheduler, by the addresses that they say in mail.control, and know whether a partition is missing from the answers."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import aiohttp
import click
import msgspec

from services.cli.session import Unavailable, read_control
from shared.kafka.cluster import Cluster
from shared.records.answers import (
    CountAnswer,
    ExplainAnswer,
    LearntAnswer,
    OrdersAnswer,
    QueueAnswer,
)
from shared.records.selector import Selector
from shared.runtime.settings import Settings

A = TypeVar("A", QueueAnswer, CountAnswer, ExplainAnswer, OrdersAnswer, LearntAnswer)
#: A scheduler that has said nothing for so long is not asked.
_AWAY_NS: Final = 30_000_000_000
_PATIENCE: Final = aiohttp.ClientTimeout(total=30, connect=3)


@dataclass(frozen=True, slots=True)
class Answers(Generic[A]):
    """What they answered, and what is missing."""

    answers: Sequence[A]
    missing: Sequence[int]
    #: Partitions that two answered for: one was just handed over.
    twice: Sequence[int]
    failed: Sequence[str]

    def warn(self) -> None:
        """Say on standard error what the answer is without."""
        for reason in self.failed:
            click.echo(reason, err=True)
        for what, which in (("nobody answers for", self.missing), ("counted twice:", self.twice)):
            if which:
                named = ", ".join(map(str, which))
                click.echo(f"{what} partition{'s' if len(which) > 1 else ''} {named}", err=True)


async def ask(
    cluster: Cluster,
    settings: Settings,
    kind: type[A],
    path: str,
    *,
    query: dict[str, str] | None = None,
    selector: Selector | None = None,
) -> Answers[A]:
    """Ask all schedulers for ``path``; raises Unavailable where none answers."""
    view = await read_control(cluster, settings)
    members = view.answering(_AWAY_NS)
    if not members:
        raise Unavailable(
            "no scheduler says in mail.control where it can be asked; is one running?"
        )
    body = None if selector is None else msgspec.json.encode(selector)
    async with aiohttp.ClientSession(timeout=_PATIENCE) as session:
        said = await asyncio.gather(
            *(_ask(session, kind, member.url + path, query or {}, body) for member in members)
        )
    answers = [answer for answer in said if not isinstance(answer, str)]
    failed = [reason for reason in said if isinstance(reason, str)]
    if not answers:
        raise Unavailable("\n".join(failed))
    have = [number for answer in answers for number in answer.partitions]
    return Answers(
        answers,
        [number for number in range(settings.kafka.partitions) if number not in have],
        sorted({number for number in have if have.count(number) > 1}),
        failed,
    )


async def _ask(
    session: aiohttp.ClientSession,
    kind: type[A],
    url: str,
    query: dict[str, str],
    body: bytes | None,
) -> A | str:
    """Give the answer of one, or why there is none."""
    method = "GET" if body is None else "POST"
    try:
        async with session.request(method, url, params=query, data=body) as response:
            content = await response.read()
            if response.status != 200:  # noqa: PLR2004 - OK
                return f"{url}: {response.status} {content[:200].decode(errors='replace').strip()}"
            return msgspec.json.decode(content, type=kind)
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
        return f"{url}: {type(error).__name__}: {error}"


def total(
    rows: Sequence[tuple[tuple[str, ...], Sequence[int]]],
) -> dict[tuple[str, ...], list[int]]:
    """Add what has the same names."""
    found: dict[tuple[str, ...], list[int]] = {}
    for names, counts in rows:
        known = found.setdefault(names, [0] * len(counts))
        for at, count in enumerate(counts):
            known[at] += count
    return found


def plain(answer: Any) -> str:
    """Write an answer as JSON, for programs."""
    return msgspec.json.format(msgspec.json.encode(answer), indent=2).decode()
