"""`postyard pause|resume|cancel|reroute|rush|slow|expire|limit`, and `directives`: orders to the schedulers.

An order is a record in mail.control under an id of its own. What stands (pause, slow, limit) ends by itself or with `resume`; of what is
done once the record stays as long as mail can come late that it is about. Mail that waits for a pause uses no attempt; what was granted
before goes on. No lifetime is extended: what expires meanwhile expires.
"""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from services.cli.schedulers import Answers, ask
from services.cli.selecting import WORDS, after, known, limited, require, selecting
from services.cli.session import (
    Failed,
    append_control,
    author_option,
    config_option,
    read_control,
    settings_of,
    talk,
)
from shared.kafka.cluster import Cluster
from shared.records.action import STANDING, Action
from shared.records.answers import CountAnswer, OrdersAnswer
from shared.records.control import Directive, OrderedRate
from shared.records.selector import Selector
from shared.records.times import rfc3339
from shared.runtime import quantities
from shared.runtime.clock import SystemClock
from shared.runtime.overruling import of_tenant, totals
from shared.runtime.settings import ByteRate, Rate, Settings

_S: Final = 1_000_000_000
_D: Final = 86_400 * _S
#: A standing order ends after so long, unless it says otherwise; the word that one is over is kept as long.
_STANDS_NS: Final = 1 * _D
_WAITING: Final = tuple(WORDS)
#: What a limit may be of, and what it may not.
_LIMITED: Final = ("tenant", "provider", "source")
_UNLIMITED: Final = tuple(name for name in WORDS if name not in _LIMITED)
#: A grant may lie two seconds ahead of its tenant's token, and must start within the window of it.
_WINDOW_LEAST_NS: Final = 3 * _S
_MIN_NS: Final = 60 * _S
_ALONE: Final = {"source", "provider"}


_DRY: Final[Callable[[Any], Any]] = click.option(
    "--dry-run", is_flag=True, help="Order nothing: say how many deliveries it would be about now."
)


def _rehearse(settings: Settings, action: Action, selector: Selector) -> None:
    """Say what an order would be about, as all schedulers count it now."""
    found: Answers[CountAnswer] = talk(
        settings, lambda cluster: ask(cluster, settings, CountAnswer, "/count", selector=selector)
    )
    waiting, out, parked = (
        sum(getattr(answer, name) for answer in found.answers)
        for name in ("waiting", "open", "parked")
    )
    more = [f"{out} under way, met if they come back"] if out else []
    more += [f"up to {parked} parked, met when they are taken out"] if parked else []
    click.echo(
        f"would have {_DID[action]} {waiting} ({selector}){''.join(f'; {each}' for each in more)}"
    )
    found.warn()
    if found.missing:
        raise SystemExit(1)


def _signing(command: Callable[..., Any]) -> Callable[..., Any]:
    reason = click.option(
        "--reason",
        default="",
        help="Why; whoever is on call will read it. Not needed by --dry-run.",
    )
    return reason(author_option(command))


def _reasoned(reason: str) -> None:
    if not reason.strip():
        raise click.UsageError("Missing option '--reason': why, for whoever is on call")


def _standing(command: Callable[..., Any]) -> Callable[..., Any]:
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


# -- what stands


@click.command()
@selecting(*_WAITING)
@_signing
@_standing
@_DRY
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
        _rehearse(settings, "pause", selector)
        return
    _stand(settings, "pause", selector, reason, author, _until(expires, forever=until_resumed))


@click.command()
@selecting(*_LIMITED, hidden=_UNLIMITED)
@_signing
@_standing
@_DRY
@click.option(
    "--to",
    "percent",
    type=click.IntRange(1, 99),
    required=True,
    metavar="PERCENT",
    help="So much of the rates and connections that are allowed else.",
)
@config_option
def slow(
    path: Path,
    selector: Selector,
    percent: int,
    reason: str,
    author: str,
    expires: int | None,
    until_resumed: bool,  # noqa: FBT001 - click's
    dry_run: bool,  # noqa: FBT001 - click's
) -> None:
    """Send slower to a provider, from a source, or of a tenant: a part of what is allowed else.

    Rates and connections are cut to so many percent, connections to one at least. Of a tenant: its rates over all sources, those
    that it has in the configuration or by `limit`, at all destinations or with --provider at that one.

    Example: postyard slow --provider gmail --to 25 --reason "deferrals rise" --expires 6h
    """
    settings = settings_of(path)
    limited(selector)
    require(selector, settings, *_LIMITED)
    if selector.tenant is not None:
        _has_rate(settings, selector)
    if dry_run:
        _rehearse(settings, "slow", selector)
        return
    until = _until(expires, forever=until_resumed)
    _stand(settings, "slow", selector, reason, author, until, percent=percent)


def _rate(_: click.Context, __: click.Parameter, value: str | None) -> OrderedRate | None:
    if value is None:
        return None
    try:
        rate = quantities.rate(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return OrderedRate(count=rate.count, period_ns=rate.period_ns, burst=rate.burst)


def _byte_rate(_: click.Context, __: click.Parameter, value: str | None) -> OrderedRate | None:
    if value is None:
        return None
    try:
        rate = quantities.byte_rate(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return OrderedRate(count=rate.count, period_ns=rate.period_ns)


@click.command()
@selecting(*_LIMITED, hidden=_UNLIMITED)
@_signing
@_standing
@_DRY
@click.option(
    "--rate",
    callback=_rate,
    help='So much from each source, as "100/min"; of a tenant: over all sources.',
)
@click.option("--connections", type=click.IntRange(1), help="So many from each source.")
@click.option(
    "--bytes",
    "bytes_",
    callback=_byte_rate,
    help='So many bytes from each source, as "50MiB/min".',
)
@config_option
def limit(
    path: Path,
    selector: Selector,
    *,
    rate: OrderedRate | None,
    connections: int | None,
    bytes_: OrderedRate | None,
    reason: str,
    author: str,
    expires: int | None,
    until_resumed: bool,
    dry_run: bool,
) -> None:
    """Say what a provider, a source, or a tenant may be sent at most, instead of what the configuration says.

    It takes the place of the configured rate, connections and bytes, higher or lower; what totals and warm-ups allow, and what a
    destination has refused still hold. A tenant's rate is over all sources, to all destinations or with --provider to that one; it
    takes the place of the tenant's own row. Of several such orders the strictest holds.

    Example: postyard limit --provider gmail --source ip-1 --rate 50/h --reason "a new address" --expires 2d
    """
    settings = settings_of(path)
    limited(selector)
    require(selector, settings, *_LIMITED)
    if rate is None and connections is None and bytes_ is None:
        raise click.UsageError("name at least one of --rate, --connections, --bytes")
    total: OrderedRate | None = None
    if selector.tenant is not None:
        _of_tenant(settings, selector, rate, connections or bytes_)
        rate, total = None, rate
    if dry_run:
        _rehearse(settings, "limit", selector)
        return
    until = _until(expires, forever=until_resumed)
    said = {"rate": rate, "connections": connections, "bytes": bytes_, "total_rate": total}
    _stand(settings, "limit", selector, reason, author, until, **said)


def _of_tenant(
    settings: Settings, selector: Selector, rate: OrderedRate | None, more: object
) -> None:
    """Refuse what a tenant cannot have: its mail is counted over all sources, within seconds."""
    if selector.source is not None or more is not None:
        raise click.UsageError(
            "--tenant: a tenant's mail is counted over all sources: name --rate alone, and no --source"
        )
    if rate is not None and rate.period_ns < _MIN_NS:
        raise click.BadParameter(
            "of a tenant: expected a rate per min, h or d, got one per s", param_hint="--rate"
        )
    if settings.timing.total_window_ns < _WINDOW_LEAST_NS:
        raise click.UsageError("timing.total_window: expected at least 3s for a tenant's limit")


def _has_rate(settings: Settings, selector: Selector) -> None:
    """Refuse to take a part of what a tenant does not have."""
    if selector.source is not None:
        raise click.UsageError("--source: a tenant's mail is counted over all sources: name none")

    async def limits(cluster: Cluster) -> list[Directive]:
        standing = await _in_force(cluster, settings)
        return [order for order in standing if order.action == "limit"]

    part = _order("", "slow", selector, "", "", None)
    if not any(of_tenant(part, row) for row in totals(settings, talk(settings, limits))):
        where = "" if selector.provider is None else f" at {selector.provider}"
        raise click.UsageError(
            f"--tenant: {selector.tenant} has no rate{where} of which a part could be taken: give it one with `postyard limit`"
        )


def _until(expires: int | None, *, forever: bool) -> int | None:
    if forever and expires is not None:
        raise click.UsageError("either --expires or --until-resumed")
    if forever:
        return None
    return SystemClock().now_ns() + _STANDS_NS if expires is None else expires


def _stand(
    settings: Settings,
    action: Action,
    selector: Selector,
    reason: str,
    author: str,
    expires: int | None,
    **more: Any,
) -> None:
    """Put an order in force; it takes the place of one that names the same."""
    _reasoned(reason)

    async def converse(cluster: Cluster) -> Directive:
        same = [
            order
            for order in await _in_force(cluster, settings)
            if (order.action, order.selector) == (action, selector)
        ]
        id_ = same[-1].id if same else _new_id(action)
        order = _order(id_, action, selector, reason, author, expires, **more)
        await append_control(cluster, settings, order)
        return order

    click.echo(f"{_DID[action]} {shown(talk(settings, converse))}")


@click.command()
@selecting(*_WAITING)
@click.option("--id", "id_", metavar="ID", help="Only this order (`postyard directives` has it).")
@_signing
@config_option
def resume(path: Path, selector: Selector, id_: str | None, reason: str, author: str) -> None:
    """End a pause, a slow, a limit: name exactly what it names, or its id (`postyard directives` lists them)."""
    settings = settings_of(path)
    _reasoned(reason)
    if not selector and id_ is None:
        raise click.UsageError(f"name at least one of --id, --{', --'.join(_WAITING)}")

    async def converse(cluster: Cluster) -> list[Directive]:
        standing = await _in_force(cluster, settings)
        meant = [
            order
            for order in standing
            if (order.id == id_ if id_ is not None else order.selector == selector)
        ]
        if not meant:
            listed = "\n".join(map(shown, standing)) or "none"
            raise Failed(f"{id_ or selector}: nothing to resume; what stands:\n{listed}")
        over = SystemClock().now_ns() + _STANDS_NS
        for order in meant:
            ended = _order(order.id, "resume", order.selector, reason, author, over)
            await append_control(cluster, settings, ended)
        return meant

    for order in talk(settings, converse):
        click.echo(f"resumed {_DID[order.action]} {order.selector}")


# -- what is done once


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
            _rehearse(settings, action, selector)
            return
        _reasoned(reason)
        # Mail that was accepted before it is over by then.
        until = SystemClock().now_ns() + settings.ingest.max_lifetime_ns + _D
        order = _order(_new_id(action), action, selector, reason, author, until, **more)
        talk(settings, lambda cluster: append_control(cluster, settings, order))
        click.echo(f"{_DID[action]} {shown(order)}")

    return command


def _ordering(action: Action, about: str, *options: Callable[[Any], Any]) -> click.Command:
    body: Any = _once(action)
    body.__doc__, body.__name__ = about, action
    wanted: list[Callable[[Any], Any]] = [
        config_option,
        *options,
        _DRY,
        _signing,
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


# -- what is in force


@click.command()
@click.option(
    "--done", is_flag=True, help="Ask the schedulers how far they are, and with how many."
)
@config_option
def directives(path: Path, done: bool) -> None:  # noqa: FBT001 - click's
    """List the orders in force: what, on whom, until when, by whom, why, and their ids."""
    settings = settings_of(path)

    async def converse(cluster: Cluster) -> list[Directive]:
        view = await read_control(cluster, settings)
        return [each.order for each in view.in_force(SystemClock().now_ns())]

    orders = talk(settings, converse)
    progress: dict[str, str] = {}
    if done and orders:
        found: Answers[OrdersAnswer] = talk(
            settings, lambda cluster: ask(cluster, settings, OrdersAnswer, "/orders")
        )
        said = [each for answer in found.answers for each in answer.orders]
        for order in orders:
            mine = [each for each in said if each.id == order.id]
            progress[order.id] = (
                f"; {sum(each.hits for each in mine)} deliveries,"
                f" done in {sum(each.done for each in mine)} of {settings.kafka.partitions} partitions"
            )
        found.warn()
    for order in orders:
        click.echo(f"{order.action} {shown(order)}{progress.get(order.id, '')}")


async def _in_force(cluster: Cluster, settings: Settings) -> list[Directive]:
    view = await read_control(cluster, settings)
    return view.standing(SystemClock().now_ns())


_DID: Final[dict[Action, str]] = {
    "pause": "paused",
    "slow": "slowed",
    "limit": "limited",
    "cancel": "cancelled",
    "expire": "expired",
    "rush": "rushed",
    "reroute": "rerouted",
    "resume": "resumed",
}


def _new_id(action: Action) -> str:
    """Make an id that no other order has: one that has expired is never put in force again, for its key may just be taken away."""
    stamp = rfc3339(SystemClock().now_ns()).partition(".")[0].replace("-", "").replace(":", "")
    return f"{action}-{stamp}-{secrets.token_hex(3)}"


def _order(
    id_: str,
    action: Action,
    selector: Selector,
    reason: str,
    author: str,
    expires_ns: int | None,
    **more: Any,
) -> Directive:
    return Directive(
        id=id_,
        action=action,
        reason=reason,
        author=author,
        expires_ns=expires_ns,
        **msgspec.structs.asdict(selector),
        **more,
    )


def shown(order: Directive) -> str:
    """Write an order for people."""
    until = "until resumed" if order.expires_ns is None else f"until {rfc3339(order.expires_ns)}"
    what = f"{order.selector}{_terms(order)}"
    if order.action not in STANDING:
        until = f"looked at {until}"
    return f"{what}, {until}, by {order.author}: {order.reason} [{order.id}]"


def _terms(order: Directive) -> str:
    terms = []
    if order.pool is not None:
        terms.append(f"pool {order.pool}")
    if order.percent is not None:
        terms.append(f"{order.percent}%")
    for rate, over in ((order.rate, ""), (order.total_rate, " over all sources")):
        if rate is not None:
            text = quantities.rate_text(Rate(rate.count, rate.period_ns, rate.burst))
            terms.append(f"{text}{over}")
    if order.bytes is not None:
        terms.append(quantities.rate_text(ByteRate(order.bytes.count, order.bytes.period_ns)))
    if order.connections is not None:
        terms.append(f"{order.connections} connections")
    return f" to {', '.join(terms)}" if terms else ""


COMMANDS: Final = (pause, resume, slow, limit, cancel, reroute, rush, expire, directives)
