"""`postyard queue` and `postyard explain`: what waits, since when, for what, and until when, over all schedulers."""

from collections import Counter
from pathlib import Path
from typing import Final

import click

from services.cli import learnt
from services.cli.schedulers import Answers, ask, plain, total
from services.cli.selecting import WORDS, require, selecting
from services.cli.session import Failed, Unavailable, config_option, settings_of, talk
from shared.kafka.cluster import Cluster
from shared.records.answers import AGES, BY, ExplainAnswer, Explanation, LearntAnswer, QueueAnswer
from shared.records.selector import Selector
from shared.records.times import rfc3339
from shared.runtime.settings import Settings

_WAITING: Final = tuple(WORDS)
_MOST: Final = 40


def _by(_: click.Context, __: click.Parameter, value: str) -> str:
    wrong = [each for each in value.split(",") if each not in BY]
    if wrong:
        raise click.BadParameter(f"{wrong[0]}: expected some of {', '.join(BY)}")
    return value


@click.command()
@click.option(
    "--by",
    default="provider",
    show_default=True,
    callback=_by,
    metavar="WHAT,…",
    help=f"One row for each of these: {', '.join(BY)}; several with commas.",
)
@click.option("--all", "every", is_flag=True, help=f"Every row, not the largest {_MOST}.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@config_option
def queue(path: Path, by: str, every: bool, as_json: bool) -> None:  # noqa: FBT001 - click's
    """Show what waits in the whole cluster, by age: one column for each doubling, in minutes.

    Every delivery that has no final event is counted once. What is parked lies in Kafka alone and has no age. Below it stand
    the sources and sending domains that destinations have slowed or stopped. Exit code 1 if a partition is missing.

    Example: postyard queue --by provider,reason
    """
    settings = settings_of(path)

    async def converse(cluster: Cluster) -> tuple[Answers[QueueAnswer], Answers[LearntAnswer]]:
        waiting = await ask(cluster, settings, QueueAnswer, "/queue", query={"by": by})
        try:
            return waiting, await learnt.asked(cluster, settings)
        except Unavailable as error:
            # Schedulers of a version before, in an upgrade: what waits is told all the same.
            every = range(settings.kafka.partitions)
            return waiting, Answers((), every, (), (error.message,))

    found, said = talk(settings, converse)
    known = [row for row in learnt.rows(said) if learnt.lessens(row)]
    rows = total([(row.names, row.ages) for answer in found.answers for row in answer.rows])
    parked = sum(answer.parked for answer in found.answers)
    ordered = sorted(rows.items(), key=lambda row: (-sum(row[1]), row[0]))
    if as_json:
        named = by.split(",")
        shown = [
            dict(zip(named, names, strict=True)) | {"total": sum(ages), "ages": ages}
            for names, ages in ordered
        ]
        click.echo(
            plain(
                {
                    "ages_minutes": AGES,
                    "rows": shown,
                    "parked": parked,
                    "learnt": known,
                    "missing_partitions": found.missing,
                }
            )
        )
    else:
        click.echo(table(by.split(","), ordered if every else ordered[:_MOST], ordered))
        if len(ordered) > _MOST and not every:
            click.echo(f"{len(ordered) - _MOST} more rows: --all")
        if parked:
            click.echo(f"parked: {parked}")
        for row in known[: len(known) if every else _MOST]:
            click.echo(learnt.told(row))
        if len(known) > _MOST and not every:
            click.echo(f"{len(known) - _MOST} more that destinations have slowed or stopped: --all")
    found.warn()
    if set(said.missing) > set(found.missing):
        click.echo("what destinations have slowed or stopped is not all known:", err=True)
        said.warn()
    if found.missing:
        raise SystemExit(1)


def table(
    by: list[str],
    rows: list[tuple[tuple[str, ...], list[int]]],
    whole: list[tuple[tuple[str, ...], list[int]]],
) -> str:
    """Write rows with their total on top, as qshape does."""
    ages = [sum(column) for column in zip(*(ages for _, ages in whole), strict=True)]
    head = [*by, "total", *(f"<{age}" for age in AGES), f"{AGES[-1]}+"]
    lines = [head, ["TOTAL", *[""] * (len(by) - 1), *_cells(ages or [0] * (len(AGES) + 1))]]
    lines += [[*names, *_cells(ages)] for names, ages in rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at < len(by) else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cells(ages: list[int]) -> list[str]:
    return [str(sum(ages)), *map(str, ages)]


@click.command()
@click.argument("delivery", required=False, metavar="[DELIVERY]")
@selecting(*(name for name in _WAITING if name != "delivery"))
@click.option(
    "--most", type=click.IntRange(1, 1000), default=20, show_default=True, help="List so many."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@config_option
def explain(path: Path, delivery: str | None, selector: Selector, most: int, as_json: bool) -> None:  # noqa: FBT001 - click's
    """Say why mail waits: of each delivery the one thing that binds, since when, and when it goes.

    Name a DELIVERY (events have its id), or select some. The time is the one at which it goes if nothing changes: what is
    before it goes first, as fast as limits allow or as it went of late. "unknown" where only an event ends the wait.

    Example: postyard explain --provider gmail --tenant acme
    """
    settings = settings_of(path)
    if delivery is not None:
        selector = Selector(delivery=delivery)
    require(selector, settings, *_WAITING)
    found = answers(settings, selector, most)
    listed = [each for answer in found.answers for each in answer.deliveries][:most]
    counts: Counter[str] = Counter()
    for answer in found.answers:
        counts.update(answer.reasons)
    if as_json:
        click.echo(
            plain({"reasons": counts, "deliveries": listed, "missing_partitions": found.missing})
        )
    else:
        for each in listed:
            click.echo(told(each))
        if delivery is None:
            shown = ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
            click.echo(f"{counts.total()} deliveries: {shown or 'none'}")
    found.warn()
    if delivery is not None and not listed:
        raise Failed(
            f"{delivery}: no scheduler has it: it has ended (mail.events says how), is parked, or was never accepted"
        )
    if found.missing:
        raise SystemExit(1)


def answers(settings: Settings, selector: Selector, most: int) -> Answers[ExplainAnswer]:
    """Ask all schedulers."""
    return talk(
        settings,
        lambda cluster: ask(
            cluster,
            settings,
            ExplainAnswer,
            "/explain",
            query={"most": str(most)},
            selector=selector,
        ),
    )


def told(each: Explanation) -> str:
    """Write one delivery's explanation for people."""
    since = "" if each.since_ns is None else f" since {rfc3339(each.since_ns)}"
    until = "" if each.until_ns is None else f" until {rfc3339(each.until_ns)}"
    goes = "unknown" if each.eta_ns is None else rfc3339(each.eta_ns)
    if each.eta_ns is not None and each.eta_ns >= each.expires_ns:
        goes = f"never: it expires {rfc3339(each.expires_ns)}"
    before = f", {each.before} before it" if each.before else ""
    detail = f" ({each.detail})" if each.detail else ""
    return (
        f"{each.delivery} {each.tenant} {each.class_} to {each.domain}: {each.reason}, {each.scope}{detail}{since}{until}"
        f"{before}; goes {goes}"
    )
