"""Keys by tenant and From domain, read from their files, read again when a file changes.

A key file is looked at once in a while, not for every message. One that cannot be read, or holds no usable key, is trouble: nothing is
sent unsigned because of it. A file that changes to rubbish keeps the last good key, and says so.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from structlog.typing import FilteringBoundLogger

from services.sender.dkim.sign import Key, Signer
from shared.runtime.clock import Clock
from shared.runtime.settings import DkimKey, Settings

_LOOK_NS: Final = 5_000_000_000
#: RFC 8301 3.2: signers MUST use at least 1024 bits.
_LEAST_BITS: Final = 1024


class KeyTrouble(Exception):
    """A key is configured and cannot be used; the message names its file."""


@dataclass(slots=True)
class _Kept:
    key: Key
    changed_ns: int


@dataclass(slots=True)
class KeyRing:
    """Find the signers of a message."""

    settings: Settings
    clock: Clock
    log: FilteringBoundLogger
    _keys: dict[Path, _Kept] = field(default_factory=dict)
    _found: dict[tuple[str, str], tuple[Signer, ...]] = field(default_factory=dict)
    _looked_ns: int = 0

    def signers(self, tenant: str, domain: str) -> tuple[Signer, ...]:
        """Give the signers for a From domain, those of the nearest domain above it; RSA first. Raises KeyTrouble."""
        now = self.clock.mono_ns()
        if now - self._looked_ns > _LOOK_NS:
            self._looked_ns = now
            self._found.clear()
        found = self._found.get((tenant, domain))
        if found is None:
            made = [
                Signer(row.domain, row.selector, self._key(row.key_file))
                for row in self._rows(tenant, domain)
            ]
            # RSA first: some verifiers look at the first signature only.
            found = tuple(
                sorted(made, key=lambda signer: isinstance(signer.key, Ed25519PrivateKey))
            )
            self._found[tenant, domain] = found
        return found

    def _rows(self, tenant: str, domain: str) -> list[DkimKey]:
        rows = [
            row
            for row in self.settings.tenants[tenant].dkim
            if domain == row.domain or domain.endswith("." + row.domain)
        ]
        nearest = max((len(row.domain) for row in rows), default=0)
        return [row for row in rows if len(row.domain) == nearest]

    def _key(self, path: Path) -> Key:
        kept = self._keys.get(path)
        try:
            changed = path.stat().st_mtime_ns
            if kept is not None and kept.changed_ns == changed:
                return kept.key
            kept = self._keys[path] = _Kept(read_key(path), changed)
        except (OSError, KeyTrouble) as error:
            if kept is None:
                raise KeyTrouble(f"{path}: {error}") from error
            self.log.error("dkim_key_unreadable", file=str(path), reason=str(error))
        return kept.key


def read_key(path: Path) -> Key:
    """Read a private key in PEM; raises KeyTrouble."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise KeyTrouble(error.strerror or str(error)) from error
    except (ValueError, TypeError) as error:
        raise KeyTrouble(f"no private key in PEM: {error}") from error
    if isinstance(key, RSAPrivateKey) and key.key_size >= _LEAST_BITS:
        return key
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise KeyTrouble("expected an RSA key of at least 1024 bits, or an Ed25519 key")
