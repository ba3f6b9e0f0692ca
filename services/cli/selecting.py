"""Which mail an order is about, as options: each command that selects mail takes the same ones, and refuses a name that nobody knows."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click

from shared.records.selector import Selector
from shared.records.times import rfc3339
from shared.records.topics import CLASSES
from shared.runtime import quantities
from shared.runtime.clock import SystemClock
from shared.runtime.settings import Settings
from shared.runtime.table import suggestion

F = TypeVar("F", bound=Callable[..., Any])
_S: Final = 1_000_000_000

#: Field of the selector -> what its option says.
WORDS: Final[Mapping[str, str]] = {
    "tenant": "Only this tenant's mail.",
    "stream": "Only mail of this stream.",
    "tag": "Only mail that has this tag.",
    "class": "Only transactional, or bulk, mail.",
    "provider": "Only mail to this provider.",
    "domain": "Only mail to recipients at this domain.",
    "source": "Only from this source; of mail that waits: what no other source may send.",
    "older-than": "Only mail accepted so long ago, or before this time.",
    "delivery": "Only this delivery.",
}
_OPTIONS: Final = {"class_": "class", "accepted_before_ns": "older-than"}
_METAVARS: Final = {"older-than": "DURATION|TIME", "delivery": "ID"}


#: Why rates and connections are not ordered of mail that is selected so: each of them counts for something else.
_NO_LIMIT: Final[Mapping[str, str]] = {
    "stream": "a stream has no limit of its own: name its --tenant, or give it less weight in the configuration",
    "tag": "mail with a tag has no limit of its own: name its --tenant, or pause the tag",
    "class": "a class has no limit of its own: name a --tenant, or pause the class",
    "domain": "a recipient's domain has no limit of its own: name its --provider, or give its site a row in [limits]",
    "older-than": "what is accepted later counts under the same limits: name a --provider, --source or --tenant",
    "delivery": "one delivery has no limit: name a --provider, --source or --tenant",
}


def limited(selector: Selector) -> None:
    """Refuse to order a rate of mail that has none of its own: the error names the field, and what to do instead."""
    for field in sorted(selector.named):
        option = _OPTIONS.get(field, field)
        if option in _NO_LIMIT:
            raise click.UsageError(f"--{option}: {_NO_LIMIT[option]}")


def direct(selector: Selector, settings: Settings) -> None:
    """Refuse to order a rate to a provider through a smart host: its mail counts as its own, and the order would hold for nothing."""
    source = settings.sources.get(selector.source or "")
    if selector.provider is not None and source is not None and source.kind == "smarthost":
        raise click.UsageError(
            f"--provider: {source.name} is a smart host, and all that goes through it counts together: name --source alone"
        )


def selecting(*names: str, hidden: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Give a command the options of these fields; it gets ``selector``. Those that are ``hidden`` it refuses, and says why."""
    shown, names = names, (*names, *hidden)

    def decorate(command: F) -> F:
        def selected(**given: Any) -> Any:
            fields = {name.replace("-", "_"): given.pop(name.replace("-", "_")) for name in names}
            return command(selector=_selector(fields), **given)

        selected.__name__, selected.__doc__ = command.__name__, command.__doc__
        selected.__click_params__ = list(getattr(command, "__click_params__", ()))  # type: ignore[attr-defined]
        wrapped: Any = selected
        for name in reversed(names):
            wrapped = click.option(
                f"--{name}",
                name.replace("-", "_"),
                metavar=_METAVARS.get(name, "NAME"),
                type=click.Choice(CLASSES) if name == "class" else str,
                callback=before if name == "older-than" else None,
                help=WORDS[name],
                hidden=name not in shown,
            )(wrapped)
        return wrapped  # type: ignore[no-any-return]

    return decorate


def _selector(given: dict[str, Any]) -> Selector:
    return Selector(
        class_=given.pop("class", None),
        accepted_before_ns=given.pop("older_than", None),
        domain=_domain(given.pop("domain", None)),
        **given,
    )


def _domain(name: str | None) -> str | None:
    """Write a domain as deliveries have it."""
    if name is None:
        return None
    try:
        return name.rstrip(".").encode("idna").decode().lower()
    except UnicodeError as error:
        raise click.BadParameter(f"no domain: {name}", param_hint="--domain") from error


def require(selector: Selector, settings: Settings, *names: str) -> None:
    """Refuse to order about everything, or about a name that the configuration does not have: that would look as if it were done."""
    if not selector:
        raise click.UsageError(f"name at least one of --{', --'.join(names)}")
    known("tenant", selector.tenant, settings.tenants)
    known("provider", selector.provider, settings.providers)
    known("source", selector.source, settings.sources)


def known(kind: str, name: str | None, names: Mapping[str, object]) -> None:
    """Refuse ``name`` where it is none of ``names``, and say which was meant."""
    if name is not None and name not in names:
        hint = suggestion(name, names, "there are") if names else "there is none"
        raise click.BadParameter(f"no such {kind}: {name}; {hint}", param_hint=f"--{kind}")


# -- moments


def moment_ns(text: str, now_ns: int, *, ago: bool = False) -> int:
    """Read a duration from ``now_ns`` (or before it), or an RFC 3339 time with its offset; raises ValueError."""
    try:
        duration = quantities.duration_ns(text)
    except ValueError:
        pass
    else:
        return now_ns - duration if ago else now_ns + duration
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


def after(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    """Read when something ends: a moment that is still to come."""
    if value is None:
        return None
    now = SystemClock().now_ns()
    until = _read(value, now, ago=False)
    if until <= now:
        raise click.BadParameter(f"{rfc3339(until)} is not in the future")
    return until


def before(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    """Read since when at least something waits: a moment that has passed."""
    if value is None:
        return None
    now = SystemClock().now_ns()
    since = _read(value, now, ago=True)
    if not 0 <= since <= now:
        raise click.BadParameter(f"{rfc3339(since)} is not in the past")
    return since


def _read(value: str, now_ns: int, *, ago: bool) -> int:
    try:
        return moment_ns(value, now_ns, ago=ago)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
