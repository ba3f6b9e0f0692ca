"""What a row of [limits] may be called, and what it may say.

    default | KEY | KEY/SOURCE | KEY/pool:POOL | KEY/tenant:TENANT | KEY/domain:DOMAIN | tenant:TENANT

KEY is a provider, a smart host (``smarthost:NAME``), or a site: its MX hosts, sorted, with commas. Rows of a pair (the first four) count
for each source; those of a tenant or a sending domain count over all sources, so a total is all that they may say.
"""

from collections.abc import Collection
from typing import Final

from shared.records.lanemap import group_of
from shared.runtime.files import shown
from shared.runtime.layers import FIELDS
from shared.runtime.providers import HASHED, provider_of, site_of
from shared.runtime.settings import LimitRow, Settings
from shared.runtime.table import Problems, exists

#: The least ``timing.total_window`` with a tenant's or a domain's limit: a grant may lie two seconds ahead of its tenant's token, and must
#: start within the window of it.
WINDOW_LEAST_NS: Final = 3 * 1_000_000_000
#: The least period of such a limit: it is kept by a start window of seconds, see services.scheduler.policy.limits.
PERIOD_LEAST_NS: Final = 60 * 1_000_000_000
_TOTALS: Final = ("total_rate", "total_connections")


def slot_groups(settings: Settings) -> int:
    """Count the slot groups that sources with an address lie in: each is decided about by itself, so what counts over all is divided."""
    return len({group_of(each.slot) for each in settings.sources.values() if each.address})


def of_part(name: str) -> bool:
    """Say whether a row is of what a tenant or a sending domain has at one destination that is no smart host."""
    key, _, rest = name.partition("/")
    return rest.startswith(("tenant:", "domain:")) and not key.startswith("smarthost:")


def divided(groups: int, count: int) -> str:
    """Say why ``count`` is too little for what is divided between ``groups``."""
    said = f"it is divided between the {groups} slot groups of the sources (128 slots each)"
    return f"{said}: expected at least {groups}, got {count}"


def limit_rows(settings: Settings, problems: Problems) -> None:
    """Add every problem of the rows of [limits]."""
    addresses = sum(1 for source in settings.sources.values() if source.address)
    groups = slot_groups(settings)
    for name, row in settings.limits.items():
        path = f"limits.{shown(name)}"
        _row(path, name, row, settings, problems)
        _divided(f"{path}.total_rate", name, row, groups, problems)
        alone = name.startswith("smarthost:")
        if row.total_connections is not None and row.total_connections < addresses and not alone:
            problems.say(
                f"{path}.total_connections",
                f"expected at least {addresses}, one for each source with an address, got {row.total_connections}",
            )


def _row(path: str, name: str, row: LimitRow, settings: Settings, problems: Problems) -> None:
    key, slash, rest = name.partition("/")
    kind, colon, which = rest.partition(":")
    if name.startswith("tenant:"):
        exists(path, "tenant", name.removeprefix("tenant:"), settings.tenants, problems)
        _part(path, row, settings, problems)
        return
    if not slash:
        _key(path, key, settings, problems)
        _start(path, key, row, settings, problems)
        _site(path, key, row, settings, problems)
        return
    if key == "default":
        problems.say(path, "the default holds for all sources and tenants: name a destination here")
        return
    _key(path, key, settings, problems)
    whole = _provider_of(key, settings)
    if whole is not None:
        problems.say(
            path, f"this is a site of {whole}, and is limited as a whole: expected {whole}/{rest}"
        )
        return
    match kind if colon else "":
        case "tenant":
            exists(path, "tenant", which, settings.tenants, problems)
            _part(path, row, settings, problems)
        case "domain":
            known = {domain: 0 for each in settings.tenants.values() for domain in each.domains}
            exists(path, "domain of a tenant", which, known, problems)
            _part(path, row, settings, problems)
        case "pool":
            exists(path, "pool", which, settings.pools, problems)
            sources = settings.pools[which].sources if which in settings.pools else ()
            _pair(path, key, row, problems)
            _from(path, key, rest, sources, settings, problems)
        case _:
            exists(path, "source", rest, settings.sources, problems)
            _pair(path, key, row, problems)
            _from(path, key, rest, (rest,), settings, problems)


def _divided(path: str, name: str, row: LimitRow, groups: int, problems: Problems) -> None:
    """Refuse a total of which not every slot group can have a token: what each decides by itself would pass it.

    Of a tenant's or a sending domain's the tokens are dealt (``services.scheduler.policy.shares``), and a smart host is in no group.
    """
    if row.total_rate is None or of_part(name) or name.startswith(("tenant:", "smarthost:")):
        return
    if row.total_rate.count < groups:
        problems.say(path, divided(groups, row.total_rate.count))


def _key(path: str, key: str, settings: Settings, problems: Problems) -> None:
    """Accept "default", a provider, a smart host, where a route leads to, or a site by the name that deliveries have it by."""
    if key == "default" or any(key == route.site for route in settings.routes.values()):
        return
    if "." in key and not key.startswith("smarthost:"):
        site = site_of([host.strip() for host in key.split(",")])
        if ":" in key:
            problems.say(path, f"no route leads to {key}: a site is its MX hosts, without a port")
        elif site != key and HASHED not in key:
            said = "its MX hosts in lower case, sorted, with commas and no blanks"
            problems.say(path, f'a site is written as {said}: expected "{site}"')
    elif key.startswith("smarthost:"):
        hosts = {name: s for name, s in settings.sources.items() if s.kind == "smarthost"}
        exists(path, "smart host", key.removeprefix("smarthost:"), hosts, problems)
    else:
        exists(path, "provider", key, settings.providers, problems)


def _start(path: str, key: str, row: LimitRow, settings: Settings, problems: Problems) -> None:
    known = key in settings.providers or key.startswith("smarthost:")
    known = known or any(key == route.site for route in settings.routes.values())
    if row.start_rate is not None and known and key != "default":
        problems.say(
            f"{path}.start_rate",
            "only a site grows that no route leads to: expected it in default, or in a site's row",
        )


def _site(path: str, key: str, row: LimitRow, settings: Settings, problems: Problems) -> None:
    """Refuse what a site of a provider cannot have of its own: bytes and total connections are the provider's, and none grows there."""
    provider = _provider_of(key, settings)
    if provider is None:
        return
    for name in FIELDS:
        if name in ("total_connections", "bytes", "start_rate") and getattr(row, name) is not None:
            problems.say(
                f"{path}.{name}",
                f"this is a site of {provider}: it belongs to limits.{provider}",
            )


def _provider_of(key: str, settings: Settings) -> str | None:
    """Name the provider that a site belongs to, by its hosts or by the routes that lead there; None: it is no provider's site."""
    if key in settings.providers:
        return None
    by_route = {route.provider for route in settings.routes.values() if route.site == key}
    if by_route:
        return None if None in by_route else min(filter(None, by_route))
    return provider_of("", key.split(","), settings.providers)


def _from(
    path: str,
    key: str,
    rest: str,
    sources: Collection[str],
    settings: Settings,
    problems: Problems,
) -> None:
    """Refuse a row for sources that never send there: what goes through a smart host counts as its alone, wherever it ends."""
    if not problems.sound(path):
        return
    relays = [name for name in sources if settings.sources[name].kind == "smarthost"]
    if key.startswith("smarthost:"):
        if key.removeprefix("smarthost:") not in sources:
            problems.say(path, f"nothing goes from {rest} to {key}: it sends by itself")
    elif relays:
        whole = f"smarthost:{relays[0]}"
        said = f"{relays[0]} is a smart host, and all that goes through it counts as {whole}"
        problems.say(path, f'{said}: expected limits."{whole}"')


def _pair(path: str, key: str, row: LimitRow, problems: Problems) -> None:
    if any(getattr(row, name) is not None for name in _TOTALS):
        problems.say(path, f"a total counts over all sources: it belongs to limits.{key}")
    if row.start_rate is not None:
        problems.say(f"{path}.start_rate", f"it belongs to limits.{key}")


def _part(path: str, row: LimitRow, settings: Settings, problems: Problems) -> None:
    for name in FIELDS:
        if name != "total_rate" and getattr(row, name) is not None:
            problems.say(
                f"{path}.{name}",
                "a tenant's or a domain's mail is counted over all sources: expected total_rate alone",
            )
    window = "timing.total_window"
    if settings.timing.total_window_ns < WINDOW_LEAST_NS and problems.sound(window):
        problems.say(window, f"expected at least 3s, since there is {path}")
    if row.total_rate is not None and row.total_rate.period_ns < PERIOD_LEAST_NS:
        problems.say(f"{path}.total_rate", "expected a rate per min, h or d, got one per s")
