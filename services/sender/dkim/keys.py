"""Who signs a message: the keys of its tenant for its From domain that are valid now.

Of a domain's keys of one kind those with the newest ``from`` sign: so a new selector takes over by itself, and the old key may stay in the
settings (and its public half in DNS) as long as mail that it signed is under way. A key that should sign and cannot be read is trouble: no
message goes with one signature less because of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.sender.dkim.keyfiles import KeyFiles, KeyTrouble
from services.sender.dkim.sign import Signer
from shared.runtime.clock import Clock
from shared.runtime.settings import DkimKey, Settings, Tenant

_KINDS: Final = 2


@dataclass(slots=True)
class KeyRing:
    """Find the signers of a message."""

    settings: Settings
    clock: Clock
    files: KeyFiles
    #: tenant -> domain -> its rows, the newest first
    _rows: Mapping[str, Mapping[str, Sequence[DkimKey]]] = field(init=False)
    #: No message has more.
    most_signatures: int = field(init=False)
    _signers: dict[DkimKey, Signer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Sort the rows, once."""
        self._rows = {name: _by_domain(tenant) for name, tenant in self.settings.tenants.items()}
        domains = [rows for tenant in self._rows.values() for rows in tenant.values()]
        self.most_signatures = max(map(len, domains), default=0)

    async def signers(self, tenant: str, domain: str) -> tuple[Signer, ...]:
        """Give the signers for a From domain, those of the nearest domain above it; RSA first; none: no key fits. Raises KeyTrouble."""
        while isinstance(found := self.known(tenant, domain), Path):
            await self.files.look(found)
        return found

    def known(self, tenant: str, domain: str) -> tuple[Signer, ...] | Path:
        """Give the signers as ``signers`` does, or a file that must be looked at before."""
        now_ns = self.clock.now_ns()
        newest: dict[str, int] = {}
        found: list[Signer] = []
        for row in self._nearest(tenant, domain):
            if not row.valid(now_ns):
                continue
            if len(newest) == _KINDS and row.from_ns < min(newest.values()):
                break  # Replaced, of whichever kind it is: nobody needs its file.
            signer = self._signer(row)
            if signer is None:
                return row.key_file
            if row.from_ns == newest.setdefault(signer.algorithm, row.from_ns):
                found.append(signer)
        # RSA first: some verifiers look at the first signature only.
        if len(found) > 1:
            found.sort(key=lambda signer: signer.algorithm != "rsa-sha256")
        return tuple(found)

    def _nearest(self, tenant: str, domain: str) -> Sequence[DkimKey]:
        if tenant not in self._rows:
            raise KeyTrouble(f"tenant {tenant} is not configured")
        rows = self._rows[tenant]
        while domain not in rows:
            _, dot, domain = domain.partition(".")
            if not dot:
                return ()
        return rows[domain]

    def _signer(self, row: DkimKey) -> Signer | None:
        key = self.files.known(row.key_file)
        if key is None:
            return None
        signer = self._signers.get(row)
        if signer is None or signer.key is not key:
            signer = Signer(row.domain, row.selector, key, row.canonicalization)
            self._signers[row] = signer
        return signer


def _by_domain(tenant: Tenant) -> Mapping[str, Sequence[DkimKey]]:
    found: dict[str, list[DkimKey]] = {}
    for row in sorted(tenant.dkim, key=lambda row: row.from_ns, reverse=True):
        found.setdefault(row.domain, []).append(row)
    return found
