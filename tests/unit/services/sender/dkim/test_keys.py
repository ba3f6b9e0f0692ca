import asyncio
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

from services.sender.dkim.keyfiles import KeyFiles, KeyTrouble, read_key
from services.sender.dkim.keys import KeyRing
from shared.runtime.settings import RELAXED, DkimKey, Settings, Tenant

_S = 1_000_000_000


@dataclass
class _Clock:
    mono: int = 10 * _S
    #: What the wall says more.
    wall: int = 1_800_000_000 * _S

    def now_ns(self) -> int:
        return self.wall + self.mono

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

    def later(self, seconds: int = 6) -> None:
        self.clock.mono += seconds * _S

    async def selectors(self) -> list[str]:
        return [found.selector for found in await self.ring.signers("acme", "acme.example")]

    def said(self, event: str) -> list[bool]:
        """Whether the old key was kept, each time that this was said."""
        return [entry["kept"] for entry in self.log.entries if entry["event"] == event]

    def events(self) -> list[str]:
        return [str(entry["event"]) for entry in self.log.entries]


def _pem(
    key: RSAPrivateKey | Ed25519PrivateKey | ec.EllipticCurvePrivateKey,
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., _Ring]:
    def made(*rows: tuple[str, str, str] | tuple[str, str, str, int, int | None]) -> _Ring:
        keys = tuple(DkimKey(row[0], row[1], tmp_path / row[2], RELAXED, *row[3:]) for row in rows)
        tenant = Tenant("acme", ("acme.example",), {"bulk": "p"}, dkim=keys)
        log, clock = LogCapture(), _Clock()
        logger = structlog.wrap_logger(structlog.PrintLogger(), processors=[log])
        return _Ring(
            KeyRing(Settings(tenants={"acme": tenant}), clock, KeyFiles(clock, logger)),
            clock,
            log,
            tmp_path,
        )

    return made


async def test_a_key_signs_for_its_domain_and_those_below_it(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey
) -> None:
    ours = make(("acme.example", "s", "key"))
    ours.put("key", _pem(rsa_key))
    assert [s.domain for s in await ours.ring.signers("acme", "acme.example")] == ["acme.example"]
    assert [s.domain for s in await ours.ring.signers("acme", "news.acme.example")] == [
        "acme.example"
    ]
    assert await ours.ring.signers("acme", "notacme.example") == ()
    assert await ours.ring.signers("acme", "example") == ()


async def test_the_nearest_domain_signs_and_rsa_comes_first(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey, ed25519_key: Ed25519PrivateKey
) -> None:
    ours = make(
        ("acme.example", "s", "rsa"),
        ("news.acme.example", "e", "ed"),
        ("news.acme.example", "r", "rsa"),
    )
    ours.put("rsa", _pem(rsa_key))
    ours.put("ed", _pem(ed25519_key))
    found = await ours.ring.signers("acme", "a.news.acme.example")
    assert [(s.domain, s.selector) for s in found] == [
        ("news.acme.example", "r"),
        ("news.acme.example", "e"),
    ]


async def test_a_key_object_is_kept_and_not_parsed_again(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey
) -> None:
    ours = make(("acme.example", "s", "key"))
    ours.put("key", _pem(rsa_key))
    first = await ours.ring.signers("acme", "acme.example")
    again = await ours.ring.signers("acme", "acme.example")
    assert again[0] is first[0]
    ours.later()
    assert (await ours.ring.signers("acme", "acme.example"))[0].key is first[0].key


async def test_a_changed_file_is_read_again_after_a_few_seconds(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey
) -> None:
    ours = make(("acme.example", "s", "key"))
    ours.put("key", _pem(rsa_key))
    first = (await ours.ring.signers("acme", "acme.example"))[0].key
    other = rsa.generate_private_key(65537, 3072)
    ours.put("key", _pem(other))
    assert (await ours.ring.signers("acme", "acme.example"))[0].key is first
    ours.later()
    key = (await ours.ring.signers("acme", "acme.example"))[0].key
    assert isinstance(key, RSAPrivateKey)
    assert key.key_size == 3072
    assert ours.events() == ["dkim_key_read_again"]


async def test_a_file_that_turns_to_rubbish_is_bridged_for_a_minute_and_then_refused(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey
) -> None:
    ours = make(("acme.example", "s", "key"))
    ours.put("key", _pem(rsa_key))
    first = (await ours.ring.signers("acme", "acme.example"))[0].key
    ours.put("key", b"rubbish")
    for _ in range(3):
        ours.later()
        assert (await ours.ring.signers("acme", "acme.example"))[0].key is first
    assert ours.said("dkim_key_unusable") == [True]
    ours.later(61)
    for _ in range(3):
        with pytest.raises(KeyTrouble, match="key: no private key in PEM"):
            await ours.ring.signers("acme", "acme.example")
        ours.later()
    assert ours.said("dkim_key_unusable") == [True, False]
    ours.put("key", _pem(rsa_key))
    assert await ours.selectors() == ["s"]
    assert ours.events()[-1] == "dkim_key_read_again"


async def test_a_file_that_goes_is_bridged_and_refused_as_well(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey
) -> None:
    ours = make(("acme.example", "s", "key"))
    ours.put("key", _pem(rsa_key))
    await ours.selectors()
    (ours.directory / "key").unlink()
    ours.later()
    assert await ours.selectors() == ["s"]
    ours.later(61)
    with pytest.raises(KeyTrouble, match="key: No such file"):
        await ours.selectors()
    assert ours.said("dkim_key_unusable") == [True, False]


async def test_a_bridge_ends_when_the_file_is_good_again(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey
) -> None:
    ours = make(("acme.example", "s", "key"))
    for content in (_pem(rsa_key), b"", _pem(rsa_key), b""):
        ours.put("key", content)
        ours.later(40)
        assert await ours.selectors() == ["s"]
    assert ours.said("dkim_key_unusable") == [True, True]


async def test_a_missing_key_is_trouble_until_it_is_there(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey
) -> None:
    ours = make(("acme.example", "s", "key"))
    for _ in range(2):
        with pytest.raises(KeyTrouble, match="key: No such file"):
            await ours.ring.signers("acme", "acme.example")
    ours.put("key", _pem(rsa_key))
    ours.later()
    assert await ours.ring.signers("acme", "acme.example")
    assert ours.events() == ["dkim_key_unusable", "dkim_key_read_again"]


async def test_whoever_asks_during_a_look_waits_for_it_and_may_give_up(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey
) -> None:
    ours = make(("acme.example", "s", "key"))
    ours.put("key", _pem(rsa_key))
    asked = [asyncio.create_task(ours.selectors()) for _ in range(20)]
    await asyncio.sleep(0)
    asked[0].cancel()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [["s"]] * 19
    assert ours.events() == []


async def test_one_broken_key_of_two_is_trouble_and_not_one_signature_less(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey
) -> None:
    ours = make(("acme.example", "r", "rsa"), ("acme.example", "e", "ed"))
    ours.put("rsa", _pem(rsa_key))
    ours.put("ed", b"")
    with pytest.raises(KeyTrouble, match="ed: no private key in PEM"):
        await ours.ring.signers("acme", "acme.example")


async def test_a_tenant_that_is_gone_is_trouble(make: Callable[..., _Ring]) -> None:
    with pytest.raises(KeyTrouble, match="tenant other is not configured"):
        await make().ring.signers("other", "acme.example")


# -- rotation

_FIRST = 1_800_000_100 * _S
_SECOND = 1_800_000_200 * _S


async def test_the_newest_selector_signs_from_its_time_on(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey
) -> None:
    ours = make(
        ("acme.example", "old", "rsa"),
        ("acme.example", "newest", "rsa", _SECOND, None),
        ("acme.example", "new", "rsa", _FIRST, None),
    )
    ours.put("rsa", _pem(rsa_key))
    for moment, selector in (
        (_FIRST - 1, "old"), (_FIRST, "new"), (_SECOND - 1, "new"), (_SECOND, "newest"),
    ):  # fmt: skip
        ours.clock.wall = moment - ours.clock.mono
        assert await ours.selectors() == [selector]


async def test_a_key_whose_time_is_over_leaves_the_signing_to_an_older_one_or_to_none(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey
) -> None:
    ours = make(
        ("acme.example", "old", "rsa", 0, _SECOND),
        ("acme.example", "trial", "rsa", _FIRST - 10, _FIRST),
    )
    ours.put("rsa", _pem(rsa_key))
    for moment, selectors in ((_FIRST - 1, ["trial"]), (_FIRST, ["old"]), (_SECOND, [])):
        ours.clock.wall = moment - ours.clock.mono
        assert await ours.selectors() == selectors


async def test_the_two_kinds_of_keys_rotate_each_by_itself(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey, ed25519_key: Ed25519PrivateKey
) -> None:
    ours = make(
        ("acme.example", "e1", "ed"),
        ("acme.example", "r1", "rsa"),
        ("acme.example", "r2", "rsa", _FIRST, None),
        ("acme.example", "e2", "ed", _SECOND, None),
    )
    ours.put("rsa", _pem(rsa_key))
    ours.put("ed", _pem(ed25519_key))
    for moment, selectors in (
        (_FIRST - 1, ["r1", "e1"]), (_FIRST, ["r2", "e1"]), (_SECOND, ["r2", "e2"]),
    ):  # fmt: skip
        ours.clock.wall = moment - ours.clock.mono
        assert await ours.selectors() == selectors


async def test_keys_of_one_age_sign_all(make: Callable[..., _Ring], rsa_key: RSAPrivateKey) -> None:
    ours = make(("acme.example", "a", "rsa"), ("acme.example", "b", "rsa"))
    ours.put("rsa", _pem(rsa_key))
    assert await ours.selectors() == ["a", "b"]


async def test_a_new_key_that_is_broken_is_trouble_and_never_a_signature_with_the_old_one(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey
) -> None:
    ours = make(("acme.example", "old", "rsa"), ("acme.example", "new", "gone", _FIRST, None))
    ours.put("rsa", _pem(rsa_key))
    ours.clock.wall = _FIRST - ours.clock.mono - 1
    assert await ours.selectors() == ["old"]
    assert ours.events() == []
    ours.clock.wall += 1
    with pytest.raises(KeyTrouble, match="gone: No such file"):
        await ours.selectors()


async def test_the_file_of_a_key_that_is_replaced_in_both_kinds_may_go(
    make: Callable[..., _Ring], rsa_key: RSAPrivateKey, ed25519_key: Ed25519PrivateKey
) -> None:
    ours = make(
        ("acme.example", "old", "gone"),
        ("acme.example", "r", "rsa", 1, None),
        ("acme.example", "e", "ed", 2, None),
    )
    ours.put("rsa", _pem(rsa_key))
    ours.put("ed", _pem(ed25519_key))
    assert await ours.selectors() == ["r", "e"]


# -- files


def test_a_key_whose_parts_do_not_fit_together_is_none(
    rsa_key: RSAPrivateKey, tmp_path: Path
) -> None:
    mine = rsa_key.private_numbers()
    other = rsa.generate_private_key(65537, 2048).private_numbers()
    mixed = rsa.RSAPrivateNumbers(
        mine.p, mine.q, other.d, other.dmp1, other.dmq1, mine.iqmp, mine.public_numbers
    ).private_key(unsafe_skip_rsa_key_validation=True)
    (tmp_path / "key").write_bytes(_pem(mixed))
    with pytest.raises(KeyTrouble, match="do not fit together"):
        read_key(tmp_path / "key")


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
