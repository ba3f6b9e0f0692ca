"""How a connection to Kafka is encrypted, and how the brokers know who we are.

Certificates that are renewed on disk count from the next connection on: whoever renews them does so before the old ones end, and a process
lives longer than that. What cannot be read then leaves the old ones, which a broker refuses when their time is over. A password is read
again at each login by SCRAM; connections that there are stay logged in by the old one. With PLAIN another password takes a restart.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shared.runtime.workings import Kafka, KafkaTls

_PROTOCOLS: Final = {
    (False, False): "PLAINTEXT",
    (True, False): "SSL",
    (False, True): "SASL_PLAINTEXT",
    (True, True): "SASL_SSL",
}


class CredentialsUnusable(Exception):
    """A file that the configuration names for Kafka cannot be used."""


@dataclass(frozen=True, slots=True)
class Security:
    """What every client of a cluster is told."""

    tls: ssl.SSLContext | None = None
    mechanism: str | None = None
    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        """Say how, and never the password."""
        return f"<Security {self.protocol} {self.mechanism or '-'} {self.username or '-'}>"

    @property
    def protocol(self) -> str:
        """Name it as Kafka does."""
        return _PROTOCOLS[self.tls is not None, self.mechanism is not None]

    def arguments(self) -> dict[str, Any]:
        """Give what aiokafka's clients and connections take."""
        found: dict[str, Any] = {"security_protocol": self.protocol}
        if self.tls is not None:
            found["ssl_context"] = self.tls
        if self.mechanism is not None:
            found |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return found


PLAINTEXT: Final = Security()


class _Password(str):
    """Is the password that was read first, and gives the login the one that the file has then.

    aiokafka keeps the string for as long as a client lives, and ``encode``s it once for each login by SCRAM. By PLAIN it is joined to the
    user's name instead, where nothing of ours is asked.
    """

    __slots__ = ("_path",)
    _path: Path

    @classmethod
    def of(cls, path: Path) -> "_Password":
        """Read it; raises CredentialsUnusable."""
        try:
            made = cls(path.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialsUnusable(f"kafka.sasl.password_file: {path}: {_why(error)}") from error
        made._path = path
        return made

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Give what the file has now; what cannot be read, or is empty, leaves the one that was read first."""
        try:
            now = self._path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            now = ""
        return str.encode(now or self, encoding, errors)


def security_of(kafka: Kafka) -> Security:
    """Read the files that the settings name; raises CredentialsUnusable."""
    tls = None if kafka.tls is None else _context(kafka.tls)
    if kafka.sasl is None:
        return Security(tls)
    password = _Password.of(kafka.sasl.password_file)
    return Security(tls, kafka.sasl.mechanism, kafka.sasl.username, password)


def _context(tls: KafkaTls) -> ssl.SSLContext:
    context = _Renewing(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.begin(tls)
    return context


class _Renewing(ssl.SSLContext):
    """Looks, before each handshake, whether the files have changed."""

    _tls: KafkaTls
    _seen: tuple[object, ...]

    def begin(self, tls: KafkaTls) -> None:
        """Read the files; raises CredentialsUnusable."""
        self._tls, self._seen = tls, _marks(tls)
        if tls.ca_file is None:
            self.load_default_certs()
        self._read()

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Begin a handshake, as event loops do."""
        marks = _marks(self._tls)
        if marks != self._seen:
            try:
                self._read()
            except CredentialsUnusable:
                # Half written, perhaps: the next connection looks again.
                pass
            else:
                self._seen = marks
        return super().wrap_bio(*args, **kwargs)

    def _read(self) -> None:
        tls = self._tls
        try:
            if tls.ca_file is not None:
                # The old authorities stay until the process ends: brokers change their certificates one by one.
                self.load_verify_locations(tls.ca_file)
            if tls.cert_file is not None:
                self.load_cert_chain(tls.cert_file, tls.key_file)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(file) for file in _files(tls))
            raise CredentialsUnusable(f"kafka.tls: {files}: {_why(error)}") from error


def _files(tls: KafkaTls) -> list[Path]:
    return [file for file in (tls.ca_file, tls.cert_file, tls.key_file) if file is not None]


def _marks(tls: KafkaTls) -> tuple[object, ...]:
    """Give what changes with the files: a mounted Secret is another inode, an edited file another time."""
    found: list[object] = []
    for file in _files(tls):
        try:
            stat = file.stat()
        except OSError:
            found.append(None)
        else:
            found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
