"""Whose mail a delivery is by the settings of now: they may name providers otherwise than when it was taken in. Pure.

A provider is renamed, gets other MX suffixes, is new, or is gone, while its mail waits; and during a rollout ingest and scheduler have
different settings for a while. The limit key is the provider's name: two names for one host would let it have twice its limits. So it is
asked again by the site, the set of MX hosts that was found, whenever a partition is taken over (each other configuration does that, see
``service``), when an attempt has ended, and for what comes with a provider that nobody here knows. Nobody is asked over the network.

Nothing of it is written for its own sake, for it may be about a million: it is found again by whoever restores them.
"""

from dataclasses import dataclass, field
from typing import Final

from shared.records.state import DeliveryState
from shared.runtime.providers import HASHED, provider_of
from shared.runtime.settings import Settings

#: Of so many sites it is remembered who runs them.
_REMEMBERED: Final = 65_536


@dataclass(slots=True)
class Rollup:
    """Name providers by one configuration."""

    settings: Settings
    #: Domain -> the provider that lists it.
    _listed: dict[str, str] = field(init=False)
    #: Site -> who runs it.
    _known: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Turn the lists of domains round."""
        self._listed = {
            domain: provider.name
            for provider in reversed(tuple(self.settings.providers.values()))
            for domain in provider.domains
        }

    def knows(self, provider: str | None) -> bool:
        """Say whether the settings have a provider of this name; nobody's mail is known as well."""
        return provider is None or provider in self.settings.providers

    def renew(self, entry: DeliveryState) -> bool:
        """Let a delivery have the provider that the settings give its site; True: it had another."""
        if entry.site is None:
            return False
        was = entry.provider
        route = self.settings.route(entry.domain) if self.settings.routes else None
        if route is not None and route.site == entry.site:
            entry.provider = route.provider
        elif HASHED in entry.site and entry.domain not in self._listed:
            if not self.knows(was):
                # Its hosts are not known any more: they must be asked for.
                entry.site = entry.provider = None
        else:
            entry.provider = self._listed.get(entry.domain) or self._of(entry.site)
        return entry.provider != was

    def _of(self, site: str) -> str | None:
        try:
            return self._known[site]
        except KeyError:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = self._known[site] = provider_of("", site.split(","), self.settings.providers)
            return found
