"""Keys by tenant and From domain, read from their files, read again when a file changes.

Files are looked at every few seconds, not for every message. A key that cannot be read, or is none, is trouble: nothing is sent unsigned
because of it. A file that changes to rubbish keeps the last good key, and says so once.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
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


class _Version(NamedTuple):
    """What tells one content of a file from another: a renamed file may be older than the one that it replaces."""

    inode: int
    size_bytes: int
    changed_ns: int


@dataclass(slots=True)
class _File:
    seen: _Version | None = None
    key: Key | None = None
    #: Why the version that was seen gave no key.
    trouble: str = ""


@dataclass(slots=True)
class KeyRing:
    """Find the signers of a message."""

    settings: Settings
    clock: Clock
    log: FilteringBoundLogger
    _files: dict[Path, _File] = field(default_factory=dict)
    _found: dict[tuple[str, str], tuple[Signer, ...]] = field(default_factory=dict)
    _looked_ns: int = 0

    def signers(self, tenant: str, domain: str) -> tuple[Signer, ...]:
        """Give the signers for a From domain, those of the nearest domain above it; RSA first; none: no key fits. Raises KeyTrouble."""
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
        if tenant not in self.settings.tenants:
            raise KeyTrouble(f"tenant {tenant} is not configured")
        rows = [
            row
            for row in self.settings.tenants[tenant].dkim
            if domain == row.domain or domain.endswith("." + row.domain)
        ]
        nearest = max((len(row.domain) for row in rows), default=0)
        return [row for row in rows if len(row.domain) == nearest]

    def _key(self, path: Path) -> Key:
        file = self._files.setdefault(path, _File())
        version = _version(path)
        if file.key is None or version != file.seen:
            file.seen = version
            self._read(path, file)
        if file.key is None:
            raise KeyTrouble(f"{path}: {file.trouble}")
        return file.key

    def _read(self, path: Path, file: _File) -> None:
        try:
            key = read_key(path)
        except KeyTrouble as error:
            if file.trouble != str(error):
                file.trouble = str(error)
                kept = file.key is not None
                # The reason is all there is to know; a trace would repeat it over a page.
                self.log.error(  # noqa: TRY400
                    "dkim_key_unusable", file=str(path), reason=str(error), kept=kept
                )
            return
        if file.key is not None or file.trouble:
            self.log.info("dkim_key_read_again", file=str(path))
        file.key, file.trouble = key, ""


def _version(path: Path) -> _Version | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _Version(found.st_ino, found.st_size, found.st_mtime_ns)


def read_key(path: Path) -> Key:
    """Read a private key in PEM; raises KeyTrouble."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise KeyTrouble(error.strerror or str(error)) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # TypeError: it is encrypted, and there is no password.
        raise KeyTrouble(f"no private key in PEM: {error}") from error
    if isinstance(key, RSAPrivateKey) and key.key_size >= _LEAST_BITS:
        return key
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise KeyTrouble("expected an RSA key of at least 1024 bits, or an Ed25519 key")
