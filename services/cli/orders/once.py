"""What is done once: `postyard cancel`, `expire`, `rush`, `reroute`.

The order stays in mail.control as long as mail can come late that it is about.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from services.cli.orders.order import (
    DID,
    dry_run_option,
    make_order,
    new_id,
    rehearse,
    require_reason,
    shown,
    signing,
)
from services.cli.selecting import WORDS, known, require, selecting
from services.cli.session import append_control, config_option, settings_of, talk
from shared.records.action import Action
from shared.records.selector import Selector
from shared.runtime.clock import SystemClock

_D: Final = 86_400 * 1_000_000_000
_WAITING: Final = tuple(WORDS)


def _once(action: Action) -> Callable[..., None]:
    """Make the body of a command that orders ``action``."""

    def command(
        path: Path, selector: Selector, reason: str, author: str, *, dry_run: bool, **more: Any
    ) -> None:
        settings = settings_of(path)
        require(selector, settings, *_WAITING)
        if more:
            known("pool", more["pool"], settings.pools)
        if dry_run:
            rehearse(settings, action, selector)
            return
        require_reason(reason)
        # Mail that was accepted before it is over by then.
        until = SystemClock().now_ns() + settings.ingest.max_lifetime_ns + _D
        order = make_order(new_id(action), action, selector, reason, author, until, **more)
        talk(settings, lambda cluster: append_control(cluster, settings, order))
        click.echo(f"{DID[action]} {shown(order)}")

    return command


def _ordering(action: Action, about: str, *options: Callable[[Any], Any]) -> click.Command:
    body: Any = _once(action)
    body.__doc__, body.__name__ = about, action
    wanted: list[Callable[[Any], Any]] = [
        config_option,
        *options,
        dry_run_option,
        signing,
        selecting(*_WAITING),
    ]
    for option in wanted:
        body = option(body)
    return click.command(name=action)(body)


_LATE: Final = (
    "Only mail that was accepted before the order is meant, wherever it is: what comes late, is parked, or is under\n    "
    "way is met when it comes, or comes back. An attempt that has begun is finished first."
)
cancel = _ordering(
    "cancel",
    f"""End mail that waits: its final event is `cancelled`.

    {_LATE}

    Example: postyard cancel --tenant acme --tag spring-sale --reason "wrong link"
    """,
)
expire = _ordering(
    "expire",
    f"""End mail that waits as if its time were over: its final event is `expired`.

    {_LATE}

    Example: postyard expire --stream passwords --older-than 15m --reason "useless by now"
    """,
)
rush = _ordering(
    "rush",
    f"""Try again now what waits for its next attempt, within all limits.

    It never goes before its `not_before`, nor sooner than greylisting wants. What is held after an unknown outcome goes only
    if it is named by --delivery: it may be the second copy.

    {_LATE}

    Example: postyard rush --provider gmail --reason "they are back"
    """,
)
reroute = _ordering(
    "reroute",
    f"""Let mail that waits go from another pool: other addresses, or a smart host's pool.

    {_LATE}

    Example: postyard reroute --provider gmail --older-than 30m --pool relay --reason "blocked"
    """,
    click.option("--pool", metavar="NAME", required=True, help="Where it goes from."),
)
