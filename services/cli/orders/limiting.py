"""How much at most: `postyard slow` takes a part of what is allowed, `postyard limit` says another figure. Both stand."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from services.cli.orders.order import dry_run_option, in_force, make_order, rehearse, signing
from services.cli.orders.standing import end_ns, stand, standing
from services.cli.selecting import WORDS, direct, limited, require, selecting
from services.cli.session import config_option, settings_of, talk
from shared.kafka.cluster import Cluster
from shared.records.control import Directive, OrderedRate
from shared.records.selector import Selector
from shared.runtime import quantities
from shared.runtime.limitrules import PERIOD_LEAST_NS, WINDOW_LEAST_NS
from shared.runtime.overruling import of_tenant, totals
from shared.runtime.rows import MOST_CONNECTIONS
from shared.runtime.settings import Rate, Settings

#: What a limit may be of, and what it may not.
_LIMITED: Final = ("tenant", "provider", "source")
_UNLIMITED: Final = tuple(name for name in WORDS if name not in _LIMITED)


@click.command()
@selecting(*_LIMITED, hidden=_UNLIMITED)
@signing
@standing
@dry_run_option
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
    direct(selector, settings)
    if selector.tenant is not None:
        _has_rate(settings, selector)
    if dry_run:
        rehearse(settings, "slow", selector)
        return
    until = end_ns(expires, forever=until_resumed)
    stand(settings, "slow", selector, reason, author, until, percent=percent)


def _reading(read: Callable[[str], Rate]) -> Callable[..., OrderedRate | None]:
    """Make an option's callback of a reader that raises ValueError."""

    def ordered(_: click.Context, __: click.Parameter, value: str | None) -> OrderedRate | None:
        if value is None:
            return None
        try:
            rate = read(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
        return OrderedRate(count=rate.count, period_ns=rate.period_ns, burst=rate.burst)

    return ordered


@click.command()
@selecting(*_LIMITED, hidden=_UNLIMITED)
@signing
@standing
@dry_run_option
@click.option(
    "--rate",
    callback=_reading(quantities.rate),
    help='So much from each source to each destination, as "100/min"; of a tenant: over all sources.',
)
@click.option(
    "--connections",
    type=click.IntRange(1, MOST_CONNECTIONS),
    help="So many from each source to each destination.",
)
@click.option(
    "--bytes",
    "bytes_",
    callback=_reading(quantities.byte_rate),
    help='So many bytes from each source to each destination, as "50MiB/min".',
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
    destination has refused still hold. One that names a source alone holds for each destination by itself.
    A tenant's rate is over all sources, to all destinations or with --provider to that one; it
    takes the place of the tenant's own row. Of several such orders the strictest holds.

    Example: postyard limit --provider gmail --source ip-1 --rate 50/h --reason "a new address" --expires 2d
    """
    settings = settings_of(path)
    limited(selector)
    require(selector, settings, *_LIMITED)
    direct(selector, settings)
    if rate is None and connections is None and bytes_ is None:
        raise click.UsageError("name at least one of --rate, --connections, --bytes")
    total: OrderedRate | None = None
    if selector.tenant is not None:
        _of_tenant(settings, selector, rate, connections or bytes_)
        rate, total = None, rate
    if dry_run:
        rehearse(settings, "limit", selector)
        return
    until = end_ns(expires, forever=until_resumed)
    said = {"rate": rate, "connections": connections, "bytes": bytes_, "total_rate": total}
    stand(settings, "limit", selector, reason, author, until, **said)


def _of_tenant(
    settings: Settings, selector: Selector, rate: OrderedRate | None, more: object
) -> None:
    """Refuse what a tenant cannot have: its mail is counted over all sources, within seconds."""
    if selector.source is not None or more is not None:
        raise click.UsageError(
            "--tenant: a tenant's mail is counted over all sources: name --rate alone, and no --source"
        )
    if rate is not None and rate.period_ns < PERIOD_LEAST_NS:
        raise click.BadParameter(
            "of a tenant: expected a rate per min, h or d, got one per s", param_hint="--rate"
        )
    if settings.timing.total_window_ns < WINDOW_LEAST_NS:
        raise click.UsageError("timing.total_window: expected at least 3s for a tenant's limit")


def _has_rate(settings: Settings, selector: Selector) -> None:
    """Refuse to take a part of what a tenant does not have."""
    if selector.source is not None:
        raise click.UsageError("--source: a tenant's mail is counted over all sources: name none")

    async def limits(cluster: Cluster) -> list[Directive]:
        stands = await in_force(cluster, settings)
        return [order for order in stands if order.action == "limit"]

    part = make_order("", "slow", selector, "", "", None)
    if not any(of_tenant(part, row) for row in totals(settings, talk(settings, limits))):
        where = "" if selector.provider is None else f" at {selector.provider}"
        raise click.UsageError(
            f"--tenant: {selector.tenant} has no rate{where} of which a part could be taken: give it one with `postyard limit`"
        )
