import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from structlog.testing import LogCapture

from services.sender.dkim.keys import KeyRing, KeyTrouble, read_key
from shared.runtime.settings import DkimKey, Settings, Tenant

_S = 1_000_000_000


@dataclass
class _Clock:
    mono: int = 10 * _S

    def now_ns(self) -> int:
        return self.mono

    def mono_ns(self) -> int:
        return self.mono

    async def sleep(self, seconds: float) -> None:
        self.mono += int(seconds * _S)


@dataclass
class _Ring:
    ring: KeyRing
    clock: _Clock
    log: LogCapture
    directory: Path
    _moment_ns: int = field(default=1_700_000_000 * _S)

    def put(self, name: str, content: bytes) -> None:
        """Write a file as an editor does, at a later moment than the one before."""
        self._moment_ns += _S
        path = self.directory / name
        path.write_bytes(content)
        os.utime(path, ns=(self._moment_ns, self._moment_ns))

    def later(self) -> None:
        self.clock.mono += 6 * _S

    def events(self) -> list[str]:
        return [str(entry["event"]) for entry in self.log.entries]


def _pem(
    key: RSAPrivateKey | Ed25519PrivateKey | ec.EllipticCurvePrivateKey,
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., _Ring]:
    def made(*rows: tuple[str, str, str]) -> _Ring:
        keys = tuple(DkimKey(domain, selector, tmp_path / name) for domain, selector, name in rows)
        tenant = Tenant("acme", ("acme.example",), {"bulk": "p"}, dkim=keys)
        log, clock = LogCapture(), _Clock()
        logger = structlog.wrap_logger(structlog.PrintLogger(), processors=[log])
        return _Ring(
            KeyRing(Settings(tenants={"acme": tenant}), clock, logger), clock, log, tmp_path
        )

    return made


def test_a_key_signs_for_its_domain_and_those_below_it(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey
) -> None:
    ours = make(("acme.example", "s", "key"))
    ours.put("key", _pem(rsa_key))
    assert [s.domain for s in ours.ring.signers("acme", "acme.example")] == ["acme.example"]
    assert [s.domain for s in ours.ring.signers("acme", "news.acme.example")] == ["acme.example"]
    assert ours.ring.signers("acme", "notacme.example") == ()
    assert ours.ring.signers("acme", "example") == ()


def test_the_nearest_domain_signs_and_rsa_comes_first(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey, ed25519_key: Ed25519PrivateKey
) -> None:
    ours = make(
        ("acme.example", "s", "rsa"),
        ("news.acme.example", "e", "ed"),
        ("news.acme.example", "r", "rsa"),
    )
    ours.put("rsa", _pem(rsa_key))
    ours.put("ed", _pem(ed25519_key))
    found = ours.ring.signers("acme", "a.news.acme.example")
    assert [(s.domain, s.selector) for s in found] == [
        ("news.acme.example", "r"),
        ("news.acme.example", "e"),
    ]


def test_a_key_object_is_kept_and_not_parsed_again(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey
) -> None:
    ours = make(("acme.example", "s", "key"))
    ours.put("key", _pem(rsa_key))
    first = ours.ring.signers("acme", "acme.example")
    assert ours.ring.signers("acme", "acme.example") is first
    ours.later()
    assert ours.ring.signers("acme", "acme.example")[0].key is first[0].key


def test_a_changed_file_is_read_again_after_a_few_seconds(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey
) -> None:
    ours = make(("acme.example", "s", "key"))
    ours.put("key", _pem(rsa_key))
    first = ours.ring.signers("acme", "acme.example")[0].key
    other = rsa.generate_private_key(65537, 3072)
    ours.put("key", _pem(other))
    assert ours.ring.signers("acme", "acme.example")[0].key is first
    ours.later()
    key = ours.ring.signers("acme", "acme.example")[0].key
    assert isinstance(key, RSAPrivateKey)
    assert key.key_size == 3072
    assert ours.events() == ["dkim_key_read_again"]


def test_a_file_that_turns_to_rubbish_keeps_the_good_key_and_says_so_once(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey
) -> None:
    ours = make(("acme.example", "s", "key"))
    ours.put("key", _pem(rsa_key))
    first = ours.ring.signers("acme", "acme.example")[0].key
    ours.put("key", b"rubbish")
    for _ in range(3):
        ours.later()
        assert ours.ring.signers("acme", "acme.example")[0].key is first
    assert ours.events() == ["dkim_key_unusable"]
    (ours.directory / "key").unlink()
    ours.later()
    assert ours.ring.signers("acme", "acme.example")[0].key is first


def test_a_missing_key_is_trouble_until_it_is_there(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey
) -> None:
    ours = make(("acme.example", "s", "key"))
    for _ in range(2):
        with pytest.raises(KeyTrouble, match="key: No such file"):
            ours.ring.signers("acme", "acme.example")
    ours.put("key", _pem(rsa_key))
    assert ours.ring.signers("acme", "acme.example")
    assert ours.events() == ["dkim_key_unusable", "dkim_key_read_again"]


def test_one_broken_key_of_two_is_trouble_and_not_one_signature_less(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey
) -> None:
    ours = make(("acme.example", "r", "rsa"), ("acme.example", "e", "ed"))
    ours.put("rsa", _pem(rsa_key))
    ours.put("ed", b"")
    with pytest.raises(KeyTrouble, match="ed: no private key in PEM"):
        ours.ring.signers("acme", "acme.example")


def test_a_tenant_that_is_gone_is_trouble(make: Callable[..., _Ring]) -> None:
    with pytest.raises(KeyTrouble, match="tenant other is not configured"):
        make().ring.signers("other", "acme.example")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no private key in PEM"),
        (
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "no private key in PEM",
        ),
        (_pem(ec.generate_private_key(ec.SECP256R1())), "expected an RSA key"),
        (
            _pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret")),
            "no private key in PEM",
        ),
    ],
    ids=["empty", "rubbish", "another kind", "encrypted"],
)
def test_what_is_no_usable_key_says_why(content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(KeyTrouble, match=why):
        read_key(tmp_path / "key")
