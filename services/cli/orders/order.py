"""An order: the record, its id, how it is written for people, what every command that orders has in common.

Who orders says why and who they are; a rehearsal says instead how many deliveries the order would be about now, and orders nothing.
"""

import secrets
from collections.abc import Callable
from typing import Any, Final

import click
import msgspec

from services.cli.schedulers import Answers, ask
from services.cli.session import author_option, read_control, talk
from shared.kafka.cluster import Cluster
from shared.records.action import STANDING, Action
from shared.records.answers import CountAnswer
from shared.records.control import Directive
from shared.records.selector import Selector
from shared.records.times import rfc3339
from shared.runtime import quantities
from shared.runtime.clock import SystemClock
from shared.runtime.settings import ByteRate, Rate, Settings

DID: Final[dict[Action, str]] = {
    "pause": "paused",
    "slow": "slowed",
    "limit": "limited",
    "cancel": "cancelled",
    "expire": "expired",
    "rush": "rushed",
    "reroute": "rerouted",
    "resume": "resumed",
}

dry_run_option: Final[Callable[[Any], Any]] = click.option(
    "--dry-run", is_flag=True, help="Order nothing: say how many deliveries it would be about now."
)


def rehearse(settings: Settings, action: Action, selector: Selector) -> None:
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
        f"would have {DID[action]} {waiting} ({selector}){''.join(f'; {each}' for each in more)}"
    )
    found.warn()
    if found.missing:
        raise SystemExit(1)


def signing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say why, and who."""
    reason = click.option(
        "--reason",
        default="",
        help="Why; whoever is on call will read it. Not needed by --dry-run.",
    )
    return reason(author_option(command))


def require_reason(reason: str) -> None:
    """Refuse an order that says nothing of why."""
    if not reason.strip():
        raise click.UsageError("Missing option '--reason': why, for whoever is on call")


async def in_force(cluster: Cluster, settings: Settings) -> list[Directive]:
    """Read which orders stand now; what is done once is none of them."""
    view = await read_control(cluster, settings)
    return view.standing(SystemClock().now_ns())


def new_id(action: Action) -> str:
    """Make an id that no other order has: one that has expired is never put in force again, for its key may just be taken away."""
    stamp = rfc3339(SystemClock().now_ns()).partition(".")[0].replace("-", "").replace(":", "")
    return f"{action}-{stamp}-{secrets.token_hex(3)}"


def make_order(
    id_: str,
    action: Action,
    selector: Selector,
    reason: str,
    author: str,
    expires_ns: int | None,
    **more: Any,
) -> Directive:
    """Write an order as the record it is; ``more`` are its terms. ``expires_ns`` None: until resumed."""
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
