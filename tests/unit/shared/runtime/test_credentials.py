from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from shared.runtime.credentials import unusable, wrong_key, wrong_password
from shared.runtime.settings import DkimKey, Settings, Source, Tenant

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def pem(key: Private, encryption: KeySerializationEncryption | None = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def test_rsa_and_ed25519_keys_can_sign() -> None:
    assert wrong_key(pem(rsa.generate_private_key(65537, 2048))) is None
    assert wrong_key(pem(ed25519.Ed25519PrivateKey.generate())) is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "expected an unencrypted private key in PEM"),
        (
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "expected an unencrypted",
        ),
        (pem(ec.generate_private_key(ec.SECP256R1())), "expected an RSA or an Ed25519 key"),
        (
            pem(ed25519.Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret")),
            "expected an unencrypted",
        ),
    ],
)
def test_what_cannot_sign_is_said_to_be_so(content: bytes, why: str) -> None:
    found = wrong_key(content)
    assert found is not None
    assert found.startswith(why)


@pytest.mark.parametrize(
    ("content", "good"),
    [
        (b"s3cret\n", True),
        ("p\u00e4ss".encode(), True),
        (b"\n", False),
        (b"a\nb", False),
        (b"\xff", False),
    ],
)
def test_a_password_is_one_line_of_text(content: bytes, good: bool) -> None:
    assert (wrong_password(content) is None) == good


def test_each_unusable_file_comes_with_its_setting_and_its_path(tmp_path: Path) -> None:
    good = tmp_path / "good.pem"
    good.write_bytes(pem(ed25519.Ed25519PrivateKey.generate()))
    password = tmp_path / "password"
    password.write_bytes(b"")
    keys = tuple(DkimKey("a.example", "s", file) for file in (good, tmp_path / "gone.pem"))
    relay = Source("relay", 1, "smarthost", "none", username="u", password_file=password)
    settings = Settings(
        tenants={"acme": Tenant("acme", ("a.example",), {}, keys)}, sources={"relay": relay}
    )
    assert unusable(settings) == [
        f"tenants.acme.dkim[1].key_file: {tmp_path / 'gone.pem'}: No such file or directory",
        f"sources.relay.password_file: {password}: expected a password, and there is nothing in it",
    ]
