"""Private keys as they lie in files: read once, looked at every few seconds, read again when they have changed.

Files are read and keys are tried in threads; whoever asks meanwhile waits for the same look. A file that turns to rubbish is bridged with
the key that was read before, for a minute, so that replacing it needs no care; then it is trouble, as it is at once where there was none.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from structlog.typing import FilteringBoundLogger

from services.sender.dkim.sign import Key
from shared.runtime.clock import Clock

_S: Final = 1_000_000_000
_LOOK_NS: Final = 5 * _S
_BRIDGE_NS: Final = 60 * _S
#: RFC 8301 3.2: signers MUST use at least 1024 bits.
_LEAST_BITS: Final = 1024


class KeyTrouble(Exception):
    """A key is configured and cannot be used; the message names its file."""


class _Version(NamedTuple):
    """What tells one content of a file from another: a renamed file may be older than the one that it replaces."""

    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int


class _Read(NamedTuple):
    version: _Version | None
    found: Key | KeyTrouble


@dataclass(slots=True)
class _File:
    #: Of the key; None: there is none, or it is another one's.
    version: _Version | None = None
    key: Key | None = None
    #: Why the last look gave no key, and since when that is so.
    trouble: str = ""
    since_ns: int = 0
    looked_ns: int | None = None
    looking: asyncio.Task[None] | None = None


@dataclass(slots=True)
class KeyFiles:
    """Give keys by path."""

    clock: Clock
    log: FilteringBoundLogger
    _files: dict[Path, _File] = field(default_factory=dict)

    async def key(self, path: Path) -> Key:
        """Give the key in a file as it was some seconds ago at the most; raises KeyTrouble."""
        while (key := self.known(path)) is None:
            await self.look(path)
        return key

    def known(self, path: Path) -> Key | None:
        """Give the key as ``key`` does, if the file need not be looked at for it; raises KeyTrouble."""
        file = self._files.get(path)
        if (
            file is None
            or file.looked_ns is None
            or self.clock.mono_ns() - file.looked_ns > _LOOK_NS
        ):
            return None
        if file.key is None:
            raise KeyTrouble(f"{path}: {file.trouble}")
        return file.key

    async def look(self, path: Path) -> None:
        """Look at a file; whoever asks meanwhile waits for the same look."""
        file = self._files.setdefault(path, _File())
        if file.looking is None:
            file.looking = asyncio.create_task(self._look(path, file))
        # Whoever gives up must not take the look away from the others.
        await asyncio.shield(file.looking)

    async def _look(self, path: Path, file: _File) -> None:
        try:
            read = await asyncio.to_thread(_read, path, file.version)
            file.looked_ns = self.clock.mono_ns()
            if read is not None:
                self._take(path, file, read)
        finally:
            file.looking = None

    def _take(self, path: Path, file: _File, read: _Read) -> None:
        if isinstance(read.found, KeyTrouble):
            self._complain(path, file, str(read.found))
            return
        if file.key is not None or file.trouble:
            self.log.info("dkim_key_read_again", file=str(path))
        file.version, file.key, file.trouble = read.version, read.found, ""

    def _complain(self, path: Path, file: _File, trouble: str) -> None:
        now = self.clock.mono_ns()
        if not file.trouble:
            file.since_ns = now
        over = file.key is not None and now - file.since_ns > _BRIDGE_NS
        if over:
            file.key = None
        if over or trouble != file.trouble:
            kept = file.key is not None
            self.log.error("dkim_key_unusable", file=str(path), reason=trouble, kept=kept)
        file.version, file.trouble = None, trouble


def _read(path: Path, known: _Version | None) -> _Read | None:
    """Read a file; None: it is still the one that is known. Runs in a thread."""
    version = _version(path)
    if version is not None and version == known:
        return None
    try:
        return _Read(version, read_key(path))
    except KeyTrouble as error:
        return _Read(version, error)


def _version(path: Path) -> _Version | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _Version(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_key(path: Path) -> Key:
    """Read a private key in PEM, and try it; raises KeyTrouble."""
    try:
        # Checking that the primes are prime takes 45 ms, with the GIL, for each key; `postyard config check` does it.
        key = load_pem_private_key(path.read_bytes(), None, unsafe_skip_rsa_key_validation=True)
    except OSError as error:
        raise KeyTrouble(error.strerror or str(error)) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # TypeError: it is encrypted, and there is no password.
        raise KeyTrouble(f"no private key in PEM: {error}") from error
    if isinstance(key, Ed25519PrivateKey):
        return key
    if isinstance(key, RSAPrivateKey) and key.key_size >= _LEAST_BITS:
        _try(key)
        return key
    raise KeyTrouble("expected an RSA key of at least 1024 bits, or an Ed25519 key")


def _try(key: RSAPrivateKey) -> None:
    """Refuse a key whose private part does not fit its public one: nobody could verify what it signs."""
    try:
        signature = key.sign(b"", PKCS1v15(), hashes.SHA256())
        key.public_key().verify(signature, b"", PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError) as error:
        raise KeyTrouble("the parts of this RSA key do not fit together") from error
