"""Roll a set of MX hosts up to the provider who runs them, and name the site of those that nobody knows. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from shared.runtime.settings import Provider

_SITE_LENGTH: Final = 200
#: In the name of a site that does not say its hosts.
HASHED: Final = "~"


def provider_of(domain: str, hosts: Sequence[str], providers: Mapping[str, Provider]) -> str | None:
    """Name the provider: the one that lists the domain, else the one whose suffixes match *all* MX hosts."""
    for provider in providers.values():
        if domain in provider.domains:
            return provider.name
    if not hosts:
        return None
    for provider in providers.values():
        if provider.mx and all(_matches(host, provider.mx) for host in hosts):
            return provider.name
    return None


def _matches(host: str, suffixes: Sequence[str]) -> bool:
    return any(
        host.endswith(suffix) if suffix.startswith(".") else host == suffix for suffix in suffixes
    )


def site_of(hosts: Sequence[str]) -> str:
    """Name the normalised set of MX hosts: sorted, lower case, joined; a very long one by its hash."""
    joined = ",".join(sorted({host.lower().rstrip(".") for host in hosts}))
    if len(joined) <= _SITE_LENGTH:
        return joined
    return f"{joined[:40]}{HASHED}{hashlib.sha256(joined.encode()).hexdigest()[:32]}"
