"""Opens the files that the configuration only names: DKIM keys, passwords, certificates. For `postyard config check`.

A service reads its own when it needs them, so a scheduler runs where no key is.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates

from shared.runtime.files import shown
from shared.runtime.settings import Settings

#: RFC 8301 3.2: signers MUST use at least 1024 bits, and SHOULD 2048.
_LEAST_BITS: Final = 1024

#: The setting's path, the file, and what says why its content cannot be used.
Check = tuple[str, Path, Callable[[bytes], str | None]]


def unusable(settings: Settings) -> list[str]:
    """Say which key or password cannot be used, with the setting's path and the file's."""
    checks: list[Check] = [
        (f"tenants.{shown(tenant.name)}.dkim[{number}].key_file", key.key_file, wrong_key)
        for tenant in settings.tenants.values()
        for number, key in enumerate(tenant.dkim)
    ]
    checks += [
        (f"sources.{shown(source.name)}.password_file", source.password_file, wrong_password)
        for source in settings.sources.values()
        if source.password_file is not None
    ]
    kafka = settings.kafka
    if kafka.sasl is not None:
        checks.append(("kafka.sasl.password_file", kafka.sasl.password_file, wrong_password))
    if kafka.tls is not None:
        checks += [
            (f"kafka.tls.{name}", file, wrong)
            for name, file, wrong in (
                ("ca_file", kafka.tls.ca_file, wrong_certificate),
                ("cert_file", kafka.tls.cert_file, wrong_certificate),
                ("key_file", kafka.tls.key_file, wrong_client_key),
            )
            if file is not None
        ]
    found = []
    for path, file, wrong in checks:
        try:
            why = wrong(file.read_bytes())
        except OSError as error:
            why = error.strerror or str(error)
        if why is not None:
            found.append(f"{path}: {file}: {why}")
    return found


def wrong_key(pem: bytes) -> str | None:
    """Say why this is no key to sign with; None: it is one."""
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "expected an unencrypted private key in PEM"
    if isinstance(key, Ed25519PrivateKey):
        return None
    if isinstance(key, RSAPrivateKey):
        if key.key_size >= _LEAST_BITS:
            return None
        return f"expected an RSA key of at least {_LEAST_BITS} bits, got {key.key_size}"
    return f"expected an RSA or an Ed25519 key, got {type(key).__name__}"


def wrong_certificate(pem: bytes) -> str | None:
    """Say why these are no certificates; None: they are."""
    try:
        load_pem_x509_certificates(pem)
    except ValueError:
        return "expected certificates in PEM"
    return None


def wrong_client_key(pem: bytes) -> str | None:
    """Say why nobody can show a certificate with this key; None: they can."""
    try:
        load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "expected an unencrypted private key in PEM"
    return None


def wrong_password(content: bytes) -> str | None:
    """Say why this is no password; None: it is one."""
    try:
        secret = content.decode().strip()
    except UnicodeDecodeError:
        return "expected text"
    if not secret:
        return "expected a password, and there is nothing in it"
    return None if secret.isprintable() else "expected a password in one line"
