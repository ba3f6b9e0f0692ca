"""`postyard pause`, `resume`, `pauses`: stop granting for a tenant, a provider, a source, or what fits all that are named.

A pause is a record in mail.control under an id made of what it names, so ordering it again replaces it and resuming ends it. Mail that
waits for a pause uses no attempt; what was granted before goes on. No lifetime is extended: what expires meanwhile expires.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click

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
from shared.records.control import Directive
from shared.records.times import rfc3339
from shared.runtime import quantities
from shared.runtime.clock import SystemClock
from shared.runtime.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Selector:
    """What an order is about; all that is named must fit."""

    tenant: str | None = None
    provider: str | None = None
    source: str | None = None

    def __str__(self) -> str:
        """Write it as it is shown, and as it names the directive."""
        named = (("tenant", self.tenant), ("provider", self.provider), ("source", self.source))
        return ",".join(f"{kind}={name}" for kind, name in named if name is not None)

    @property
    def id(self) -> str:
        """Name the pause of exactly this."""
        return f"pause:{self}"


def _selecting(command: F) -> F:
    for kind, what in (
        ("source", "Only from this source (or, alone, everything from it)."),
        ("provider", "Only to this provider."),
        ("tenant", "Only this tenant's mail."),
    ):
        command = click.option(f"--{kind}", metavar="NAME", help=what)(command)
    return command


def _signing(command: Callable[..., Any]) -> Callable[..., Any]:
    reason = click.option("--reason", required=True, help="Why; whoever is on call will read it.")
    return reason(author_option(command))


def _moment(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    now = SystemClock().now_ns()
    try:
        until = moment_ns(value, now)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if until <= now:
        raise click.BadParameter(f"{rfc3339(until)} is not in the future")
    return until


def moment_ns(text: str, now_ns: int) -> int:
    """Read a duration from ``now_ns``, or an RFC 3339 time with its offset; raises ValueError."""
    try:
        return now_ns + quantities.duration_ns(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(
            f'expected a duration such as "2h" or a time such as "2027-01-31T12:00:00Z", got "{text}"'
        )
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * _S + since.microseconds * 1000


@click.command()
@_selecting
@_signing
@click.option(
    "--expires",
    callback=_moment,
    metavar="DURATION|TIME",
    help="When it ends by itself, such as 2h; else with `resume`.",
)
@config_option
def pause(
    path: Path,
    tenant: str | None,
    provider: str | None,
    source: str | None,
    reason: str,
    author: str,
    expires: int | None,
) -> None:
    """Stop granting mail of a tenant, to a provider, from a source.

    Of several that are named, all must fit: --tenant acme --provider gmail pauses acme's mail to gmail. What waits uses no
    attempt, and still expires. Mail under way is finished. The schedulers act on it once they have read it, within a second.

    Example: postyard pause --provider gmail --reason "4.7.28 since ten" --expires 2h
    """
    settings, selector = settings_of(path), Selector(tenant, provider, source)
    _known(selector, settings)
    order = Directive(
        id=selector.id,
        action="pause",
        tenant=tenant,
        provider=provider,
        source=source,
        reason=reason,
        author=author,
        expires_ns=expires,
    )
    talk(settings, lambda cluster: append_control(cluster, settings, order))
    click.echo(f"paused {_shown(order)}")


@click.command()
@_selecting
@_signing
@config_option
def resume(
    path: Path,
    tenant: str | None,
    provider: str | None,
    source: str | None,
    reason: str,
    author: str,
) -> None:
    """End a pause: name exactly what it names (`postyard pauses` lists them)."""
    settings, selector = settings_of(path), Selector(tenant, provider, source)
    if not str(selector):
        raise click.UsageError("name at least one of --tenant, --provider, --source")
    talk(settings, lambda cluster: _resume(cluster, settings, selector, reason, author))
    click.echo(f"resumed {selector}")


async def _resume(
    cluster: Cluster, settings: Settings, selector: Selector, reason: str, author: str
) -> None:
    in_force = await _in_force(cluster, settings)
    if selector.id not in {order.id for order in in_force}:
        listed = "\n".join(map(_shown, in_force)) or "none"
        raise Failed(f"{selector}: no such pause; in force:\n{listed}")
    order = Directive(
        id=selector.id,
        action="resume",
        tenant=selector.tenant,
        provider=selector.provider,
        source=selector.source,
        reason=reason,
        author=author,
    )
    await append_control(cluster, settings, order)


@click.command()
@config_option
def pauses(path: Path) -> None:
    """List the pauses in force: what, until when, by whom, why."""
    settings = settings_of(path)
    for order in talk(settings, lambda cluster: _in_force(cluster, settings)):
        click.echo(_shown(order))


async def _in_force(cluster: Cluster, settings: Settings) -> list[Directive]:
    view = await read_control(cluster, settings)
    return view.pauses(SystemClock().now_ns())


def _shown(order: Directive) -> str:
    until = "until resumed" if order.expires_ns is None else f"until {rfc3339(order.expires_ns)}"
    return f"{order.id.removeprefix('pause:')}, {until}, by {order.author}: {order.reason}"


def _known(selector: Selector, settings: Settings) -> None:
    """Refuse a name that the configuration does not have: a pause of nothing looks like a pause."""
    if not str(selector):
        raise click.UsageError("name at least one of --tenant, --provider, --source")
    tables: tuple[tuple[str, str | None, Mapping[str, object]], ...] = (
        ("tenant", selector.tenant, settings.tenants),
        ("provider", selector.provider, settings.providers),
        ("source", selector.source, settings.sources),
    )
    for kind, name, known in tables:
        if name is not None and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise click.BadParameter(f"no such {kind}: {name}{hint}", param_hint=f"--{kind}")
