"""What stands: `postyard pause`, and `postyard resume`, which ends a pause, a slow, a limit before its time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from services.cli.orders.order import (
    DID,
    dry_run_option,
    in_force,
    make_order,
    new_id,
    rehearse,
    require_reason,
    shown,
    signing,
)
from services.cli.selecting import WORDS, after, require, selecting
from services.cli.session import Failed, append_control, config_option, settings_of, talk
from shared.kafka.cluster import Cluster
from shared.records.action import Action
from shared.records.control import Directive
from shared.records.selector import Selector
from shared.runtime.clock import SystemClock
from shared.runtime.settings import Settings

_S: Final = 1_000_000_000
_D: Final = 86_400 * _S
#: A standing order ends after so long, unless it says otherwise; the word that one is over is kept as long.
STANDS_NS: Final = 1 * _D
_WAITING: Final = tuple(WORDS)
_ALONE: Final = {"source", "provider"}


def standing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say until when."""
    command = click.option(
        "--until-resumed",
        is_flag=True,
        help="It does not end by itself; else it does after --expires.",
    )(command)
    return click.option(
        "--expires",
        callback=after,
        metavar="DURATION|TIME",
        help="When it ends by itself, such as 2h; after a day if not given.",
    )(command)


@click.command()
@selecting(*_WAITING)
@signing
@standing
@dry_run_option
@config_option
def pause(
    path: Path,
    selector: Selector,
    reason: str,
    author: str,
    expires: int | None,
    until_resumed: bool,  # noqa: FBT001 - click's
    dry_run: bool,  # noqa: FBT001 - click's
) -> None:
    """Stop granting mail of a tenant, to a provider, from a source, with a tag, and so on.

    Of several that are named, all must fit: --tenant acme --provider gmail pauses acme's mail to gmail. What waits uses no
    attempt, and still expires. Mail under way is finished. The schedulers act on it once they have read it, within a second.

    Example: postyard pause --provider gmail --reason "4.7.28 since ten" --expires 2h
    """
    settings = settings_of(path)
    require(selector, settings, *_WAITING)
    if selector.source is not None and not selector.named <= _ALONE:
        raise click.UsageError(
            "--source: a source is paused for all of its mail, or with --provider for all to that provider"
        )
    if dry_run:
        rehearse(settings, "pause", selector)
        return
    stand(settings, "pause", selector, reason, author, end_ns(expires, forever=until_resumed))


def end_ns(expires: int | None, *, forever: bool) -> int | None:
    """Say when an order ends: as it says, in a day, or, ``forever``, never."""
    if forever and expires is not None:
        raise click.UsageError("either --expires or --until-resumed")
    if forever:
        return None
    return SystemClock().now_ns() + STANDS_NS if expires is None else expires


def stand(
    settings: Settings,
    action: Action,
    selector: Selector,
    reason: str,
    author: str,
    expires: int | None,
    **more: Any,
) -> None:
    """Put an order in force; it takes the place of one that names the same."""
    require_reason(reason)

    async def converse(cluster: Cluster) -> Directive:
        same = [
            order
            for order in await in_force(cluster, settings)
            if (order.action, order.selector) == (action, selector)
        ]
        id_ = same[-1].id if same else new_id(action)
        order = make_order(id_, action, selector, reason, author, expires, **more)
        await append_control(cluster, settings, order)
        return order

    click.echo(f"{DID[action]} {shown(talk(settings, converse))}")


@click.command()
@selecting(*_WAITING)
@click.option("--id", "id_", metavar="ID", help="Only this order (`postyard directives` has it).")
@signing
@config_option
def resume(path: Path, selector: Selector, id_: str | None, reason: str, author: str) -> None:
    """End a pause, a slow, a limit: name exactly what it names, or its id (`postyard directives` lists them)."""
    settings = settings_of(path)
    require_reason(reason)
    if not selector and id_ is None:
        raise click.UsageError(f"name at least one of --id, --{', --'.join(_WAITING)}")
    if selector and id_ is not None:
        raise click.UsageError("either --id or what the order names")

    async def converse(cluster: Cluster) -> list[Directive]:
        stands = await in_force(cluster, settings)
        meant = [
            order
            for order in stands
            if (order.id == id_ if id_ is not None else order.selector == selector)
        ]
        if not meant:
            listed = "\n".join(f"{order.action} {shown(order)}" for order in stands) or "none"
            raise Failed(f"{id_ or selector}: nothing to resume; what stands:\n{listed}")
        over = SystemClock().now_ns() + STANDS_NS
        for order in meant:
            ended = make_order(order.id, "resume", order.selector, reason, author, over)
            await append_control(cluster, settings, ended)
        return meant

    for order in talk(settings, converse):
        click.echo(f"resumed {DID[order.action]} {order.selector}")
